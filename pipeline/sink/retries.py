"""Retries: which failed tasks get another attempt, and when.

- A failure is final when the retries are used up, when the task has crashed its executor too often, or when the
  ventilator itself reported it.
- Any other task is retried after a backoff that doubles with each attempt. The jitter is computed from the task
  number, so the sink needs no random numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from msgspec import Struct

from pipeline.model.journal_events import JournalEvent, TasksSettled
from pipeline.model.messages import AttemptRange, Ranges, Result, RetryRange, TaskFailure
from pipeline.model.ranges import AttemptCounts
from pipeline.model.state_machine import VENTILATOR

MAX_BACKOFF_SECONDS = 3600.0
"""Seconds between two attempts at most."""


class RetryPolicy(Struct, frozen=True):
    """How often and how soon to retry: `retries` after the first attempt, `delay` seconds before the second."""

    retries: int = 0
    delay: float = 0.0
    crash_limit: int = 3

    def is_final(self, failure: TaskFailure, result: Result) -> bool:
        """Return whether a task that failed so is not retried."""
        attempts = result.attempt + 1
        is_used_up = attempts > self.retries or (failure.kind == "lost" and attempts >= self.crash_limit)
        return is_used_up or result.worker == VENTILATOR

    def backoff_seconds(self, task: int, attempt: int) -> float:
        """Return the delay before this attempt (numbered from 0): half of the backoff or more.

        The jitter spreads tasks that failed together.
        """
        jitter = crc32(b"%d %d" % (task, attempt)) / (1 << 32)
        return float(min(self.delay * 2 ** min(attempt - 1, 30), MAX_BACKOFF_SECONDS) * (0.5 + 0.5 * jitter))


class RetryQueue:
    """Tasks to be retried whose failed attempt the journal has committed. Only these are announced."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._due: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._due)

    def next_attempts(self, result: Result) -> list[AttemptRange]:
        """Return the next attempt of each task of this result that failed and is retried."""
        if not result.failures:
            return []
        failed = {failure.task for failure in result.failures}
        final = {failure.task for failure in result.failures if self._policy.is_final(failure, result)}
        return [AttemptRange(task, task + 1, result.attempt + 1) for task in sorted(failed - final)]

    def apply(self, events: Iterable[JournalEvent], now: float) -> None:
        """Apply committed events."""
        for event in events:
            if isinstance(event, TasksSettled):
                self.settle(event.ranges)
            elif isinstance(event, AttemptRange):
                self.schedule(event, now)

    def schedule(self, attempt_range: AttemptRange, now: float) -> None:
        """Retry these tasks after their backoff."""
        for task in range(attempt_range.low, attempt_range.high):
            self._due[task] = attempt_range.attempt, now + self._policy.backoff_seconds(task, attempt_range.attempt)

    def settle(self, ranges: Ranges) -> None:
        """Remove tasks that are settled."""
        for low, high in ranges if self._due else ():
            for task in [*self._due] if high - low > len(self._due) else range(low, high):
                if low <= task < high:
                    self._due.pop(task, None)

    def retries(self, attempts: AttemptCounts, now: float, max_ranges: int) -> tuple[RetryRange, ...]:
        """Return the lowest tasks, as at most so many ranges of neighbours with the same attempt and delay."""
        ranges: list[RetryRange] = []
        for task in attempts.tasks() if self._due else ():
            if task not in self._due:
                continue
            attempt, due = self._due[task]
            delay = max(0.0, round(due - now, 3))
            last = ranges[-1] if ranges else None
            if last and (last.high, last.attempt, last.delay_seconds) == (task, attempt, delay):
                ranges[-1] = RetryRange(last.low, task + 1, attempt, delay)
            elif len(ranges) == max_ranges:
                break
            else:
                ranges.append(RetryRange(task, task + 1, attempt, delay))
        return tuple(ranges)
