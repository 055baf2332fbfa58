"""The records of every task that is not settled, and of no other.

Records are *fresh* (read, never sent), *out* (in a lane's hands, see lanes.py) or *back* (to be sent again, lowest
number first, once they are due). A body is cut by offset, and copied once, when a chunk is made of it.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct

from pipeline.words.errands import Records
from pipeline.words.parts import Ranges, Recipe, Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.records import count, end_of, split, terminator
from pipeline.words.station import NEVER
from pipeline.words.structs import replace
from pipeline.words.tries import Tries


class Span(Struct, frozen=True, order=True, gc=False):
    """Consecutive records; when out, with the lane and the sequence that carried them last.

    They have failed `tries` times; when back, they are not sent before `due`, and rather not to the worker `avoid`.
    """

    first: int
    count: int
    body: bytes
    lane: int = 0
    sequence: int = 0
    tries: int = 0
    due: float = 0.0
    avoid: str = ""

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
        parts.append(replace(span, first=low, count=high - low, body=span.body[start:end]))
        at, start = high, end
    return parts


class Stock:
    """What can be sent: `back` before fresh."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tries = Tries()
        self.tasks = 0
        self.size = 0
        self._back: list[Span] = []
        self._fresh: deque[Records] = deque()
        self._offset = 0
        """Where in the body of the first of them the records begin that were not taken."""

    def add(self, records: Records) -> None:
        """Newly read records, behind those that were read before."""
        self._fresh.append(records)
        self.tasks += records.count
        self.size += len(records.body)

    def again(self, span: Span, ranges: Iterable[tuple[int, int]]) -> None:
        """These parts of it are to be sent again, each in its own try."""
        for run in (run for low, high in ranges for run in self.tries.runs(low, high)):
            self.put_back(replace(cut(span, [(run.low, run.high)], self.recipe)[0], tries=run.tries))

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

    def retry(self, tried: Tried, due: float) -> list[Span]:
        """Take out what of `back` has failed less often; to be put back with more tries."""

        def stale(span: Span) -> list[tuple[int, int]]:
            low, high = max(span.first, tried.low), min(span.end, tried.high)
            return [(low, high)] if low < high and span.tries < tried.tries else []

        def rest(span: Span) -> list[tuple[int, int]]:
            return RangeSet(stale(span)).outside(span.first, span.end)

        found = [part for span in self._back for part in cut(span, stale(span), self.recipe)]
        if found:
            self._keep(rest)
        return [replace(part, tries=tried.tries, due=due) for part in found]

    def wake(self) -> None:
        """What was put aside for good is due."""
        if any(span.due == NEVER for span in self._back):
            self._back = [replace(span, due=0.0) if span.due == NEVER else span for span in self._back]

    def next_due(self, now: float) -> float:
        """When the next of those that are not due yet will be."""
        return min((span.due for span in self._back if span.due > now), default=NEVER)

    def _keep(self, rest_of: Callable[[Span], list[tuple[int, int]]]) -> None:
        """Of each span that was to be sent again only these parts, all at once."""
        before = self._back
        self._back = [part for span in before for part in cut(span, rest_of(span), self.recipe)]
        self.tasks += sum(span.count for span in self._back) - sum(span.count for span in before)
        self.size += sum(len(span.body) for span in self._back) - sum(len(span.body) for span in before)

    def next_back(self, fits: Callable[[Span], bool]) -> Span | None:
        """The lowest of `back` that fits; it stays there."""
        return next((span for span in self._back if fits(span)), None)

    def take_back(self, span: Span, most: int) -> Span:
        """The first `most` records of this span of `back`."""
        self._back.remove(span)
        self.tasks -= span.count
        self.size -= len(span.body)
        if span.count > most:
            body, rest = split(span.body, most, self.recipe)
            self.put_back(replace(span, first=span.first + most, count=span.count - most, body=rest))
            span = replace(span, count=most, body=body)
        return span

    def take_fresh(self, most: int, size: int) -> Span | None:
        """The next at most `most` of the fresh records, about `size` bytes, at least one; None if there are none."""
        if not self._fresh:
            return None
        records, start = self._fresh.popleft(), self._offset
        number, end = self._measure(records, start, most, size)
        self._offset = 0
        if number < records.count:
            self._fresh.appendleft(Records(records.first + number, records.count - number, records.body))
            self._offset = end
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
