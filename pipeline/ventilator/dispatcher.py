"""Way of the tasks from the input to the lanes, and checksums of the input for the sink.

Theory of operation: a Dispatcher reads ahead until it has PREFETCH_BYTES or the window is full. It gives each lane in
turn a chunk, as long as its worker has requested more.
  - Requeued tasks are sent before unsent ones, once they are due.
  - A suspect is sent as a single task, or alone: SuspectIsolation drains a worker, sends the suspect to it, and sends
    nothing else until that has finished. So a crash loses no other task, and counts against this one alone.
  - A ChecksumSender repeats the checksums of all records read until the sink has committed them. They end at the
    boundaries of `checksums`, at the end of each piece of input, and where the records of an earlier ventilator
    process end, so that both readings can be compared.
"""

from __future__ import annotations

from collections import deque
from struct import pack
from zlib import crc32

from pipeline.model import checksums
from pipeline.model.events import DiscardBelow, ReadRequest, RecordsRead
from pipeline.model.messages import Ack, AttemptRange, Chunk, InputChecksums, RecordFormat, RetryRange
from pipeline.model.ranges import RangeSet
from pipeline.model.records import end_near
from pipeline.model.state_machine import LaneAddress, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.lane import MAX_CHUNK_BYTES, LaneTable, WorkerLane, chunk_task_count
from pipeline.ventilator.poison import ISOLATION_LOSSES, SINGLE_TASK_LOSSES, LocalFailures, find_too_large
from pipeline.ventilator.task_store import RecordRange, TaskStore, slice_records

MAX_RANGES = 4096
"""Settled ranges and retries above which no unsent task is sent: each needs space in every Ack."""
READ_BLOCK_BYTES = 512 << 10
"""Bytes requested from the source at a time."""
PREFETCH_BYTES = READ_BLOCK_BYTES // 2
"""Bytes below which more input is requested."""
AVOID_WORKER_SECONDS = 2.0
"""Time for which a retry waits for another worker than the last one, if there is any."""


class Dispatcher:
    """Assignment of tasks to lanes, and the input that is read for it.

    It knows nothing of runs and of their end.
    """

    def __init__(
        self, record_format: RecordFormat, window: int, chunk: int | None, max_task_bytes: int | None, crash_limit: int
    ) -> None:
        self.task_store, self.settled, self.local_failures = TaskStore(record_format), RangeSet(), LocalFailures()
        self.spill_full = False
        """Whether the sink refuses tasks that were never sent."""
        self.needs_total = False
        """Whether nothing is sent before the sink knows the number of tasks, or the window is full."""
        self._isolation = SuspectIsolation(self.task_store, self.local_failures, crash_limit)
        self._window, self._chunk, self._max_task_bytes = window, chunk, max_task_bytes
        self._is_reading, self._discarded_below, self._read_end, self._needed = False, 0, 0, 0

    @property
    def is_starved(self) -> bool:
        """Whether no task can be sent before more input arrives."""
        return self.needs_total or not self.task_store.task_count

    def on_records(self, records: RecordsRead, lanes: LaneTable, needed: int = 0) -> None:
        """Store the records of unsettled tasks that no worker claims; read up to `needed` even beyond the window."""
        self._is_reading, self._read_end, self._needed = False, records.first + records.count, needed
        record_format = self.task_store.record_format
        span = RecordRange(records.first, records.count, records.body)
        large = find_too_large(span, self._max_task_bytes, record_format) if self._max_task_bytes else []
        if not large and span.first >= max(self.settled.end, lanes.claimed_tasks().end, self.task_store.attempts.end):
            self.task_store.add(records)
            return
        # An earlier ventilator process has sent the tasks below, and the sink may need them first to keep the order.
        # So they are requeued, not unsent: neither `spill_full` nor MAX_RANGES holds them back.
        rest = RangeSet(self.settled.gaps(span.first, span.end))
        for task, size in large:
            if task in rest:
                rest.remove(task, task + 1)
                (part,) = slice_records(span, [(task, task + 1)], record_format)
                self.local_failures.fail_too_large(part, size, record_format)
        self.task_store.requeue_parts(span, rest)
        for lane in lanes:
            lanes.claim(lane)

    def on_end_of_input(self) -> None:
        """Request no more input."""
        self._is_reading = True

    def resend(self, run: str) -> list[Send]:
        """Send unsettled local failures again, and let the source discard settled tasks."""
        low, sends = self.settled.low_watermark(), self.local_failures.resend(run)
        if low > self._discarded_below:
            self._discarded_below = low
            sends.append(Send(Port.SOURCE, DiscardBelow(low)))
        return sends

    def settle(self, settled: RangeSet, lanes: LaneTable) -> None:
        """Remove settled tasks."""
        self.settled.update(settled)
        lanes.settle(self.settled)
        self.task_store.settle(self.settled)
        self.task_store.attempts.forget(self.settled)
        self.local_failures.settle(self.settled)

    def retry(self, retries: tuple[RetryRange, ...], lanes: LaneTable, now: float) -> None:
        """Requeue tasks that the sink wants to be retried."""
        for retry in retries:
            for low, high in self.task_store.attempts.find_below(retry.low, retry.high, retry.attempt):
                self.task_store.attempts.set(low, high, retry.attempt)
                lanes.retry(AttemptRange(low, high, retry.attempt), now + retry.delay_seconds)

    def dispatch(self, run: str, lanes: LaneTable, now: float) -> list[Send]:
        """Send a chunk to each lane in turn, as long as there are credit and tasks; then read ahead."""
        isolated = self._isolation.select_isolated(lanes, now)
        sends = [self._assign(run, *isolated, now)] if isolated else []
        sends += self.local_failures.take_unsent(run)
        waits_for_total = self.needs_total and not self._is_window_full(lanes)
        hungry = [lane for lane in lanes if lane.free_credit() and not waits_for_total]
        credit = sum(lane.free_credit() for lane in hungry)
        without_task: set[str] = set()
        while hungry:
            for lane in hungry:
                if span := self._select(lane, lanes, credit, now):
                    credit -= 1
                    sends.append(self._assign(run, lane, span, now))
                else:
                    without_task.add(lane.worker)
            hungry = [lane for lane in hungry if lane.free_credit() and lane.worker not in without_task]
        return sends + self._request_records(lanes)

    def prefetch(self, lanes: LaneTable) -> list[Send]:
        """Read up to the tasks that workers hold while the run ends: the sink accepts no result of unread tasks."""
        return self._request_records(lanes) if max(lanes.claimed_tasks().end, self._needed) > self._read_end else []

    def _assign(self, run: str, lane: WorkerLane, span: RecordRange, now: float) -> Send:
        sent = lane.assign(span, now)
        chunk = Chunk(run, sent.lane, sent.sequence, sent.first, sent.count, sent.body, sent.attempt)
        return Send(LaneAddress(sent.lane), chunk)

    def _select(self, lane: WorkerLane, lanes: LaneTable, credit: int, now: float) -> RecordRange | None:
        """Return the records of the next chunk for this lane."""
        suspects, store = lanes.suspects, self.task_store

        def is_eligible(span: RecordRange) -> bool:
            is_avoided = span.avoid_worker == lane.worker and len(lanes) > 1 and now < span.due + AVOID_WORKER_SECONDS
            return span.due <= now and not is_avoided and suspects.loss_count(span.first) < ISOLATION_LOSSES

        max_tasks = chunk_task_count(lane, store.task_count, credit, self._chunk)
        if span := store.next_requeued(is_eligible):
            max_tasks = min(max_tasks, suspects.same_loss_count_until(span.first, span.end) - span.first)
            return store.take_requeued(span, 1 if suspects.loss_count(span.first) >= SINGLE_TASK_LOSSES else max_tasks)
        if self.spill_full or len(self.settled) + len(store.attempts) >= MAX_RANGES:
            return None
        unsent = store.take_unsent(max_tasks, MAX_CHUNK_BYTES)
        if not (unsent and store.attempts.select_failed([(unsent.first, unsent.end)])):
            return unsent
        # An earlier ventilator process has sent these tasks, and they have failed: they need their attempt.
        store.requeue_parts(unsent, [(unsent.first, unsent.end)])
        return self._select(lane, lanes, credit, now)

    def _request_records(self, lanes: LaneTable) -> list[Send]:
        """Request input if little is left and the window has space. So the end of short input is known early."""
        is_read_ahead = self.task_store.size >= PREFETCH_BYTES and not self.needs_total
        has_enough = is_read_ahead or self._is_window_full(lanes)
        if self._is_reading or (has_enough and self._read_end >= self._needed):
            return []
        self._is_reading = True
        # Beyond the window only a checksum group is completed, a record at a time: a whole block would exceed it again.
        return [Send(Port.SOURCE, ReadRequest(1 if has_enough else READ_BLOCK_BYTES))]

    def _is_window_full(self, lanes: LaneTable) -> bool:
        return self.task_store.size + lanes.size >= self._window


class SuspectIsolation:
    """Selection of suspects that run alone on a worker; `crash_limit` workers lost with one make it fail."""

    def __init__(self, task_store: TaskStore, local_failures: LocalFailures, crash_limit: int) -> None:
        self._task_store, self._local_failures, self._crash_limit = task_store, local_failures, crash_limit

    def select_isolated(self, lanes: LaneTable, now: float) -> tuple[WorkerLane, RecordRange] | None:
        """Fail poison tasks; drain a worker for the next suspect, and return both once it is drained."""
        suspects, store = lanes.suspects, self._task_store
        drained = next((lane for lane in lanes if lane.isolation == "draining"), None)
        if not (len(suspects) or drained):
            return None
        self._fail_poisoned(suspects.poison_tasks(self._crash_limit))
        span = store.next_requeued(lambda span: span.due <= now and suspects.loss_count(span.first) >= ISOLATION_LOSSES)
        if span is None:
            if drained:
                drained.isolation = ""
            return None
        if not len(lanes) or any(lane.isolation == "alone" and not lane.free_credit() for lane in lanes):
            return None
        lane = drained or min(lanes, key=lambda lane: len(lane.assigned_ranges))
        lane.isolation = "draining"
        if lane.assigned_ranges or not lane.allowance():
            return None
        lane.isolation = "alone"
        return lane, store.take_requeued(span, 1)

    def _fail_poisoned(self, tasks: list[int]) -> None:
        store = self._task_store
        for task in tasks:
            span = store.next_requeued(lambda span, task=task: span.first <= task < span.end)  # type: ignore[misc]
            if span is None:
                continue
            span = store.take_requeued(span, span.count)
            for part in slice_records(
                span, RangeSet([(task, task + 1)]).gaps(span.first, span.end), store.record_format
            ):
                store.requeue(part)
            (poison,) = slice_records(span, [(task, task + 1)], store.record_format)
            self._local_failures.fail_poisoned(poison, self._crash_limit, store.record_format)


MAX_RESENT_CHECKSUMS = 64
"""InputChecksums that are sent again at a time."""


class ChecksumSender:
    """Checksums of the input that this ventilator process has read and the sink has not committed."""

    def __init__(self, ventilator_epoch: str, record_format: RecordFormat) -> None:
        self._ventilator_epoch, self._record_format = ventilator_epoch, record_format
        self._unacked_checksums: deque[InputChecksums] = deque()
        self._last_acked: InputChecksums | None = None
        """Sent again to a restarted sink that does not know this ventilator process."""
        self.is_wanted, self._is_epoch_known, self._sink_epoch = False, False, ""
        self._end, self._crc = 0, 0
        """End of the records that were read; checksum of the last, incomplete group of them."""
        self._has_group_start = True
        """Whether that group was read from its first record on; its checksum is unknown otherwise."""
        self._recorded = 0
        """End of the records that any ventilator process has reported."""

    def add(self, records: RecordsRead, run: str) -> list[Send]:
        """Send the checksums of newly read records."""
        if not self.is_wanted:
            return []
        if self._end != records.first:  # after a resume, settled input may not have been kept
            self._crc, self._has_group_start = 0, checksums.last_boundary(records.first) == records.first
        first, end = records.first, records.first + records.count
        offset, added = 0, []
        for cut in self._cuts(first, end):
            crcs, offset = self._compute(records.body, offset, first, cut)
            added.append(InputChecksums(run, self._ventilator_epoch, 0, first, cut - first, crcs))
            first = cut
        self._end = end
        self._unacked_checksums += added
        return self._make_sends(added, run)

    @property
    def needed(self) -> int:
        """Number of records that must be read: the sink accepts no result of a group before it has compared it."""
        is_inside_group = checksums.last_boundary(self._end) < self._end < self._recorded
        return min(checksums.next_boundary(self._end), self._recorded) if is_inside_group else 0

    def comparable(self, total: int) -> int:
        """Return how many of `total` records the sink can compare, after reading has failed."""
        return checksums.last_boundary(total) if total < self._recorded else total

    def on_ack(self, ack: Ack) -> list[Send]:
        """Remove committed checksums; send the others to a restarted sink that does not know this process."""
        is_new_sink, self._sink_epoch = ack.epoch != self._sink_epoch, ack.epoch
        self.is_wanted = ack.checksum_watermark >= 0
        self._is_epoch_known = ack.ventilator_epoch == self._ventilator_epoch
        self._recorded = max(self._recorded, ack.recorded)
        unacked = self._unacked_checksums
        while self._is_epoch_known and unacked and unacked[0].first + unacked[0].count <= ack.checksum_watermark:
            self._last_acked = unacked.popleft()
        return self.resend(ack.run) if is_new_sink and not self._is_epoch_known else []

    def resend(self, run: str) -> list[Send]:
        """Send uncommitted checksums again."""
        unacked = list(self._unacked_checksums)[:MAX_RESENT_CHECKSUMS]
        if self._last_acked and not self._is_epoch_known and not unacked:
            unacked = [self._last_acked]
        return self._make_sends(unacked, run)

    def _make_sends(self, messages: list[InputChecksums], run: str) -> list[Send]:
        acked_below = (self._unacked_checksums[0] if self._unacked_checksums else messages[0]).first if messages else 0
        return [Send(Port.RESULTS, replace(message, run=run, acked_below=acked_below)) for message in messages]

    def _cuts(self, first: int, end: int) -> list[int]:
        """Return where to end InputChecksums: also where the earlier record ends, which may be inside of a group."""
        return [self._recorded, end] if first < self._recorded < end else [end]

    def _compute(self, body: bytes, offset: int, first: int, end: int) -> tuple[bytes, int]:
        """Return the checksums of these records, which begin at `offset` of the body, and the offset of their end."""
        crcs, size, view = [], 0, memoryview(body)
        while first < end:
            number = min(checksums.next_boundary(first), end)
            start, offset = offset, end_near(body, number - first, self._record_format, offset, size)
            size = offset - start
            self._crc = crc32(view[start:offset], self._crc)
            crcs.append(self._crc if self._has_group_start else 0)
            if checksums.last_boundary(number) == number:
                self._crc, self._has_group_start = 0, True
            first = number
        return pack(f"<{len(crcs)}I", *crcs), offset
