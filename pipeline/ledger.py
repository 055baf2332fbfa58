"""What is settled, what is on its way to be, and whose turn it is.

Each task is accepted once: the first result of it that comes, of whichever worker. It is *pending* until output (or
spill) and journal have answered, then *settled*, for good. Results ahead of their turn are counted, not held, here.
"""

from __future__ import annotations

from array import array
from collections import deque
from dataclasses import dataclass, replace
from itertools import accumulate
from sys import byteorder

from pipeline.errands import Entry
from pipeline.messages import Ranges, Result
from pipeline.ranges import RangeSet


@dataclass(frozen=True, slots=True)
class Restored:
    """What a journal says when a sink comes back: the run so far."""

    run: str = ""
    fingerprint: str = ""
    written: Ranges = ()
    spilled: Ranges = ()
    failed: int = 0
    total: int = -1


def cut_result(result: Result, ranges: list[tuple[int, int]]) -> list[Result]:
    """The parts of a result that lie in `ranges`; stderr goes with the first part, being told only once."""
    if ranges == [(result.first, result.first + result.count)]:
        return [result]
    ends = array("I", result.ends)
    if byteorder == "big":
        ends.byteswap()
    ends = array(
        "I", accumulate(ends, max)
    )  # a worker's word: it may cut its own output wrongly, but not kill the sink
    parts: list[Result] = []
    for low, high in ranges:
        start = ends[low - result.first - 1] if low > result.first else 0
        own = array("I", (end - start for end in ends[low - result.first : high - result.first]))
        if byteorder == "big":
            own.byteswap()
        parts.append(
            replace(
                result,
                first=low,
                count=high - low,
                output=bytes(memoryview(result.output)[start : ends[high - result.first - 1]]),
                ends=own.tobytes(),
                errors=b"" if parts else result.errors,
                notes=tuple(note for note in result.notes if low <= note.task < high),
            )
        )
    return parts


class Ledger:
    """Each task once."""

    def __init__(self, restored: Restored) -> None:
        self.run, self.fingerprint = restored.run, restored.fingerprint
        self.failed, self.total = restored.failed, restored.total
        self.settled = RangeSet((*restored.written, *restored.spilled))
        self.pending = RangeSet()
        self.ahead = RangeSet(restored.spilled)
        """In the spill: their turn has not come."""
        self.turn = RangeSet(restored.written).low_water()
        """The task that is written next, where order is asked for."""
        self._entries: deque[tuple[int, Ranges]] = deque()
        self._number = 0

    def accept(self, result: Result) -> list[Result]:
        """The parts of a result that are new; they are pending now."""
        end = result.first + result.count
        known = RangeSet((*self.settled.inside(result.first, end), *self.pending.inside(result.first, end)))
        new = known.outside(result.first, end)
        self.pending.update(new)
        return cut_result(result, new) if new else []

    def missing(self, ranges: Ranges) -> Ranges:
        """What of these is neither settled nor on its way."""
        missing = RangeSet(ranges)
        for known in (self.settled, self.pending):
            missing.difference_update([part for low, high in missing for part in known.inside(low, high)])
        return missing.ranges()

    def entry(self, ranges: Ranges, failed: int, *, spilled: bool) -> Entry:
        """The next entry for the journal; `failed` of its tasks did not end well."""
        self._number += 1
        self.failed += failed
        self._entries.append((self._number, ranges))
        return Entry(self._number, self.run, self.fingerprint, ranges, spilled, self.failed, self.total)

    def durable(self, number: int) -> bool:
        """The journal has these entries: their tasks are settled. True if that is news."""
        news = False
        while self._entries and self._entries[0][0] <= number:
            _, ranges = self._entries.popleft()
            self.settled.update(ranges)
            self.pending.difference_update(ranges)
            news = True
        return news

    @property
    def is_complete(self) -> bool:
        """All is settled, and journaled, the total included."""
        return self.total >= 0 and not self._entries and self.settled.covers(0, self.total) and not len(self.ahead)
