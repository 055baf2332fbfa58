"""A set of task numbers, kept as merged half-open ranges.

Its cost goes with the number of ranges touched, never with the number of tasks, so a ledger of ten million
settled tasks is one range. It holds nothing but numbers and knows nothing of what they mean.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from pipeline.words.parts import Ranges


class RangeSet:
    """Merged half-open ranges, ascending."""

    __slots__ = ("_highs", "_lows", "task_count")

    def __init__(self, ranges: Iterable[tuple[int, int]] = ()) -> None:
        self._lows: list[int] = []
        self._highs: list[int] = []
        self.task_count = 0
        self.update(ranges)

    def add(self, low: int, high: int) -> None:
        """Put `low` to `high` in, merging with what touches it."""
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
        """Take `low` to `high` out; what is not in is no fault."""
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
        """Put all of these in."""
        for low, high in ranges:
            self.add(low, high)

    def difference_update(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Take all of these out."""
        for low, high in ranges:
            self.remove(low, high)

    def intersection(self, low: int, high: int) -> list[tuple[int, int]]:
        """The parts of `low` to `high` that are in."""
        first = bisect_right(self._highs, low)
        last = bisect_left(self._lows, high)
        return [(max(low, self._lows[k]), min(high, self._highs[k])) for k in range(first, last)]

    def gaps(self, low: int, high: int) -> list[tuple[int, int]]:
        """The parts of `low` to `high` that are not in."""
        gaps, at = [], low
        for start, end in self.intersection(low, high):
            if at < start:
                gaps.append((at, start))
            at = end
        if at < high:
            gaps.append((at, high))
        return gaps

    def covers(self, low: int, high: int) -> bool:
        """Whether all of `low` to `high` is in."""
        first = bisect_right(self._highs, low)
        return low >= high or (first < len(self._lows) and self._lows[first] <= low and high <= self._highs[first])

    def low_watermark(self) -> int:
        """All below this number is in."""
        return self._highs[0] if self._lows and self._lows[0] == 0 else 0

    @property
    def end(self) -> int:
        """All from this number on is not in."""
        return self._highs[-1] if self._highs else 0

    def above_low_watermark(self) -> Ranges:
        """The ranges that do not start at 0."""
        skip = 1 if self._lows and self._lows[0] == 0 else 0
        return tuple(zip(self._lows[skip:], self._highs[skip:], strict=True))

    def ranges(self) -> Ranges:
        """All, ascending."""
        return tuple(zip(self._lows, self._highs, strict=True))

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter(self.ranges())

    def __len__(self) -> int:
        """How many ranges, not how many tasks."""
        return len(self._lows)

    def __contains__(self, task: int) -> bool:
        return self.covers(task, task + 1)


def settled_ranges(low_watermark: int, ranges: Ranges) -> RangeSet:
    """What an Ack says is settled."""
    return RangeSet(((0, low_watermark), *ranges))
