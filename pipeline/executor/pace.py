"""How many tasks make a batch: about ten milliseconds of work, as far as has been measured.

Less would be eaten up by the exchange, more would let one slot end long after the others. It starts with a single
task, trusts a slow measurement at once and a fast one by halves, and never gives one slot more than its share while
little waits. It asks no clock.
"""

from __future__ import annotations

MAX_BATCH_TASKS = 16384
"""Tasks in a batch at most."""
MAX_GROWTH_FACTOR = 4
"""A batch has at most this many times the tasks of the largest before."""
TARGET_BATCH_SECONDS = 0.010
"""Seconds of work in a batch."""
MIN_BATCH_SECONDS = 0.005
"""Seconds of work worth an exchange, however little waits."""


class BatchSizer:
    """What batches have taught so far."""

    def __init__(self) -> None:
        self._seconds_per_task = 0.0
        self._max_tasks = 1

    def add_sample(self, task_count: int, seconds: float) -> None:
        """A batch of so many tasks has run for so long."""
        if task_count:
            each = max(seconds / task_count, 1e-8)
            self._seconds_per_task = max(each, (self._seconds_per_task + each) / 2)
            self._max_tasks = min(MAX_BATCH_TASKS, max(self._max_tasks, MAX_GROWTH_FACTOR * task_count))

    def batch_size(self, waiting_tasks: int, slots: int) -> int:
        """How many of `waiting` tasks one of `slots` slots should get now; at least 1."""
        share, each = -(-waiting_tasks // slots), self._seconds_per_task or TARGET_BATCH_SECONDS
        return max(1, min(self._max_tasks, int(TARGET_BATCH_SECONDS / each), max(share, int(MIN_BATCH_SECONDS / each))))

    @property
    def has_short_tasks(self) -> bool:
        """Whether tasks are known to be so short that a slot should not wait for its next batch."""
        return 0 < self._seconds_per_task < TARGET_BATCH_SECONDS
