"""How many tasks make a batch: about ten milliseconds of work, as far as has been measured.

Less would be eaten up by the exchange, more would let one slot end long after the others. It starts with a single
task, trusts a slow measurement at once and a fast one by halves, and never gives one slot more than its share while
little waits. It asks no clock.
"""

from __future__ import annotations

MOST = 16384
"""Tasks in a batch at most."""
GROWTH = 4
"""A batch has at most this many times the tasks of the largest before."""
AIM = 0.010
"""Seconds of work in a batch."""
LEAST = 0.005
"""Seconds of work worth an exchange, however little waits."""


class Pace:
    """What batches have taught so far."""

    def __init__(self) -> None:
        self._each = 0.0
        self._most = 1

    def learn(self, tasks: int, seconds: float) -> None:
        """A batch of so many tasks has run for so long."""
        if tasks:
            each = max(seconds / tasks, 1e-8)
            self._each = max(each, (self._each + each) / 2)
            self._most = min(MOST, max(self._most, GROWTH * tasks))

    def size(self, waiting: int, slots: int) -> int:
        """How many of `waiting` tasks one of `slots` slots should get now; at least 1."""
        share, each = -(-waiting // slots), self._each or AIM
        return max(1, min(self._most, int(AIM / each), max(share, int(LEAST / each))))

    @property
    def short(self) -> bool:
        """Whether tasks are known to be so short that a slot should not wait for its next batch."""
        return 0 < self._each < AIM
