"""Sets of task numbers (RangeSet) and their attempt numbers (AttemptCounts).

- Costs grow with the number of ranges touched, never with the number of tasks: ten million settled tasks are one range.
- Only unsettled tasks that have failed have an attempt number above 0, so a run without failures costs nothing.
- An attempt number never falls. It is forgotten when its task is settled.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence

from pipeline.model.messages import AttemptRange, Ranges


class RangeSet:
    """Merged half-open ranges, ascending."""

    __slots__ = ("_highs", "_lows", "task_count")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self.task_count = 0
        self.update(ranges)

    def add(self, low: int, high: int) -> None:
        """Add `low` to `high`, merging with adjacent ranges."""
        if low >= high:
            return
        first = bisect_left(self._highs, low)
        last = bisect_right(self._lows, high)
        if first < last:
            self.task_count -= sum(self._highs[k] - self._lows[k] for k in range(first, last))
            low, high = min(low, self._lows[first]), max(high, self._highs[last - 1])
        self._lows[first:last] = [low]
        self._highs[first:last] = [high]
        self.task_count += high - low

    def remove(self, low: int, high: int) -> None:
        """Remove `low` to `high`, as far as they are members."""
        if low >= high:
            return
        first = bisect_right(self._highs, low)
        last = bisect_left(self._lows, high)
        if first >= last:
            return
        left, right = (self._lows[first], low), (high, self._highs[last - 1])
        rest = [piece for piece in (left, right) if piece[0] < piece[1]]
        self.task_count -= sum(self._highs[k] - self._lows[k] for k in range(first, last))
        self.task_count += sum(piece[1] - piece[0] for piece in rest)
        self._lows[first:last] = [piece[0] for piece in rest]
        self._highs[first:last] = [piece[1] for piece in rest]

    def update(self, ranges: Iterable[tuple[int, int]]) -> None:
        for low, high in ranges:
            self.add(low, high)

    def difference_update(self, ranges: Iterable[tuple[int, int]]) -> None:
        for low, high in ranges:
            self.remove(low, high)

    def intersection(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the parts of `low` to `high` that are members."""
        first = bisect_right(self._highs, low)
        last = bisect_left(self._lows, high)
        return [(max(low, self._lows[k]), min(high, self._highs[k])) for k in range(first, last)]

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """Return the parts of `low` to `high` that are not members."""
        gaps, at = [], low
        for start, end in self.intersection(low, high):
            if at < start:
                gaps.append((at, start))
            at = end
        if at < high:
            gaps.append((at, high))
        return gaps

    def covers(self, low: int, high: int) -> bool:
        """Return whether all of `low` to `high` are members."""
        first = bisect_right(self._highs, low)
        return low >= high or (first < len(self._lows) and self._lows[first] <= low and high <= self._highs[first])

    def low_watermark(self) -> int:
        """Return the number below which all tasks are members."""
        return self._highs[0] if self._lows and self._lows[0] == 0 else 0

    @property
    def end(self) -> int:
        """The number from which on no task is a member."""
        return self._highs[-1] if self._highs else 0

    def above_low_watermark(self) -> Ranges:
        """Return the ranges that do not start at 0."""
        skip = 1 if self._lows and self._lows[0] == 0 else 0
        return tuple(zip(self._lows[skip:], self._highs[skip:], strict=True))

    def ranges(self) -> Ranges:
        return tuple(zip(self._lows, self._highs, strict=True))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.ranges())

    def __len__(self) -> int:
        """Return the number of ranges, not of tasks."""
        return len(self._lows)

    def __contains__(self, task: int) -> bool:
        return self.covers(task, task + 1)


def settled_ranges(low_watermark: int, ranges: Ranges) -> RangeSet:
    """Return the tasks that an Ack reports as settled."""
    return RangeSet(((0, low_watermark), *ranges))


class AttemptCounts:
    """Number of failures of each task that has failed."""

    __slots__ = ("_attempts", "_sorted_tasks")

    def __init__(self, attempts: Iterable[AttemptRange] = ()) -> None:
        self._attempts: dict[int, int] = {}
        self._sorted_tasks: list[int] = []
        for item in attempts:
            self.set(item.low, item.high, item.attempt)

    def __len__(self) -> int:
        return len(self._attempts)

    def get(self, task: int) -> int:
        """Return how often the task has failed."""
        return self._attempts.get(task, 0)

    def set(self, low: int, high: int, attempt: int) -> None:
        """Raise the attempt number of these tasks to `attempt`; never lower it."""
        for task in range(low, high) if attempt else ():
            if task not in self._attempts:
                insort(self._sorted_tasks, task)
            self._attempts[task] = max(attempt, self._attempts.get(task, 0))

    def tasks(self) -> Sequence[int]:
        """Return the tasks that have failed, ascending."""
        return self._sorted_tasks

    def split_by_attempt(self, low: int, high: int) -> list[AttemptRange]:
        """Return `low` to `high` as ranges of one attempt number each."""
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
        """Return the ranges of `low` to `high` that have failed less often than `attempt`."""
        return [(run.low, run.high) for run in self.split_by_attempt(low, high) if run.attempt < attempt]

    def select_failed(self, ranges: Iterable[tuple[int, int]]) -> tuple[AttemptRange, ...]:
        """Return those of these tasks that have failed."""
        if not self._attempts:
            return ()
        return tuple(run for low, high in ranges for run in self.split_by_attempt(low, high) if run.attempt)

    def forget(self, settled: Iterable[tuple[int, int]]) -> None:
        """Remove settled tasks."""
        for low, high in settled if self._sorted_tasks else ():
            start, end = bisect_left(self._sorted_tasks, low), bisect_left(self._sorted_tasks, high)
            for task in self._sorted_tasks[start:end]:
                del self._attempts[task]
            del self._sorted_tasks[start:end]

    def clear(self) -> None:
        self._attempts.clear()
        self._sorted_tasks.clear()

    @property
    def end(self) -> int:
        """The number from which on no task has failed."""
        return self._sorted_tasks[-1] + 1 if self._sorted_tasks else 0

    def _failed_between(self, low: int, high: int) -> list[int]:
        return self._sorted_tasks[bisect_left(self._sorted_tasks, low) : bisect_left(self._sorted_tasks, high)]
