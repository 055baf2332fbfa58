"""What is on the way on one lane: sent, and not seen by its worker yet.

A lane that swallows what it is given while its worker's pulses come wants a new connection. The clock of the oldest
starts anew whenever one is seen, so that a slow link is not torn down, and waits twice as long after each repair.
"""

from __future__ import annotations

STALL_SECONDS, MIN_BYTES_PER_SECOND = 3.0, 1e6
"""A chunk is overdue after UNSEEN seconds plus its bytes at SPEED a second."""


class InFlight:
    """The unseen chunks of one lane, by sequence."""

    def __init__(self, now: float) -> None:
        self.size = 0
        """Bytes on the way."""
        self._unseen_chunks: list[tuple[int, int]] = []
        self._oldest_since, self._timeout_factor = now, 1.0

    def on_sent(self, sequence: int, size: int, now: float) -> None:
        """A chunk has gone out."""
        if not self._unseen_chunks:
            self._oldest_since = now
        self._unseen_chunks.append((sequence, size))
        self.size += size

    def acknowledge(self, sequence: int, now: float) -> None:
        """Its worker has seen all up to this one."""
        if self._unseen_chunks and sequence >= self._unseen_chunks[0][0]:
            self._timeout_factor, self._oldest_since = 1.0, now
            self._unseen_chunks = [unseen for unseen in self._unseen_chunks if unseen[0] > sequence]
            self.size = sum(size for _, size in self._unseen_chunks)

    def is_stalled(self, last_heartbeat_time: float, now: float) -> bool:
        """Whether the oldest should have been seen by now, its worker having been heard since."""
        if not self._unseen_chunks:
            return False
        _, size = self._unseen_chunks[0]
        return (
            last_heartbeat_time > self._oldest_since
            and now - self._oldest_since > (STALL_SECONDS + size / MIN_BYTES_PER_SECOND) * self._timeout_factor
        )

    def reset(self) -> None:
        """Another connection takes its place; what the old one carried is nobody's."""
        self._unseen_chunks.clear()
        self.size = 0
        self._timeout_factor *= 2
