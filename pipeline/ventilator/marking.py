"""What the ventilator tells the sink of its input: marks of all records, said until the sink has them for good.

By its marks a record is known again when the input is read another time. Records are marked as they are read, in
order; a sink that keeps no journal wants no marks, and then none are made.
"""

from __future__ import annotations

from collections import deque

from pipeline.words.errands import Records
from pipeline.words.messages import Ack, Read
from pipeline.words.parts import Recipe
from pipeline.words.records import marks
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace

AT_ONCE = 64
"""Reads that are repeated at a time."""


class Marking:
    """The marks that this life of the ventilator, the `reader`, has not been answered for."""

    def __init__(self, reader: str, recipe: Recipe) -> None:
        self._reader, self._recipe = reader, recipe
        self._reads: deque[Read] = deque()
        self._last: Read | None = None
        """The last that was answered: for a sink that comes back, and has not heard of this reader."""
        self.wanted, self._known, self._epoch = False, False, ""

    def add(self, records: Records, run: str) -> list[Send]:
        """These were read."""
        if not self.wanted:
            return []
        marked = marks(records.body, records.count, self._recipe)
        self._reads.append(Read(run, self._reader, 0, records.first, records.count, marked))
        return self._said([self._reads[-1]], run)

    def answered(self, ack: Ack) -> list[Send]:
        """The sink has said what it has; another life of it, which has not heard of this reader, is told at once."""
        news, self._epoch = ack.epoch != self._epoch, ack.epoch
        self.wanted, self._known = ack.read >= 0, ack.reader == self._reader
        while self._known and self._reads and self._reads[0].first + self._reads[0].count <= ack.read:
            self._last = self._reads.popleft()
        return self.say(ack.run) if news and not self._known else []

    def say(self, run: str) -> list[Send]:
        """What is not answered, again."""
        unheard = [self._last] if self._last and not self._known and not self._reads else []
        return self._said([*unheard, *list(self._reads)[:AT_ONCE]], run)

    def _said(self, reads: list[Read], run: str) -> list[Send]:
        since = (self._reads[0] if self._reads else reads[0]).first if reads else 0
        return [Send(Port.RESULTS, replace(read, run=run, since=since)) for read in reads]
