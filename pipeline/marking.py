"""What the ventilator tells the sink of its input: marks of all records, said until the sink has them for good.

By its marks a record is known again when the input is read another time. Records are marked as they are read, in
order; a sink that keeps no journal wants no marks, and then none are made.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from pipeline.errands import Records
from pipeline.messages import Ack, Read
from pipeline.parts import Recipe
from pipeline.records import marks
from pipeline.station import Port, Send

AT_ONCE = 64
"""Reads that are repeated at a time."""


class Marking:
    """The marks that this life of the ventilator, the `reader`, has not been answered for."""

    def __init__(self, reader: str, recipe: Recipe) -> None:
        self._reader, self._recipe = reader, recipe
        self._reads: deque[Read] = deque()
        self._since: int | None = None
        self.wanted = False

    def add(self, records: Records, run: str) -> list[Send]:
        """These were read."""
        if not self.wanted:
            return []
        if self._since is None:
            self._since = records.first
        marked = marks(records.body, records.count, self._recipe)
        read = Read(run, self._reader, self._since, records.first, records.count, marked)
        self._reads.append(read)
        return [Send(Port.RESULTS, read)]

    def answered(self, ack: Ack) -> None:
        """The sink has said what it has."""
        self.wanted = ack.read >= 0
        while ack.reader == self._reader and self._reads and self._end() <= ack.read:
            self._reads.popleft()

    def say(self, run: str) -> list[Send]:
        """What is not answered, again."""
        return [Send(Port.RESULTS, replace(read, run=run)) for read in list(self._reads)[:AT_ONCE]]

    def _end(self) -> int:
        return self._reads[0].first + self._reads[0].count
