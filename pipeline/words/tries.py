"""How often tasks have failed: only those that are not settled, and only those that have failed at all.

All others have failed 0 times, so a run where nothing fails costs nothing. Tries are never taken back, only forgotten
when the task is settled. Sink, ventilator and worker each keep their own, from what they were told.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Sequence

from pipeline.words.parts import Tried


class Tries:
    """Task numbers to tries, of those that have any."""

    __slots__ = ("_order", "_tries")

    def __init__(self, tried: Iterable[Tried] = ()) -> None:
        self._tries: dict[int, int] = {}
        self._order: list[int] = []
        for each in tried:
            self.set(each.low, each.high, each.tries)

    def __len__(self) -> int:
        return len(self._tries)

    def of(self, task: int) -> int:
        """How often this one has failed."""
        return self._tries.get(task, 0)

    def set(self, low: int, high: int, tries: int) -> None:
        """These have failed so often, or more often if that was known already."""
        for task in range(low, high) if tries else ():
            if task not in self._tries:
                insort(self._order, task)
            self._tries[task] = max(tries, self._tries.get(task, 0))

    def tasks(self) -> Sequence[int]:
        """Those that have failed, ascending."""
        return self._order

    def runs(self, low: int, high: int) -> list[Tried]:
        """From `low` to `high`, cut where the number of tries changes."""
        runs, at = [], low
        for task in self._within(low, high):
            if at < task:
                runs.append(Tried(at, task, 0))
            if runs and runs[-1].high == task and runs[-1].tries == self._tries[task]:
                runs[-1] = Tried(runs[-1].low, task + 1, runs[-1].tries)
            else:
                runs.append(Tried(task, task + 1, self._tries[task]))
            at = task + 1
        if at < high:
            runs.append(Tried(at, high, 0))
        return runs

    def fewer(self, low: int, high: int, tries: int) -> list[tuple[int, int]]:
        """Those from `low` to `high` that have failed less often."""
        return [(run.low, run.high) for run in self.runs(low, high) if run.tries < tries]

    def among(self, ranges: Iterable[tuple[int, int]]) -> tuple[Tried, ...]:
        """Of these tasks, those that have failed."""
        if not self._tries:
            return ()
        return tuple(run for low, high in ranges for run in self.runs(low, high) if run.tries)

    def forget(self, settled: Iterable[tuple[int, int]]) -> None:
        """These are settled."""
        for low, high in settled if self._order else ():
            start, end = bisect_left(self._order, low), bisect_left(self._order, high)
            for task in self._order[start:end]:
                del self._tries[task]
            del self._order[start:end]

    def clear(self) -> None:
        """Nothing has failed."""
        self._tries.clear()
        self._order.clear()

    @property
    def end(self) -> int:
        """All from this number on have not failed."""
        return self._order[-1] + 1 if self._order else 0

    def _within(self, low: int, high: int) -> list[int]:
        """Those from `low` to `high` that have failed, ascending."""
        return self._order[bisect_left(self._order, low) : bisect_left(self._order, high)]
