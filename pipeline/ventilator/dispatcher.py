"""Reads input ahead, assigns chunks to workers, isolates suspects; announces input checksums.

Suspects alone: one task at a time goes to a worker that has nothing else, and the guilty go to nobody.

A worker is drained for it: it gets nothing more until it has nothing left, then the suspect, and others only when that
has ended. So nobody else is lost with it, and only it can be convicted.

From the source to the lanes: what is read, what is sent next, and to whom.

Nothing is read past the window, no lane gets more than its worker has asked for, and what must go out again goes
before what was never sent, once it is due. Suspects go singly, or alone. Knows tasks and lanes, and nothing of
runs, acks or ends.

The checksums of all records that the ventilator reads, repeated until the sink has them for good.

Checksums end at the boundaries of `checksums`, at the end of each piece of the input, and where the record of an
earlier reader ends: there both readings can be compared. A sink that keeps no journal wants none, and none are made.
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
from pipeline.model.state_machine import LaneAddress as LanePort
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.lane import MAX_CHUNK_BYTES, LaneTable, WorkerLane, chunk_task_count
from pipeline.ventilator.poison import ISOLATION_LOSSES, SINGLE_TASK_LOSSES, LocalFailures, find_too_large
from pipeline.ventilator.task_store import RecordRange, TaskStore, slice_records


class SuspectIsolation:
    """Who waits to be sent alone; `limit` workers lost with it alone convict a task."""

    def __init__(self, task_store: TaskStore, local_failures: LocalFailures, crash_limit: int) -> None:
        self._task_store, self._local_failures, self._crash_limit = task_store, local_failures, crash_limit

    def select_isolated(self, lanes: LaneTable, now: float) -> tuple[WorkerLane, RecordRange] | None:
        """The suspect that goes out now, and to whom."""
        suspects, stock = lanes.suspects, self._task_store
        drained = next((lane for lane in lanes if lane.isolation == "draining"), None)
        if not (len(suspects) or drained):
            return None
        self._fail_poisoned(suspects.poison_tasks(self._crash_limit))
        span = stock.next_requeued(lambda span: span.due <= now and suspects.loss_count(span.first) >= ISOLATION_LOSSES)
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
        return lane, stock.take_requeued(span, 1)

    def _fail_poisoned(self, tasks: list[int]) -> None:
        """These are sent no more; the ventilator says their final records itself."""
        stock = self._task_store
        for task in tasks:
            span = stock.next_requeued(lambda span, task=task: span.first <= task < span.end)  # type: ignore[misc]
            if span is None:
                continue
            whole = stock.take_requeued(span, span.count)
            for part in slice_records(
                whole, RangeSet([(task, task + 1)]).gaps(whole.first, whole.end), stock.record_format
            ):
                stock.requeue(part)
            self._local_failures.fail_poisoned(
                slice_records(whole, [(task, task + 1)], stock.record_format)[0], self._crash_limit, stock.record_format
            )


MAX_RANGES = 4096
"""Settled ranges and retries past which nothing new is sent: each costs room in every Ack."""
READ_BLOCK_BYTES = 512 << 10
"""Bytes asked of the source at a time."""
PREFETCH_BYTES = READ_BLOCK_BYTES // 2
"""Bytes that should be at hand."""
AVOID_WORKER_SECONDS = 2.0
"""Seconds for which another try waits for another worker, where there is one."""


class Dispatcher:
    """The ventilator's stock, and its way to the lanes. Tasks of more than `most` bytes are not sent."""

    def __init__(
        self, record_format: RecordFormat, window: int, chunk: int | None, max_task_bytes: int | None, crash_limit: int
    ) -> None:
        self.task_store, self.settled, self.local_failures = TaskStore(record_format), RangeSet(), LocalFailures()
        self.spill_full = False
        """The sink asks for nothing that was never sent."""
        self._isolation = SuspectIsolation(self.task_store, self.local_failures, crash_limit)
        self._window, self._chunk, self._max_task_bytes = window, chunk, max_task_bytes
        self._is_reading, self._discarded_below, self._read_end, self._needed = False, 0, 0, 0

    def on_records(self, records: RecordsRead, lanes: LaneTable, needed: int = 0) -> list[Send]:
        """What a former life of this ventilator had settled, or a worker says it holds, is not sent.

        Nor is what lies below that fresh: it was sent before, and may be what order waits for. All records below
        `needed` will be read, even past the window.
        """
        self._is_reading, self._read_end, self._needed = False, records.first + records.count, needed
        span = RecordRange(records.first, records.count, records.body)
        large = (
            find_too_large(span, self._max_task_bytes, self.task_store.record_format) if self._max_task_bytes else []
        )
        if not large and span.first >= max(self.settled.end, lanes.claimed_tasks().end, self.task_store.attempts.end):
            self.task_store.add(records)
            return []
        rest = RangeSet(self.settled.gaps(span.first, span.end))
        for task, size in large:
            if task in rest:
                rest.remove(task, task + 1)
                self.local_failures.fail_too_large(
                    slice_records(span, [(task, task + 1)], self.task_store.record_format)[0],
                    size,
                    self.task_store.record_format,
                )
        self.task_store.requeue_parts(span, rest)
        for lane in lanes:
            lanes.claim(lane)
        return []

    def resend(self, run: str) -> list[Send]:
        """What the sink has not settled of the tasks that were judged here, and what the source need not keep."""
        low, sends = self.settled.low_watermark(), self.local_failures.resend(run)
        if low > self._discarded_below:
            self._discarded_below = low
            sends.append(Send(Port.SOURCE, DiscardBelow(low)))
        return sends

    def on_end_of_input(self) -> None:
        """There is nothing more to read: as if it were being read for ever."""
        self._is_reading = True

    def settle(self, settled: RangeSet, lanes: LaneTable) -> None:
        """The sink has these for good."""
        self.settled.update(settled)
        lanes.settle(self.settled)
        self.task_store.settle(self.settled)
        self.task_store.attempts.forget(self.settled)
        self.local_failures.settle(self.settled)

    def retry(self, retries: tuple[RetryRange, ...], lanes: LaneTable, now: float) -> None:
        """The sink wants these run again."""
        for each in retries:
            for low, high in self.task_store.attempts.find_below(each.low, each.high, each.attempt):
                self.task_store.attempts.set(low, high, each.attempt)
                lanes.retry(AttemptRange(low, high, each.attempt), now + each.delay_seconds)

    def dispatch(self, run: str, lanes: LaneTable, now: float) -> list[Send]:
        """A chunk to each lane in turn, as long as there is room and something to send; then read on."""
        alone = self._isolation.select_isolated(lanes, now)
        sends = [self._assign(run, *alone, now)] if alone else []
        sends += self.local_failures.take_unsent(run)
        hungry = [lane for lane in lanes if lane.free_credit()]
        credit = sum(lane.free_credit() for lane in hungry)
        idle: set[str] = set()
        while hungry:
            for lane in hungry:
                span = self._select(lane, lanes, credit, now)
                if span:
                    credit -= 1
                    sends.append(self._assign(run, lane, span, now))
                else:
                    idle.add(lane.worker)
            hungry = [lane for lane in hungry if lane.free_credit() and lane.worker not in idle]
        return sends + self._request_records(lanes)

    def _assign(self, run: str, lane: WorkerLane, span: RecordRange, now: float) -> Send:
        out = lane.assign(span, now)
        return Send(
            LanePort(out.lane),
            Chunk(run, out.lane, out.sequence, out.first, out.count, out.body, out.attempt),
        )

    def _select(self, lane: WorkerLane, lanes: LaneTable, credit: int, now: float) -> RecordRange | None:
        """What this lane gets next."""
        suspects = lanes.suspects

        def is_eligible(span: RecordRange) -> bool:
            avoided = span.avoid_worker == lane.worker and len(lanes) > 1 and now < span.due + AVOID_WORKER_SECONDS
            return span.due <= now and not avoided and suspects.loss_count(span.first) < ISOLATION_LOSSES

        most = chunk_task_count(lane, self.task_store.task_count, credit, self._chunk)
        if back := self.task_store.next_requeued(is_eligible):
            most = min(most, suspects.same_loss_count_until(back.first, back.end) - back.first)
            return self.task_store.take_requeued(
                back, 1 if suspects.loss_count(back.first) >= SINGLE_TASK_LOSSES else most
            )
        if self.spill_full or len(self.settled) + len(self.task_store.attempts) >= MAX_RANGES:
            return None
        fresh = self.task_store.take_unsent(most, MAX_CHUNK_BYTES)
        if not (fresh and self.task_store.attempts.select_failed([(fresh.first, fresh.end)])):
            return fresh
        self.task_store.requeue_parts(
            fresh, [(fresh.first, fresh.end)]
        )  # sent by a former life of this ventilator, and failed
        return self._select(lane, lanes, credit, now)

    def prefetch(self, lanes: LaneTable) -> list[Send]:
        """The run ends soon: read on to what workers hold, of which the sink must be told."""
        return self._request_records(lanes) if max(lanes.claimed_tasks().end, self._needed) > self._read_end else []

    def _request_records(self, lanes: LaneTable) -> list[Send]:
        """Read on when little is left, but only within the window: so of a short input the end is soon known."""
        has_enough = self.task_store.size >= PREFETCH_BYTES or self.task_store.size + lanes.size >= self._window
        if self._is_reading or (has_enough and self._read_end >= self._needed):
            return []
        self._is_reading = True
        return [Send(Port.SOURCE, ReadRequest(READ_BLOCK_BYTES))]


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
