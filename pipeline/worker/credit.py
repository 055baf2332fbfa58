"""How much a worker asks for: enough that no slot waits, no more than would hold back others.

Credit is said as the highest lane sequence that may be sent, so a lost or doubled pulse changes nothing. Tasks longer
than LONG are bound late, one to an idle slot; shorter ones are asked ahead, by what covers one way to the desk and
back.
"""

from __future__ import annotations

from math import ceil

LONG = 0.020
"""Seconds a task; longer ones are never asked ahead."""

MOST_AHEAD = 256
"""Chunks asked ahead at most, however short."""

SLOWEST_ROUND_TRIP = 0.020
"""Seconds. A slow input looks like a slow lane, and must not make a worker hoard."""


class Credit:
    """What one worker may be sent, from what it has measured."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.pace = 0.0
        """Seconds a task, a moving mean; 0 until one has finished."""
        self._chunk = 1.0
        self._round_trip = 0.002
        self._asked: tuple[int, float] | None = None

    def finished(self, tasks: int, seconds: float) -> None:
        """`tasks` ended after `seconds` of run time in all."""
        latest = max(seconds, 1e-7) / tasks
        self.pace = latest if not self.pace else self.pace + (latest - self.pace) * min(0.5, tasks * 0.1)

    def came(self, sequence: int, tasks: int, now: float) -> None:
        """A chunk arrived."""
        self._chunk += (tasks - self._chunk) / 4
        if self._asked and sequence >= self._asked[0]:
            measured = min(now - self._asked[1], SLOWEST_ROUND_TRIP)
            self._round_trip += (measured - self._round_trip) / 4
            self._asked = None

    def told(self, allowed: int, now: float) -> None:
        """A pulse left that allows sequences up to `allowed`."""
        if self._asked is None:
            self._asked = (allowed, now)

    def room(self, unfinished: int) -> int:
        """How many more chunks to ask for, with so many tasks unfinished."""
        idle = max(0, self.slots - unfinished)
        if not self.pace or self.pace > LONG:
            return idle
        chunks = ceil(unfinished / max(1.0, self._chunk))
        return max(idle, self.slots + self.ahead() - chunks)

    def ahead(self) -> int:
        """Chunks that cover one round trip."""
        one = max(self.pace * self._chunk / self.slots, 20e-6)
        return min(MOST_AHEAD, 1 + ceil(self._round_trip / one))
