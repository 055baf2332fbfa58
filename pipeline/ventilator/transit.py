"""What is on the way on one lane: sent, and not seen by its worker yet.

A lane that swallows what it is given while its worker's pulses come wants a new connection. The clock of the oldest
starts anew whenever one is seen, so that a slow link is not torn down, and waits twice as long after each repair.
"""

from __future__ import annotations

UNSEEN, SPEED = 3.0, 1e6
"""A chunk is overdue after UNSEEN seconds plus its bytes at SPEED a second."""


class Transit:
    """The unseen chunks of one lane, by sequence."""

    def __init__(self, now: float) -> None:
        self.size = 0
        """Bytes on the way."""
        self._unseen: list[tuple[int, int]] = []
        self._since, self._patience = now, 1.0

    def sent(self, sequence: int, size: int, now: float) -> None:
        """A chunk has gone out."""
        if not self._unseen:
            self._since = now
        self._unseen.append((sequence, size))
        self.size += size

    def seen(self, sequence: int, now: float) -> None:
        """Its worker has seen all up to this one."""
        if self._unseen and sequence >= self._unseen[0][0]:
            self._patience, self._since = 1.0, now
            self._unseen = [unseen for unseen in self._unseen if unseen[0] > sequence]
            self.size = sum(size for _, size in self._unseen)

    def is_overdue(self, heard: float, now: float) -> bool:
        """Whether the oldest should have been seen by now, its worker having been heard since."""
        if not self._unseen:
            return False
        _, size = self._unseen[0]
        return heard > self._since and now - self._since > (UNSEEN + size / SPEED) * self._patience

    def restart(self) -> None:
        """Another connection takes its place; what the old one carried is nobody's."""
        self._unseen.clear()
        self.size = 0
        self._patience *= 2
