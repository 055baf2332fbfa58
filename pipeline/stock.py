"""The records of every task that is not settled, and of no other.

Records are *fresh* (read, never sent), *out* (in a lane's hands, see lanes.py) or *back* (to be sent again, lowest
number first). A body is cut by offset, and copied once, when a chunk is made of it.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.errands import Records
from pipeline.messages import Ranges, Recipe
from pipeline.ranges import RangeSet
from pipeline.records import count, end_of, split, terminator


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Consecutive records; when out, with the lane and the sequence that carried them last."""

    first: int
    count: int
    body: bytes
    lane: int = 0
    sequence: int = 0

    @property
    def end(self) -> int:
        """One past the last task."""
        return self.first + self.count


def cut(span: Span, ranges: Ranges | list[tuple[int, int]], recipe: Recipe) -> list[Span]:
    """The parts of `span` that lie in `ranges`, each range being inside it."""
    parts = []
    at, start = span.first, 0
    for low, high in ranges:
        if (low, high) == (span.first, span.end):
            return [span]
        start = end_of(span.body, low - at, recipe, start)
        end = end_of(span.body, high - low, recipe, start)
        parts.append(Span(low, high - low, span.body[start:end], span.lane, span.sequence))
        at, start = high, end
    return parts


class Stock:
    """What can be sent: `back` before fresh."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tasks = 0
        self.size = 0
        self._back: list[Span] = []
        self._fresh: Records | None = None
        self._offset = 0

    @property
    def has_fresh(self) -> bool:
        """Whether something waits that was never sent."""
        return self._fresh is not None

    def add(self, records: Records) -> None:
        """Newly read records; the fresh ones before must have been taken."""
        self._fresh, self._offset = records, 0
        self.tasks += records.count
        self.size += len(records.body)

    def put_back(self, span: Span) -> None:
        """To be sent again."""
        insort(self._back, span)
        self.tasks += span.count
        self.size += len(span.body)

    def settle(self, settled: RangeSet) -> None:
        """Forget what need not be sent again any more."""
        if any(settled.inside(span.first, span.end) for span in self._back):
            self._keep(lambda span: settled.outside(span.first, span.end))

    def adopt(self, claims: RangeSet) -> list[Span]:
        """What of `back` somebody turns out to hold; it is not sent again."""
        adopted = [part for span in self._back for part in cut(span, claims.inside(span.first, span.end), self.recipe)]
        if adopted:
            self._keep(lambda span: claims.outside(span.first, span.end))
        return adopted

    def _keep(self, rest_of: Callable[[Span], list[tuple[int, int]]]) -> None:
        """Of each span that was to be sent again only these parts, all at once."""
        before = self._back
        self._back = [part for span in before for part in cut(span, rest_of(span), self.recipe)]
        self.tasks += sum(span.count for span in self._back) - sum(span.count for span in before)
        self.size += sum(len(span.body) for span in self._back) - sum(len(span.body) for span in before)

    def take(self, most: int, size: int, *, fresh: bool) -> Span | None:
        """The next at most `most` records of about `size` bytes, at least one; None if there is nothing to send."""
        if self._back:
            span = self._back.pop(0)
            self.tasks -= span.count
            self.size -= len(span.body)
            if span.count > most:
                body, rest = split(span.body, most, self.recipe)
                self.put_back(Span(span.first + most, span.count - most, rest))
                span = Span(span.first, most, body)
            return span
        return self._take_fresh(most, size) if fresh and self._fresh else None

    def _take_fresh(self, most: int, size: int) -> Span:
        records, start = self._fresh, self._offset
        assert records is not None
        number, end = self._measure(records, start, most, size)
        if number == records.count:
            self._fresh = None
        else:
            self._fresh, self._offset = Records(records.first + number, records.count - number, records.body), end
        body = records.body if end - start == len(records.body) else records.body[start:end]
        self.tasks -= number
        self.size -= len(body)
        return Span(records.first, number, body)

    def _measure(self, records: Records, start: int, most: int, size: int) -> tuple[int, int]:
        """How many records to take, and where they end."""
        whole = len(records.body)
        if records.count <= most and whole - start <= size:
            return records.count, whole
        if most < records.count:
            end = end_of(records.body, most, self.recipe, start)
            if end - start <= size or most == 1:
                return most, end
        end = records.body.rfind(terminator(self.recipe), start, start + size) + 1
        if not end or self.recipe.block:
            return 1, end_of(records.body, 1, self.recipe, start)
        return count(records.body[start:end], self.recipe), end
