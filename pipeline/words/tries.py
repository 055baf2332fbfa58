"""How often tasks have failed: only those that are not settled, and only those that have failed at all.

All others have failed 0 times, so a run where nothing fails costs nothing. Tries are never taken back, only forgotten
when the task is settled. Sink, ventilator and worker each keep their own, from what they were told.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from pipeline.words.parts import AttemptRange


class AttemptCounts:
    """Task numbers to tries, of those that have any."""

    __slots__ = ("_sorted_tasks", "_attempts")

    def __init__(self, attempts: Iterable[AttemptRange] = ()) -> None:
        self._attempts: dict[int, int] = {}
        self._sorted_tasks: list[int] = []
        for each in attempts:
            self.set(each.low, each.high, each.attempt)

    def __len__(self) -> int:
        return len(self._attempts)

    def get(self, task: int) -> int:
        """How often this one has failed."""
        return self._attempts.get(task, 0)

    def set(self, low: int, high: int, attempt: int) -> None:
        """These have failed so often, or more often if that was known already."""
        for task in range(low, high) if attempt else ():
            if task not in self._attempts:
                insort(self._sorted_tasks, task)
            self._attempts[task] = max(attempt, self._attempts.get(task, 0))

    def tasks(self) -> Sequence[int]:
        """Those that have failed, ascending."""
        return self._sorted_tasks

    def split_by_attempt(self, low: int, high: int) -> list[AttemptRange]:
        """From `low` to `high`, cut where the number of tries changes."""
        runs, at = [], low
        for task in self._failed_between(low, high):
            if at < task:
                runs.append(AttemptRange(at, task, 0))
            if runs and runs[-1].high == task and runs[-1].attempt == self._attempts[task]:
                runs[-1] = AttemptRange(runs[-1].low, task + 1, runs[-1].attempt)
            else:
                runs.append(AttemptRange(task, task + 1, self._attempts[task]))
            at = task + 1
        if at < high:
            runs.append(AttemptRange(at, high, 0))
        return runs

    def find_below(self, low: int, high: int, attempt: int) -> list[tuple[int, int]]:
        """Those from `low` to `high` that have failed less often."""
        return [(run.low, run.high) for run in self.split_by_attempt(low, high) if run.attempt < attempt]

    def select_failed(self, ranges: Iterable[tuple[int, int]]) -> tuple[AttemptRange, ...]:
        """Of these tasks, those that have failed."""
        if not self._attempts:
            return ()
        return tuple(run for low, high in ranges for run in self.split_by_attempt(low, high) if run.attempt)

    def forget(self, settled: Iterable[tuple[int, int]]) -> None:
        """These are settled."""
        for low, high in settled if self._sorted_tasks else ():
            start, end = bisect_left(self._sorted_tasks, low), bisect_left(self._sorted_tasks, high)
            for task in self._sorted_tasks[start:end]:
                del self._attempts[task]
            del self._sorted_tasks[start:end]

    def clear(self) -> None:
        """Nothing has failed."""
        self._attempts.clear()
        self._sorted_tasks.clear()

    @property
    def end(self) -> int:
        """All from this number on have not failed."""
        return self._sorted_tasks[-1] + 1 if self._sorted_tasks else 0

    def _failed_between(self, low: int, high: int) -> list[int]:
        """Those from `low` to `high` that have failed, ascending."""
        return self._sorted_tasks[bisect_left(self._sorted_tasks, low) : bisect_left(self._sorted_tasks, high)]
