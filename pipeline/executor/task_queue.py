"""What waits to be run: the backlog in front of an executor's slots.

Commands and callables share it. It is first in, first out, and cuts records off its front in the size a slot
wants. It promises that each task added leaves once: taken, dropped or released. It never makes a list of
records and never copies more bytes than it hands out, so small bites from a large body stay cheap.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from msgspec import Struct

from pipeline.model.messages import Ranges, RecordFormat
from pipeline.model.ranges import RangeSet
from pipeline.model.records import end_offset, terminator


class ChunkInfo(NamedTuple):
    """What records came with: how often they have failed, in which run, and when they came (a time.monotonic())."""

    tries: int = 0
    run: str = ""
    received_at: float = 0.0


DEFAULT_CHUNK_INFO = ChunkInfo()


class TaskSlice(Struct, frozen=True, gc=False):
    """`count` records from task `first` on, each with its terminator."""

    first: int
    count: int
    body: bytes
    chunk_info: ChunkInfo = DEFAULT_CHUNK_INFO


class _QueuedRecords(Struct, gc=False):
    """Waiting records: `count` of them from task `first`, the bytes of `body` from offset `at` on."""

    first: int
    count: int
    body: bytes
    chunk_info: ChunkInfo
    offset: int = 0


class TaskQueue:
    """Unstarted tasks in the order in which they are to start.

    `recipe` says how the records look; it must be right before the first bite is taken. `tasks` is how many wait.
    """

    def __init__(self) -> None:
        self.record_format = RecordFormat()
        self.task_count = 0
        self._pieces: deque[_QueuedRecords] = deque()

    def add(self, first: int, count: int, body: bytes, chunk_info: ChunkInfo = DEFAULT_CHUNK_INFO) -> None:
        """`count` records of `body`, tasks `first` and up, wait behind all others."""
        self._pieces.append(_QueuedRecords(first, count, body, chunk_info))
        self.task_count += count

    def requeue(self, task_slice: TaskSlice) -> None:
        """These were taken and did not start after all: they are next."""
        self._pieces.appendleft(
            _QueuedRecords(task_slice.first, task_slice.count, task_slice.body, task_slice.chunk_info)
        )
        self.task_count += task_slice.count

    def take(self, max_count: int, max_bytes: int) -> TaskSlice | None:
        """The next records: at most `most`, in at most `size` bytes but at least one; None when nothing waits.

        Neighbours are joined even if they came in separate chunks, while they fill less than half of `size`: more
        is not worth the copy. A block always stands alone, and so does each task where accounts are wanted.
        """
        if not self._pieces:
            return None
        front = self._pieces[0]
        lot, max_count = front.chunk_info, 1 if self.record_format.collect_metrics else max_count
        first, count, body = front.first, *self._cut(front, max_count, max_bytes, min_count=1)
        if (
            self.record_format.block
            or count == max_count
            or 2 * len(body) > max_bytes
            or not self._can_join(first + count, lot)
        ):
            return TaskSlice(first, count, body, lot)
        parts, left = [body], max_bytes - len(body)
        while count < max_count and self._can_join(first + count, lot):
            number, body = self._cut(self._pieces[0], max_count - count, left, min_count=0)
            if number == 0:
                break
            parts.append(body)
            count += number
            left -= len(body)
        return TaskSlice(first, count, b"".join(parts), lot)

    def discard(self, ranges: Ranges) -> None:
        """Forget these tasks, as far as they wait here."""
        if ranges and self._pieces:
            gone = RangeSet(ranges)
            self._pieces = deque(left for piece in self._pieces for left in self._subtract(piece, gone))
            self.task_count = sum(piece.count for piece in self._pieces)

    def clear(self) -> Ranges:
        """Forget all, and say which tasks that were."""
        waiting = RangeSet((piece.first, piece.first + piece.count) for piece in self._pieces)
        self._pieces.clear()
        self.task_count = 0
        return waiting.ranges()

    def _can_join(self, task: int, chunk_info: ChunkInfo) -> bool:
        """Whether task `number` is the next one waiting, to be run as those of this lot are."""
        front = self._pieces[0] if self._pieces else None
        return front is not None and front.first == task and front.chunk_info[:2] == chunk_info[:2]

    def _cut(self, piece: _QueuedRecords, max_count: int, max_bytes: int, min_count: int) -> tuple[int, bytes]:
        """Cut at most `most` records and `size` bytes, but `least` records, off the front piece."""
        start, number = piece.offset, min(max_count, piece.count)
        whole = number == piece.count
        end = len(piece.body) if whole else end_offset(piece.body, number, self.record_format, start)
        if end - start > max_bytes and number > min_count:
            number, end = self._fit_records(piece, max_bytes, min_count)
        if number == piece.count:
            self._pieces.popleft()
        else:
            piece.first += number
            piece.count -= number
            piece.offset = end
        self.task_count -= number
        return number, piece.body[start:end]

    def _fit_records(self, piece: _QueuedRecords, max_bytes: int, min_count: int) -> tuple[int, int]:
        """How many records of `piece` lie in `size` bytes, but `least`; and the offset of their end."""
        if not self.record_format.block:
            mark, start = terminator(self.record_format), piece.offset
            end = piece.body.rfind(mark, start, start + max(max_bytes, 0)) + 1
            if end > start:
                return piece.body.count(mark, start, end), end
        return min_count, end_offset(piece.body, min_count, self.record_format, piece.offset)

    def _subtract(self, piece: _QueuedRecords, discarded: RangeSet) -> list[_QueuedRecords]:
        """What is left of `piece` outside of `gone`."""
        left: list[_QueuedRecords] = []
        number, at = piece.first, piece.offset
        for low, high in discarded.gaps(number, number + piece.count):
            start = end_offset(piece.body, low - number, self.record_format, at)
            number, at = high, end_offset(piece.body, high - low, self.record_format, start)
            left.append(_QueuedRecords(low, high - low, piece.body[start:at], piece.chunk_info))
        return left
