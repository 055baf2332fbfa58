"""Lanes: one for each worker process, with its credit, its assigned tasks and its bytes in flight.

Invariants:
  - A lane learns what its worker holds from heartbeats, never by counting its own sends.
  - Tasks that a heartbeat has seen arrive and does not contain any more were released or lost: they are requeued.
  - Tasks that a worker claims to hold are not sent to other workers.
  - A lane that carries nothing while heartbeats of its worker arrive gets a new connection.
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


class LaneTable:
    """All lanes by worker. Tasks that a worker loses are requeued, unless another worker claims them."""

    def __init__(self, task_store: TaskStore) -> None:
        self._task_store = task_store
        self._lanes: dict[str, WorkerLane] = {}
        self.suspects = CrashSuspects()
        self.parked_at = 0.0
        """When the last worker left because the run is over; its tasks were parked then."""

    def __iter__(self) -> Iterator[WorkerLane]:
        return iter(list(self._lanes.values()))

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def size(self) -> int:
        """Bytes of all records that workers hold."""
        return sum(lane.size for lane in self._lanes.values())

    def get(self, worker: str) -> WorkerLane | None:
        return self._lanes.get(worker)

    def add(self, lane: WorkerLane) -> None:
        """Add the lane of a worker, which is no longer lost."""
        self.suspects.on_worker_returned(lane.worker)
        self._lanes[lane.worker] = lane

    def close(self, lane: WorkerLane, due: float) -> None:
        """Remove the lane and requeue its tasks, to be sent at `due` or later."""
        del self._lanes[lane.worker]
        self.requeue(lane, [replace(span, due=due) for span in lane.assigned_ranges.values()])

    def suspect(self, lane: WorkerLane) -> None:
        """Suspect the tasks of a lost worker, since one of them may have crashed it."""
        self.suspects.on_worker_lost(lane.worker, lane.unfinished(), is_isolated=lane.isolation == "alone")

    def resume_parked(self, parked_before: float) -> None:
        """Make parked tasks due: an Ack so much later means that the run is not over."""
        if self.parked_at <= parked_before:
            self._task_store.release_delayed()

    def settle(self, settled: RangeSet) -> None:
        """Remove settled tasks."""
        self.suspects.forget(settled)
        for lane in self._lanes.values():
            lane.settle(settled, self._task_store.record_format)

    def retry(self, attempt_range: AttemptRange, due: float) -> None:
        """Requeue failed tasks with their next attempt."""
        spans = [
            span
            for lane in self._lanes.values()
            for span in lane.take_for_retry(attempt_range, self._task_store.record_format, due)
        ]
        for span in (*spans, *self._task_store.take_for_retry(attempt_range, due)):
            self._task_store.requeue(span)

    def claimed_tasks(self) -> RangeSet:
        """Return all tasks that any worker claims to hold."""
        return RangeSet(part for lane in self._lanes.values() for part in lane.claims)

    def reconcile(self, lane: WorkerLane, heartbeat: Heartbeat) -> None:
        """Requeue assigned tasks that the worker does not hold, and assign requeued tasks that it holds."""
        self.requeue(lane, lane.reconcile(heartbeat, self._task_store.record_format, self._task_store.attempts))
        self.claim(lane)

    def claim(self, lane: WorkerLane) -> None:
        """Assign requeued tasks to this lane that its worker claims to hold."""
        for span in self._task_store.remove_claimed(lane.claims):
            lane.hold(replace(span, lane=0, sequence=0))

    def requeue(self, lost_lane: WorkerLane, spans: list[RecordRange]) -> None:
        """Requeue tasks of a lane, except those that another worker claims to hold."""
        for span in spans:
            self._task_store.requeue(span)
        for lane in self._lanes.values() if spans else ():
            if lane is not lost_lane:
                self.claim(lane)


CHUNK_WORK_SECONDS = 0.05
"""Run time of one slot that a chunk should contain."""
MIN_CHUNK_DIVISOR = 10
"""A chunk has at least this fraction of the tasks for CHUNK_WORK_SECONDS, since each chunk costs a round trip."""
MAX_CHUNK_GROWTH = 4
"""Factor by which a chunk grows at most from one measurement to the next."""
MAX_CHUNK_BYTES = 512 << 10
"""Bytes above which a chunk gets no further record; a larger record is sent whole."""
MAX_IN_FLIGHT_BYTES = 8 << 20
"""Bytes in flight above which a lane is sent nothing. The worker's credit and the window limit the rest."""
MAX_ASSIGNED_CHUNKS = 4096
"""Chunks assigned to a worker at most: each needs space in its heartbeats, and time to be reconciled."""
UNREACHABLE_SECONDS = 2.0
"""Seconds after which a worker without a connection counts as lost."""


class WorkerLane:
    """Lane of one worker, as the ventilator sees it."""

    def __init__(self, number: int, heartbeat: Heartbeat, peer: bytes, now: float) -> None:
        self.number, self.worker, self.peer = number, heartbeat.worker, peer
        self.endpoint = ""
        """Endpoint of the lane; empty until it is bound."""
        self.sequence, self.credit_limit = 0, 0
        self.last_heartbeat_time, self.unreachable_since = now, NEVER
        self.claims = RangeSet()
        """Tasks that the worker claims to hold, finished or not."""
        self.unacked = RangeSet()
        """Claimed tasks that have finished."""
        self.assigned_ranges: dict[int, RecordRange] = {}
        self.size = 0
        self.chunk_tasks = 1
        self.isolation: Literal["", "draining", "alone"] = ""
        """Whether the worker is drained to be sent one suspect alone, or has it."""
        self._done_count, self._in_flight = heartbeat.done_count, InFlight(now)

    def on_heartbeat(self, heartbeat: Heartbeat, peer: bytes, now: float) -> None:
        """Apply a heartbeat, except for the tasks that it contains (see `reconcile`)."""
        self.peer, self.last_heartbeat_time, self.unreachable_since = peer, now, NEVER
        if heartbeat.lane == self.number:
            self.credit_limit = heartbeat.credit_limit
            self._in_flight.acknowledge(heartbeat.last_sequence, now)
        else:
            self.credit_limit = max(0, heartbeat.credit_limit - heartbeat.last_sequence)
        if heartbeat.done_count != self._done_count and heartbeat.seconds_per_task:
            wanted = int(CHUNK_WORK_SECONDS / heartbeat.seconds_per_task)
            self.chunk_tasks = max(1, min(self.chunk_tasks * MAX_CHUNK_GROWTH, wanted))
            self._done_count = heartbeat.done_count

    def free_credit(self) -> int:
        """Return how many chunks may be sent now: none during isolation."""
        if self.isolation == "alone" and not self.assigned_ranges:
            self.isolation = ""
        return 0 if self.isolation else self.allowance()

    def allowance(self) -> int:
        """Return how many chunks the worker accepts now."""
        if not self.endpoint or self._in_flight.size >= MAX_IN_FLIGHT_BYTES:
            return 0
        return max(0, min(self.credit_limit - self.sequence, MAX_ASSIGNED_CHUNKS - len(self.assigned_ranges)))

    def assign(self, span: RecordRange, now: float) -> RecordRange:
        """Assign records to the worker, under the next sequence of the lane."""
        self.sequence += 1
        self._in_flight.on_sent(self.sequence, len(span.body), now)
        sent = replace(span, lane=self.number, sequence=self.sequence, due=0.0, avoid_worker="")
        self.hold(sent)
        return sent

    def hold(self, span: RecordRange) -> None:
        """Add records that the worker holds."""
        self.assigned_ranges[span.first] = span
        self.size += len(span.body)

    def settle(self, settled: RangeSet, record_format: RecordFormat) -> None:
        """Remove the records of settled tasks."""
        self._retain(lambda span: settled.gaps(span.first, span.end), record_format)

    def reconcile(
        self, heartbeat: Heartbeat, record_format: RecordFormat, attempts: AttemptCounts
    ) -> list[RecordRange]:
        """Remove and return records that were sent before this heartbeat, and that the worker does not hold."""
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
        """Remove records of an earlier attempt, and return them with the later one, preferably for another worker."""
        self.claims.remove(attempt_range.low, attempt_range.high)
        taken: list[RecordRange] = []

        def remaining_ranges(span: RecordRange) -> list[tuple[int, int]]:
            is_outdated = span.attempt < attempt_range.attempt
            outdated = RangeSet([(attempt_range.low, attempt_range.high)] if is_outdated else ())
            taken.extend(slice_records(span, outdated.intersection(span.first, span.end), record_format))
            return outdated.gaps(span.first, span.end)

        self._retain(remaining_ranges, record_format)
        return [
            replace(span, attempt=attempt_range.attempt, due=due, avoid_worker=self.worker, lane=0, sequence=0)
            for span in taken
        ]

    def unfinished(self) -> RangeSet:
        """Return the assigned tasks that are not known to have finished."""
        tasks = RangeSet((span.first, span.end) for span in self.assigned_ranges.values())
        tasks.difference_update(self.unacked)
        return tasks

    def is_stalled(self, now: float) -> bool:
        """Return whether the lane carries nothing while heartbeats arrive, so that it needs a new connection."""
        return self.endpoint != "" and self._in_flight.is_stalled(self.last_heartbeat_time, now)

    def rebind(self, number: int) -> None:
        """Begin a new connection under a new number. Tasks in flight stay assigned until the next heartbeat of it."""
        self.number, self.endpoint, self.sequence, self.credit_limit = number, "", 0, 0
        self._in_flight.reset()

    def is_silent(self, now: float, heartbeat_timeout: float) -> bool:
        """Return whether the worker counts as lost."""
        return now - self.last_heartbeat_time > heartbeat_timeout or now - self.unreachable_since > UNREACHABLE_SECONDS

    def _retain(
        self, remaining_ranges: Callable[[RecordRange], list[tuple[int, int]]], record_format: RecordFormat
    ) -> None:
        for span in list(self.assigned_ranges.values()):
            ranges = remaining_ranges(span)
            if ranges == [(span.first, span.end)]:
                continue
            del self.assigned_ranges[span.first]
            self.size -= len(span.body)
            for part in slice_records(span, ranges, record_format):
                self.hold(part)


def valid_claims(heartbeat: Heartbeat, attempts: AttemptCounts) -> RangeSet:
    """Return the tasks that a worker claims to hold, except those of an attempt that is known to have failed."""
    claims = RangeSet((*heartbeat.unfinished, *heartbeat.unacked))
    claimed_attempts = AttemptCounts(heartbeat.attempts)
    for run in attempts.select_failed(claims):
        claims.difference_update(claimed_attempts.find_below(run.low, run.high, run.attempt))
    return claims


def chunk_task_count(lane: WorkerLane, available_tasks: int, credit: int, fixed_count: int | None) -> int:
    """Return how many tasks the next chunk gets: enough for the worker's speed, at most its share of all."""
    share = ceil(available_tasks / max(1, credit))
    return fixed_count or max(1, min(lane.chunk_tasks, max(lane.chunk_tasks // MIN_CHUNK_DIVISOR, share)))


STALL_SECONDS, MIN_BYTES_PER_SECOND = 3.0, 1e6
"""A chunk is overdue after STALL_SECONDS plus the time for its bytes at MIN_BYTES_PER_SECOND."""


class InFlight:
    """Chunks of one lane that were sent and not acknowledged by a heartbeat, in order of their sequence."""

    def __init__(self, now: float) -> None:
        self.size = 0
        self._unseen_chunks: list[tuple[int, int]] = []
        self._oldest_since, self._timeout_factor = now, 1.0

    def on_sent(self, sequence: int, size: int, now: float) -> None:
        if not self._unseen_chunks:
            self._oldest_since = now
        self._unseen_chunks.append((sequence, size))
        self.size += size

    def acknowledge(self, sequence: int, now: float) -> None:
        """Remove the chunks up to this sequence."""
        if self._unseen_chunks and sequence >= self._unseen_chunks[0][0]:
            # Any progress restarts the timeout, so that a slow connection is not replaced.
            self._timeout_factor, self._oldest_since = 1.0, now
            self._unseen_chunks = [unseen for unseen in self._unseen_chunks if unseen[0] > sequence]
            self.size = sum(size for _, size in self._unseen_chunks)

    def is_stalled(self, last_heartbeat_time: float, now: float) -> bool:
        """Return whether the oldest chunk is overdue, although a heartbeat has arrived since it was sent."""
        if not self._unseen_chunks:
            return False
        _, size = self._unseen_chunks[0]
        timeout = (STALL_SECONDS + size / MIN_BYTES_PER_SECOND) * self._timeout_factor
        return last_heartbeat_time > self._oldest_since and now - self._oldest_since > timeout

    def reset(self) -> None:
        """Forget what the replaced connection carried, and wait twice as long before the next replacement."""
        self._unseen_chunks.clear()
        self.size = 0
        self._timeout_factor *= 2
