"""An input that is read again, held against what the journal has on record of it.

What has settled tasks must be as it was. What has none may have changed, and is put on record anew; what was never read
before is put on record, too. It compares each stretch once, in the order of reading, and keeps none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from pipeline.journal.marks import Reading, Stretch, amended, marked, stretches
from pipeline.journal.past import Past
from pipeline.words.errands import Differs
from pipeline.words.facts import Fact, Marked


class Recheck:
    """All readings of one input. `recorded` tells the facts on record from their beginning on."""

    def __init__(self, past: Past, recorded: Callable[[], Iterable[Fact]]) -> None:
        self._past, self._recorded = past, recorded
        self._reading: Reading | None = None
        self.differs: Differs | None = None
        """The first stretch that is not as it was, though it holds settled tasks."""

    def sift(self, fact: Marked) -> list[Marked]:
        """What of these marks is to be put on record."""
        if fact.first >= self._past.marked:
            return [fact]
        if self._reading is None or self._reading.end != fact.first:
            self._reading = Reading(amended(self._stretches(), self._past.amendments))
        news: list[Marked] = []
        for stretch in stretches(fact):
            news += self._compare(stretch)
        return news

    def _compare(self, stretch: Stretch) -> list[Marked]:
        if self._reading is None:  # it went past the end of the record with the stretch before
            return [marked(stretch)]
        changed, behind = self._reading.take(stretch)
        if behind:
            self._reading = None
            if behind.low < self._past.marked:  # it did not begin where one on record does
                behind = Stretch(self._past.marked, behind.high, 0, 0)
            return [marked(behind)]
        if changed is None:
            return []
        if not self._past.settled.inside(changed.low, changed.high):
            return [marked(changed)]
        self.differs = self.differs or Differs(changed.low, changed.high)
        return []

    def _stretches(self) -> Iterator[Stretch]:
        """Those on record without amendments, which come later and begin before the end of what was there."""
        end = 0
        for fact in self._recorded():
            for stretch in stretches(fact) if isinstance(fact, Marked) else ():
                if stretch.low >= end:
                    end = stretch.high
                    yield stretch
