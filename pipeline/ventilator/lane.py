"""Per-worker state: credit, assigned tasks, in-flight bytes.

What is on the way on one lane: sent, and not seen by its worker yet.

A lane that swallows what it is given while its worker's pulses come wants a new connection. The clock of the oldest
starts anew whenever one is seen, so that a slow link is not torn down, and waits twice as long after each repair.

One lane for each life of each worker: what it may be sent, what it holds, whether it is still there.

A lane knows from pulses, never from its own counting, what its worker holds. What a pulse has seen arrive and does not
name any more was given back or lost, and goes out again. Nothing here sends; the ventilator does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil
from typing import Literal

from pipeline.model.messages import AttemptRange, Heartbeat, RecordFormat
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.state_machine import NEVER
from pipeline.model.structs import replace
from pipeline.ventilator.poison import CrashSuspects
from pipeline.ventilator.task_store import RecordRange, TaskStore, slice_records

STALL_SECONDS, MIN_BYTES_PER_SECOND = 3.0, 1e6
"""A chunk is overdue after UNSEEN seconds plus its bytes at SPEED a second."""


class InFlight:
    """The unseen chunks of one lane, by sequence."""

    def __init__(self, now: float) -> None:
        self.size = 0
        """Bytes on the way."""
        self._unseen_chunks: list[tuple[int, int]] = []
        self._oldest_since, self._timeout_factor = now, 1.0

    def on_sent(self, sequence: int, size: int, now: float) -> None:
        """A chunk has gone out."""
        if not self._unseen_chunks:
            self._oldest_since = now
        self._unseen_chunks.append((sequence, size))
        self.size += size

    def acknowledge(self, sequence: int, now: float) -> None:
        """Its worker has seen all up to this one."""
        if self._unseen_chunks and sequence >= self._unseen_chunks[0][0]:
            self._timeout_factor, self._oldest_since = 1.0, now
            self._unseen_chunks = [unseen for unseen in self._unseen_chunks if unseen[0] > sequence]
            self.size = sum(size for _, size in self._unseen_chunks)

    def is_stalled(self, last_heartbeat_time: float, now: float) -> bool:
        """Whether the oldest should have been seen by now, its worker having been heard since."""
        if not self._unseen_chunks:
            return False
        _, size = self._unseen_chunks[0]
        return (
            last_heartbeat_time > self._oldest_since
            and now - self._oldest_since > (STALL_SECONDS + size / MIN_BYTES_PER_SECOND) * self._timeout_factor
        )

    def reset(self) -> None:
        """Another connection takes its place; what the old one carried is nobody's."""
        self._unseen_chunks.clear()
        self.size = 0
        self._timeout_factor *= 2


CHUNK_WORK_SECONDS = 0.05
"""Seconds of one slot's work that a chunk should be."""
MIN_CHUNK_DIVISOR = 10
"""A chunk is no less than this part of WORK, however many are asked for: each costs an exchange."""
MAX_CHUNK_GROWTH = 4
"""A chunk grows at most so many times per measurement."""
MAX_CHUNK_BYTES = 512 << 10
"""Bytes that a chunk should not pass; a larger record travels whole."""
MAX_IN_FLIGHT_BYTES = 8 << 20
"""Bytes on the way to a worker past which nothing is added; what it holds is for its credit and the window to bound."""
MAX_ASSIGNED_CHUNKS = 4096
"""Chunks in one worker's hands at most: each costs room in its pulses and time to go through."""
UNREACHABLE_SECONDS = 2.0
"""Seconds until a worker is lost that can't be reached."""


class WorkerLane:
    """The ventilator's side of one worker."""

    def __init__(self, number: int, heartbeat: Heartbeat, peer: bytes, now: float) -> None:
        self.number, self.worker, self.peer = number, heartbeat.worker, peer
        self.endpoint = ""
        """Where it is bound; empty until it is."""
        self.sequence, self.credit_limit, self.slots = 0, 0, heartbeat.slots
        self.last_heartbeat_time, self.unreachable_since = now, NEVER
        self.claims, self.unacked = RangeSet(), RangeSet()
        """All that its worker says it holds; and what of it has ended."""
        self.assigned_ranges: dict[int, RecordRange] = {}
        self.size = 0
        self.chunk_tasks = 1
        self.isolation: Literal["", "draining", "alone"] = ""
        """Whether it waits to be given one suspect alone, or has it."""
        self._done_count, self._in_flight = heartbeat.done_count, InFlight(now)

    def on_heartbeat(self, heartbeat: Heartbeat, peer: bytes, now: float) -> None:
        """Take in what the worker says of itself, but for what it holds."""
        self.peer, self.last_heartbeat_time, self.unreachable_since = peer, now, NEVER
        here = heartbeat.lane == self.number
        self.credit_limit = heartbeat.credit_limit if here else max(0, heartbeat.credit_limit - heartbeat.last_sequence)
        if here:
            self._in_flight.acknowledge(heartbeat.last_sequence, now)
        if heartbeat.done_count != self._done_count and heartbeat.seconds_per_task:
            self.chunk_tasks = max(
                1, min(self.chunk_tasks * MAX_CHUNK_GROWTH, int(CHUNK_WORK_SECONDS / heartbeat.seconds_per_task))
            )
            self._done_count = heartbeat.done_count

    def free_credit(self) -> int:
        """How many chunks may be sent now."""
        if self.isolation == "alone" and not self.assigned_ranges:
            self.isolation = ""
        return 0 if self.isolation else self.allowance()

    def allowance(self) -> int:
        """How many its worker would take."""
        if not self.endpoint or self._in_flight.size >= MAX_IN_FLIGHT_BYTES:
            return 0
        return max(0, min(self.credit_limit - self.sequence, MAX_ASSIGNED_CHUNKS - len(self.assigned_ranges)))

    def assign(self, span: RecordRange, now: float) -> RecordRange:
        """The span goes out on this lane as its next sequence."""
        self.sequence += 1
        self._in_flight.on_sent(self.sequence, len(span.body), now)
        sent = replace(span, lane=self.number, sequence=self.sequence, due=0.0, avoid_worker="")
        self.hold(sent)
        return sent

    def hold(self, span: RecordRange) -> None:
        """The span is this worker's from now on."""
        self.assigned_ranges[span.first] = span
        self.size += len(span.body)

    def settle(self, settled: RangeSet, record_format: RecordFormat) -> None:
        """Forget the records of what is settled."""
        self._retain(lambda span: settled.gaps(span.first, span.end), record_format)

    def reconcile(
        self, heartbeat: Heartbeat, record_format: RecordFormat, attempts: AttemptCounts
    ) -> list[RecordRange]:
        """What this worker was sent, has seen pass, and does not hold: to be sent again."""
        self.claims, self.unacked = valid_claims(heartbeat, attempts), RangeSet(heartbeat.unacked)
        gone: list[RecordRange] = []

        def remaining_ranges(span: RecordRange) -> list[tuple[int, int]]:
            if (span.lane, span.sequence) > (heartbeat.lane, heartbeat.last_sequence):
                return [(span.first, span.end)]
            if missing := self.claims.gaps(span.first, span.end):
                gone.extend(slice_records(span, missing, record_format))
            return self.claims.intersection(span.first, span.end)

        self._retain(remaining_ranges, record_format)
        return gone

    def take_for_retry(self, attempt_range: AttemptRange, record_format: RecordFormat, due: float) -> list[RecordRange]:
        """What this worker has of an earlier try: to be sent again, with more tries, rather to another."""
        self.claims.remove(attempt_range.low, attempt_range.high)
        taken: list[RecordRange] = []

        def remaining_ranges(span: RecordRange) -> list[tuple[int, int]]:
            stale = RangeSet([(attempt_range.low, attempt_range.high)] if span.attempt < attempt_range.attempt else ())
            taken.extend(slice_records(span, stale.intersection(span.first, span.end), record_format))
            return stale.gaps(span.first, span.end)

        self._retain(remaining_ranges, record_format)
        return [
            replace(span, attempt=attempt_range.attempt, due=due, avoid_worker=self.worker, lane=0, sequence=0)
            for span in taken
        ]

    def unfinished(self) -> RangeSet:
        """What its worker was given and is not known to have ended."""
        held = RangeSet((span.first, span.end) for span in self.assigned_ranges.values())
        held.difference_update(self.unacked)
        return held

    def _retain(
        self, remaining_ranges: Callable[[RecordRange], list[tuple[int, int]]], record_format: RecordFormat
    ) -> None:
        for span in list(self.assigned_ranges.values()):
            rest = remaining_ranges(span)
            if rest == [(span.first, span.end)]:
                continue
            del self.assigned_ranges[span.first]
            self.size -= len(span.body)
            for part in slice_records(span, rest, record_format):
                self.hold(part)

    def is_stalled(self, now: float) -> bool:
        """Whether the lane swallows what it is given while its worker's pulses come: it wants a new connection."""
        return self.endpoint != "" and self._in_flight.is_stalled(self.last_heartbeat_time, now)

    def rebind(self, number: int) -> None:
        """A new connection under a new number; what the old one carried is judged by the next pulse that knows it."""
        self.number, self.endpoint, self.sequence, self.credit_limit = number, "", 0, 0
        self._in_flight.reset()

    def is_silent(self, now: float, heartbeat_timeout: float) -> bool:
        """Whether its worker counts as lost."""
        return now - self.last_heartbeat_time > heartbeat_timeout or now - self.unreachable_since > UNREACHABLE_SECONDS


def valid_claims(heartbeat: Heartbeat, attempts: AttemptCounts) -> RangeSet:
    """What a worker says it holds, but for what it holds of an earlier try than the last that failed."""
    claims = RangeSet((*heartbeat.unfinished, *heartbeat.unacked))
    theirs = AttemptCounts(heartbeat.attempts)
    for run in attempts.select_failed(claims):
        claims.difference_update(theirs.find_below(run.low, run.high, run.attempt))
    return claims


def chunk_task_count(lane: WorkerLane, available_tasks: int, credit: int, fixed_count: int | None) -> int:
    """How many tasks the next chunk takes: what the worker's pace asks for, at most its share of what is at hand."""
    return fixed_count or max(
        1, min(lane.chunk_tasks, max(lane.chunk_tasks // MIN_CHUNK_DIVISOR, ceil(available_tasks / max(1, credit))))
    )


class LaneTable:
    """All lanes, by their workers; what one loses goes back to the stock, unless another turns out to hold it."""

    def __init__(self, task_store: TaskStore) -> None:
        self._task_store = task_store
        self._lanes: dict[str, WorkerLane] = {}
        self.suspects = CrashSuspects()
        self.parked_at = 0.0
        """When the last worker left because the run is over, and what it had was put aside."""

    def __iter__(self) -> Iterator[WorkerLane]:
        return iter(list(self._lanes.values()))

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def size(self) -> int:
        """Bytes of all records that workers hold."""
        return sum(lane.size for lane in self._lanes.values())

    def get(self, worker: str) -> WorkerLane | None:
        """This worker's lane, if it has one."""
        return self._lanes.get(worker)

    def add(self, lane: WorkerLane) -> None:
        """A worker has a lane from now on."""
        self.suspects.on_worker_returned(lane.worker)
        self._lanes[lane.worker] = lane

    def close(self, lane: WorkerLane, due: float) -> None:
        """The worker is gone; what it held goes out again, but not before `due`."""
        del self._lanes[lane.worker]
        self.requeue(lane, [replace(span, due=due) for span in lane.assigned_ranges.values()])

    def suspect(self, lane: WorkerLane) -> None:
        """Its worker is lost: one of those that it held may be why."""
        self.suspects.on_worker_lost(lane.worker, lane.unfinished(), is_isolated=lane.isolation == "alone")

    def resume_parked(self, parked_before: float) -> None:
        """The sink goes on acking: the run is not over after all, for those that were put aside before then."""
        if self.parked_at <= parked_before:
            self._task_store.release_delayed()

    def settle(self, settled: RangeSet) -> None:
        """Forget the records of what is settled."""
        self.suspects.forget(settled)
        for lane in self._lanes.values():
            lane.settle(settled, self._task_store.record_format)

    def retry(self, attempt_range: AttemptRange, due: float) -> None:
        """These have failed and are to be sent again."""
        spans = [
            span
            for lane in self._lanes.values()
            for span in lane.take_for_retry(attempt_range, self._task_store.record_format, due)
        ]
        for span in (*spans, *self._task_store.take_for_retry(attempt_range, due)):
            self._task_store.requeue(span)

    def claimed_tasks(self) -> RangeSet:
        """All that any worker says it holds."""
        return RangeSet(part for lane in self._lanes.values() for part in lane.claims)

    def reconcile(self, lane: WorkerLane, heartbeat: Heartbeat) -> None:
        """What a worker does not hold any more goes out again; what it does hold is not sent to others."""
        self.requeue(lane, lane.reconcile(heartbeat, self._task_store.record_format, self._task_store.attempts))
        self.claim(lane)

    def claim(self, lane: WorkerLane) -> None:
        """What this worker says it holds is not sent to others."""
        for span in self._task_store.remove_claimed(lane.claims):
            lane.hold(replace(span, lane=0, sequence=0))

    def requeue(self, lost_lane: WorkerLane, spans: list[RecordRange]) -> None:
        """These go out again, unless another worker says that it holds them."""
        for span in spans:
            self._task_store.requeue(span)
        for lane in self._lanes.values() if spans else ():
            if lane is not lost_lane:
                self.claim(lane)
