"""Records of the tasks that can be sent: unsent ones, and those that were requeued.

Invariants:
  - A requeued record is sent before unsent ones, lowest task first, once it is due.
  - Records that a worker holds are in its lane (see lane.py); records of settled tasks are nowhere.
  - A body is sliced by offset, and copied once, when a chunk is made of it.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable, Iterable

from msgspec import Struct

from pipeline.model.events import RecordsRead
from pipeline.model.messages import AttemptRange, Ranges, RecordFormat
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.records import count, end_offset, split, terminator
from pipeline.model.state_machine import NEVER
from pipeline.model.structs import replace


class RecordRange(Struct, frozen=True, order=True, gc=False):
    """Records of consecutive tasks that have failed `attempt` times.

    In a lane, `lane` and `sequence` name the chunk that carried them last. When requeued, they are not sent before
    `due`, and preferably not to `avoid_worker`.
    """

    first: int
    count: int
    body: bytes
    lane: int = 0
    sequence: int = 0
    attempt: int = 0
    due: float = 0.0
    avoid_worker: str = ""

    @property
    def end(self) -> int:
        """One past the last task."""
        return self.first + self.count


def slice_records(
    span: RecordRange, ranges: Ranges | list[tuple[int, int]], record_format: RecordFormat
) -> list[RecordRange]:
    """Return the parts of `span` in `ranges`, which are sorted and inside of it."""
    parts = []
    at, start = span.first, 0
    for low, high in ranges:
        if (low, high) == (span.first, span.end):
            return [span]
        start = end_offset(span.body, low - at, record_format, start)
        end = end_offset(span.body, high - low, record_format, start)
        parts.append(replace(span, first=low, count=high - low, body=span.body[start:end]))
        at, start = high, end
    return parts


class TaskStore:
    """Unsent and requeued records, with the attempts of all unsettled tasks."""

    def __init__(self, record_format: RecordFormat) -> None:
        self.record_format = record_format
        self.attempts = AttemptCounts()
        self.task_count = 0
        self.size = 0
        self._requeued: list[RecordRange] = []
        self._unsent: deque[RecordsRead] = deque()
        self._unsent_offset = 0
        """Where the remaining records begin in the body of the first of them."""

    def add(self, records: RecordsRead) -> None:
        """Append newly read records to the unsent ones."""
        self._unsent.append(records)
        self.task_count += records.count
        self.size += len(records.body)

    def requeue_parts(self, span: RecordRange, ranges: Iterable[tuple[int, int]]) -> None:
        """Requeue the parts of `span` in `ranges`, each with its own attempt."""
        for run in (run for low, high in ranges for run in self.attempts.split_by_attempt(low, high)):
            (part,) = slice_records(span, [(run.low, run.high)], self.record_format)
            self.requeue(replace(part, attempt=run.attempt))

    def requeue(self, span: RecordRange) -> None:
        """Add records that are to be sent again."""
        insort(self._requeued, span)
        self.task_count += span.count
        self.size += len(span.body)

    def settle(self, settled: RangeSet) -> None:
        """Remove requeued records of settled tasks."""
        if any(settled.intersection(span.first, span.end) for span in self._requeued):
            self._retain(lambda span: settled.gaps(span.first, span.end))

    def remove_claimed(self, claims: RangeSet) -> list[RecordRange]:
        """Remove and return requeued records that a worker claims to hold."""
        claimed = [
            part
            for span in self._requeued
            for part in slice_records(span, claims.intersection(span.first, span.end), self.record_format)
        ]
        if claimed:
            self._retain(lambda span: claims.gaps(span.first, span.end))
        return claimed

    def take_for_retry(self, attempt_range: AttemptRange, due: float) -> list[RecordRange]:
        """Remove requeued records of an earlier attempt, and return them with the later one."""

        def outdated_ranges(span: RecordRange) -> list[tuple[int, int]]:
            low, high = max(span.first, attempt_range.low), min(span.end, attempt_range.high)
            return [(low, high)] if low < high and span.attempt < attempt_range.attempt else []

        def remaining_ranges(span: RecordRange) -> list[tuple[int, int]]:
            return RangeSet(outdated_ranges(span)).gaps(span.first, span.end)

        outdated = [
            part for span in self._requeued for part in slice_records(span, outdated_ranges(span), self.record_format)
        ]
        if outdated:
            self._retain(remaining_ranges)
        return [replace(part, attempt=attempt_range.attempt, due=due) for part in outdated]

    def release_delayed(self) -> None:
        """Make requeued records due that were parked."""
        if any(span.due == NEVER for span in self._requeued):
            self._requeued = [replace(span, due=0.0) if span.due == NEVER else span for span in self._requeued]

    def next_due(self, now: float) -> float:
        """Return when the next requeued records become due."""
        return min((span.due for span in self._requeued if span.due > now), default=NEVER)

    def next_requeued(self, is_eligible: Callable[[RecordRange], bool]) -> RecordRange | None:
        """Return the lowest eligible requeued records without removing them."""
        return next((span for span in self._requeued if is_eligible(span)), None)

    def take_requeued(self, span: RecordRange, max_tasks: int) -> RecordRange:
        """Remove and return the first records of a requeued range."""
        self._requeued.remove(span)
        self.task_count -= span.count
        self.size -= len(span.body)
        if span.count > max_tasks:
            body, rest = split(span.body, max_tasks, self.record_format)
            self.requeue(replace(span, first=span.first + max_tasks, count=span.count - max_tasks, body=rest))
            span = replace(span, count=max_tasks, body=body)
        return span

    def take_unsent(self, max_tasks: int, max_bytes: int) -> RecordRange | None:
        """Remove and return unsent records: at least one, even if it is larger than `max_bytes`; None without any."""
        if not self._unsent:
            return None
        records, start = self._unsent.popleft(), self._unsent_offset
        number, end = self._measure(records, start, max_tasks, max_bytes)
        self._unsent_offset = 0
        if number < records.count:
            self._unsent.appendleft(RecordsRead(records.first + number, records.count - number, records.body))
            self._unsent_offset = end
        body = records.body if end - start == len(records.body) else records.body[start:end]
        self.task_count -= number
        self.size -= len(body)
        return RecordRange(records.first, number, body)

    def _retain(self, remaining_ranges: Callable[[RecordRange], list[tuple[int, int]]]) -> None:
        """Keep only these parts of each requeued range."""
        before = self._requeued
        self._requeued = [
            part for span in before for part in slice_records(span, remaining_ranges(span), self.record_format)
        ]
        self.task_count += sum(span.count for span in self._requeued) - sum(span.count for span in before)
        self.size += sum(len(span.body) for span in self._requeued) - sum(len(span.body) for span in before)

    def _measure(self, records: RecordsRead, start: int, max_tasks: int, max_bytes: int) -> tuple[int, int]:
        """Return how many records to take, and the offset of their end."""
        size = len(records.body)
        if records.count <= max_tasks and size - start <= max_bytes:
            return records.count, size
        if max_tasks < records.count:
            end = end_offset(records.body, max_tasks, self.record_format, start)
            if end - start <= max_bytes or max_tasks == 1:
                return max_tasks, end
        end = records.body.rfind(terminator(self.record_format), start, start + max_bytes) + 1
        if not end or self.record_format.block:
            return 1, end_offset(records.body, 1, self.record_format, start)
        return count(records.body[start:end], self.record_format), end
