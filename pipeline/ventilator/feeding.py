"""From the source to the lanes: what is read, what is sent next, and to whom.

Nothing is read past the window, no lane gets more than its worker has asked for, and what must go out again goes
before what was never sent, once it is due. Suspects go singly, or alone. Knows tasks and lanes, and nothing of
runs, acks or ends.
"""

from __future__ import annotations

from pipeline.ventilator.judged import LocalFailures, find_too_large
from pipeline.ventilator.lanes import MAX_CHUNK_BYTES, LaneTable, WorkerLane, chunk_task_count
from pipeline.ventilator.quarantine import SuspectIsolation
from pipeline.ventilator.stock import RecordRange, TaskStore, slice_records
from pipeline.ventilator.suspects import ISOLATION_LOSSES, SINGLE_TASK_LOSSES
from pipeline.words.errands import DiscardBelow, ReadRequest, RecordsRead
from pipeline.words.messages import Chunk
from pipeline.words.parts import AttemptRange, RecordFormat, RetryRange
from pipeline.words.ranges import RangeSet
from pipeline.words.station import LaneAddress as LanePort
from pipeline.words.station import Port, Send

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
