"""Queue of tasks that wait for a slot, for commands and calls alike.

Invariants:
  - first in, first out; each task added leaves once: taken, discarded or cleared;
  - records are never listed, and only the bytes that are handed out are copied: small slices of a large body are cheap.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from msgspec import Struct

from pipeline.model.messages import Ranges, RecordFormat
from pipeline.model.ranges import RangeSet
from pipeline.model.records import end_offset, terminator


class ChunkInfo(NamedTuple):
    """Common data of the records of a chunk: earlier attempts, run, and arrival as a time.monotonic()."""

    attempt: int = 0
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
    """`count` waiting records from task `first` on: the bytes of `body` from `offset` on."""

    first: int
    count: int
    body: bytes
    chunk_info: ChunkInfo
    offset: int = 0


class TaskQueue:
    """Tasks in the order in which they are to start. `record_format` must be set before the first `take`."""

    def __init__(self) -> None:
        self.record_format = RecordFormat()
        self.task_count = 0
        self._pieces: deque[_QueuedRecords] = deque()

    def add(self, first: int, count: int, body: bytes, chunk_info: ChunkInfo = DEFAULT_CHUNK_INFO) -> None:
        """Append the records of a chunk."""
        self._pieces.append(_QueuedRecords(first, count, body, chunk_info))
        self.task_count += count

    def requeue(self, tasks: TaskSlice) -> None:
        """Put tasks that were taken but not started to the front."""
        self._pieces.appendleft(_QueuedRecords(tasks.first, tasks.count, tasks.body, tasks.chunk_info))
        self.task_count += tasks.count

    def take(self, max_count: int, max_bytes: int) -> TaskSlice | None:
        """Remove and return the next records: at least one, else at most `max_bytes`. None if nothing waits.

        Neighbours from separate chunks are joined while they fill less than half of `max_bytes`; joining more would
        not be worth the copy. A block is always alone, and so is each task whose metrics are collected.
        """
        if not self._pieces:
            return None
        front = self._pieces[0]
        info, max_count = front.chunk_info, 1 if self.record_format.collect_metrics else max_count
        first, count, body = front.first, *self._cut(front, max_count, max_bytes, min_count=1)
        is_large = self.record_format.block or count == max_count or 2 * len(body) > max_bytes
        if is_large or not self._can_join(first + count, info):
            return TaskSlice(first, count, body, info)
        bodies, bytes_left = [body], max_bytes - len(body)
        while count < max_count and self._can_join(first + count, info):
            taken, body = self._cut(self._pieces[0], max_count - count, bytes_left, min_count=0)
            if taken == 0:
                break
            bodies.append(body)
            count += taken
            bytes_left -= len(body)
        return TaskSlice(first, count, b"".join(bodies), info)

    def discard(self, ranges: Ranges) -> None:
        """Remove these tasks, as far as they wait here."""
        if ranges and self._pieces:
            discarded = RangeSet(ranges)
            self._pieces = deque(rest for piece in self._pieces for rest in self._subtract(piece, discarded))
            self.task_count = sum(piece.count for piece in self._pieces)

    def clear(self) -> Ranges:
        """Remove all tasks and return their numbers."""
        waiting = RangeSet((piece.first, piece.first + piece.count) for piece in self._pieces)
        self._pieces.clear()
        self.task_count = 0
        return waiting.ranges()

    def _can_join(self, task: int, chunk_info: ChunkInfo) -> bool:
        """Return whether this task is the next one, of the same attempt and run."""
        front = self._pieces[0] if self._pieces else None
        return front is not None and front.first == task and front.chunk_info[:2] == chunk_info[:2]

    def _cut(self, piece: _QueuedRecords, max_count: int, max_bytes: int, min_count: int) -> tuple[int, bytes]:
        """Remove records from the front piece: at most `max_count` and `max_bytes`, but at least `min_count`."""
        start, count = piece.offset, min(max_count, piece.count)
        is_whole = count == piece.count
        end = len(piece.body) if is_whole else end_offset(piece.body, count, self.record_format, start)
        if end - start > max_bytes and count > min_count:
            count, end = self._fit_records(piece, max_bytes, min_count)
        if count == piece.count:
            self._pieces.popleft()
        else:
            piece.first += count
            piece.count -= count
            piece.offset = end
        self.task_count -= count
        return count, piece.body[start:end]

    def _fit_records(self, piece: _QueuedRecords, max_bytes: int, min_count: int) -> tuple[int, int]:
        """Return how many records fit in `max_bytes`, at least `min_count`, and the offset of their end."""
        if not self.record_format.block:
            separator, start = terminator(self.record_format), piece.offset
            end = piece.body.rfind(separator, start, start + max(max_bytes, 0)) + 1
            if end > start:
                return piece.body.count(separator, start, end), end
        return min_count, end_offset(piece.body, min_count, self.record_format, piece.offset)

    def _subtract(self, piece: _QueuedRecords, discarded: RangeSet) -> list[_QueuedRecords]:
        rest: list[_QueuedRecords] = []
        task, end = piece.first, piece.offset
        for low, high in discarded.gaps(task, task + piece.count):
            start = end_offset(piece.body, low - task, self.record_format, end)
            task, end = high, end_offset(piece.body, high - low, self.record_format, start)
            rest.append(_QueuedRecords(low, high - low, piece.body[start:end], piece.chunk_info))
        return rest
