"""The checksums of all records that the ventilator reads, repeated until the sink has them for good.

Checksums end at the boundaries of `checksums`, at the end of each piece of the input, and where the record of an
earlier reader ends: there both readings can be compared. A sink that keeps no journal wants none, and none are made.
"""

from __future__ import annotations

from collections import deque
from struct import pack
from zlib import crc32

from pipeline.words import checksums
from pipeline.words.errands import Records
from pipeline.words.messages import Ack, Read
from pipeline.words.parts import Recipe
from pipeline.words.records import end_near
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
        self._end, self._crc, self._is_begun = 0, 0, True
        """What was read, the checksum of the part of its last group, and whether it has the beginning of that group."""
        self._recorded = 0
        """Where the record of all readers ends."""

    def add(self, records: Records, run: str) -> list[Send]:
        """These were read."""
        if not self.wanted:
            return []
        if self._end != records.first:  # an input of which the beginning was not kept
            self._crc, self._is_begun = 0, checksums.floor(records.first) == records.first
        first, end = records.first, records.first + records.count
        at, reads = 0, []
        for cut in self._cuts(first, end):
            marks, at = self._marks(records.body, at, first, cut)
            reads.append(Read(run, self._reader, 0, first, cut - first, marks))
            first = cut
        self._end = end
        self._reads += reads
        return self._said(reads, run)

    def _cuts(self, first: int, end: int) -> list[int]:
        """Where a Read of these records ends: the record of an earlier reader may end in the middle of a group."""
        return [self._recorded, end] if first < self._recorded < end else [end]

    def _marks(self, body: bytes, at: int, first: int, end: int) -> tuple[bytes, int]:
        """The checksums of these records, which begin at byte `at`; and where they end."""
        crcs, size, view = [], 0, memoryview(body)
        while first < end:
            number = min(checksums.following(first), end)
            before, at = at, end_near(body, number - first, self._recipe, at, size)
            size = at - before
            self._crc = crc32(view[before:at], self._crc)
            crcs.append(self._crc if self._is_begun else 0)
            if checksums.floor(number) == number:
                self._crc, self._is_begun = 0, True
            first = number
        return pack(f"<{len(crcs)}I", *crcs), at

    @property
    def needed(self) -> int:
        """All records below must be read: the sink takes no result of a group before it has compared it."""
        is_within = checksums.floor(self._end) < self._end < self._recorded
        return min(checksums.following(self._end), self._recorded) if is_within else 0

    def comparable(self, total: int) -> int:
        """So many of `total` records can be compared, where the reading broke off."""
        return checksums.floor(total) if total < self._recorded else total

    def answered(self, ack: Ack) -> list[Send]:
        """The sink has said what it has; another life of it, which has not heard of this reader, is told at once."""
        news, self._epoch = ack.epoch != self._epoch, ack.epoch
        self.wanted, self._known = ack.read >= 0, ack.reader == self._reader
        self._recorded = max(self._recorded, ack.recorded)
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
