"""Who gets another try, and when: the sink's judgement of a task that did not end well.

A failure is final when the tries are used up, when the task has taken its executor along too often, or when the
ventilator itself has judged it. All others are retried, after a pause that doubles with each try. Draws no lots: the
jitter comes from the task's number.
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
"""Seconds between two tries at most."""


class RetryPolicy(Struct, frozen=True):
    """How often, and how soon: `retries` after the first try, `delay` seconds before the second."""

    retries: int = 0
    delay: float = 0.0
    crash_limit: int = 3

    def is_final(self, failure: TaskFailure, result: Result) -> bool:
        """Whether this failure is the task's last word."""
        tries = result.attempt + 1
        used_up = tries > self.retries or (failure.kind == "lost" and tries >= self.crash_limit)
        return used_up or result.worker == VENTILATOR

    def backoff_seconds(self, task: int, attempt: int) -> float:
        """Seconds until the try number `tries` (from 0), half of it or more: tasks that failed together part."""
        lot = crc32(b"%d %d" % (task, attempt)) / (1 << 32)
        return float(min(self.delay * 2 ** min(attempt - 1, 30), MAX_BACKOFF_SECONDS) * (0.5 + 0.5 * lot))


class RetryQueue:
    """The tasks that will be run again, as they may be told: they are in the journal."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._due: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._due)

    def next_attempts(self, result: Result) -> list[AttemptRange]:
        """Those of a result's tasks that failed and get another try."""
        if not result.failures:
            return []
        failed = {note.task for note in result.failures}
        final = {note.task for note in result.failures if self._policy.is_final(note, result)}
        return [AttemptRange(task, task + 1, result.attempt + 1) for task in sorted(failed - final)]

    def apply(self, events: Iterable[JournalEvent], now: float) -> None:
        """These are true now."""
        for fact in events:
            if isinstance(fact, TasksSettled):
                self.settle(fact.ranges)
            elif isinstance(fact, AttemptRange):
                self.schedule(fact, now)

    def schedule(self, attempt_range: AttemptRange, now: float) -> None:
        """It is known for good that these will be tried again."""
        for task in range(attempt_range.low, attempt_range.high):
            self._due[task] = attempt_range.attempt, now + self._policy.backoff_seconds(task, attempt_range.attempt)

    def settle(self, ranges: Ranges) -> None:
        """These are settled now."""
        for low, high in ranges if self._due else ():
            for task in [*self._due] if high - low > len(self._due) else range(low, high):
                if low <= task < high:
                    self._due.pop(task, None)

    def retries(self, attempts: AttemptCounts, now: float, max_ranges: int) -> tuple[RetryRange, ...]:
        """The lowest of them, in at most so many runs of neighbours that wait as long."""
        runs: list[RetryRange] = []
        for task in attempts.tasks() if self._due else ():
            if task not in self._due:
                continue
            number, due = self._due[task]
            wait = max(0.0, round(due - now, 3))
            last = runs[-1] if runs else None
            if last and (last.high, last.attempt, last.delay_seconds) == (task, number, wait):
                runs[-1] = RetryRange(last.low, task + 1, number, wait)
            elif len(runs) == max_ranges:
                break
            else:
                runs.append(RetryRange(task, task + 1, number, wait))
        return tuple(runs)
