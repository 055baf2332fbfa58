"""The checksums of all records that the ventilator reads, repeated until the sink has them for good.

Checksums end at the boundaries of `checksums`, at the end of each piece of the input, and where the record of an
earlier reader ends: there both readings can be compared. A sink that keeps no journal wants none, and none are made.
"""

from __future__ import annotations

from collections import deque
from struct import pack
from zlib import crc32

from pipeline.words import checksums
from pipeline.words.errands import RecordsRead
from pipeline.words.messages import Ack, InputChecksums
from pipeline.words.parts import RecordFormat
from pipeline.words.records import end_near
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace

MAX_RESENT_CHECKSUMS = 64
"""Reads that are repeated at a time."""


class ChecksumSender:
    """The marks that this life of the ventilator, the `reader`, has not been answered for."""

    def __init__(self, ventilator_epoch: str, record_format: RecordFormat) -> None:
        self._ventilator_epoch, self._record_format = ventilator_epoch, record_format
        self._unacked_checksums: deque[InputChecksums] = deque()
        self._last_acked: InputChecksums | None = None
        """The last that was answered: for a sink that comes back, and has not heard of this reader."""
        self.is_wanted, self._is_epoch_known, self._sink_epoch = False, False, ""
        self._end, self._crc, self._is_begun = 0, 0, True
        """What was read, the checksum of the part of its last group, and whether it has the beginning of that group."""
        self._recorded = 0
        """Where the record of all readers ends."""

    def add(self, records: RecordsRead, run: str) -> list[Send]:
        """These were read."""
        if not self.is_wanted:
            return []
        if self._end != records.first:  # an input of which the beginning was not kept
            self._crc, self._is_begun = 0, checksums.floor(records.first) == records.first
        first, end = records.first, records.first + records.count
        at, reads = 0, []
        for cut in self._cuts(first, end):
            marks, at = self._marks(records.body, at, first, cut)
            reads.append(InputChecksums(run, self._ventilator_epoch, 0, first, cut - first, marks))
            first = cut
        self._end = end
        self._unacked_checksums += reads
        return self._make_sends(reads, run)

    def _cuts(self, first: int, end: int) -> list[int]:
        """Where a Read of these records ends: the record of an earlier reader may end in the middle of a group."""
        return [self._recorded, end] if first < self._recorded < end else [end]

    def _marks(self, body: bytes, at: int, first: int, end: int) -> tuple[bytes, int]:
        """The checksums of these records, which begin at byte `at`; and where they end."""
        crcs, size, view = [], 0, memoryview(body)
        while first < end:
            number = min(checksums.following(first), end)
            before, at = at, end_near(body, number - first, self._record_format, at, size)
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

    def on_ack(self, ack: Ack) -> list[Send]:
        """The sink has said what it has; another life of it, which has not heard of this reader, is told at once."""
        news, self._sink_epoch = ack.epoch != self._sink_epoch, ack.epoch
        self.is_wanted, self._is_epoch_known = (
            ack.checksum_watermark >= 0,
            ack.ventilator_epoch == self._ventilator_epoch,
        )
        self._recorded = max(self._recorded, ack.recorded)
        while (
            self._is_epoch_known
            and self._unacked_checksums
            and self._unacked_checksums[0].first + self._unacked_checksums[0].count <= ack.checksum_watermark
        ):
            self._last_acked = self._unacked_checksums.popleft()
        return self.resend(ack.run) if news and not self._is_epoch_known else []

    def resend(self, run: str) -> list[Send]:
        """What is not answered, again."""
        unheard = (
            [self._last_acked] if self._last_acked and not self._is_epoch_known and not self._unacked_checksums else []
        )
        return self._make_sends([*unheard, *list(self._unacked_checksums)[:MAX_RESENT_CHECKSUMS]], run)

    def _make_sends(self, messages: list[InputChecksums], run: str) -> list[Send]:
        since = (self._unacked_checksums[0] if self._unacked_checksums else messages[0]).first if messages else 0
        return [Send(Port.RESULTS, replace(read, run=run, acked_below=since)) for read in messages]
