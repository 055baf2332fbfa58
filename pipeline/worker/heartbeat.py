"""Heartbeats of a worker: which tasks it holds, and how many more chunks it requests.

Theory of operation:
  - A heartbeat goes to ventilator and sink at each interval, and to the ventilator at once when a slot is idle or when
    much credit or many received bytes are not reported yet.
  - A heartbeat carries the whole state of the worker, so a lost one costs an interval and nothing else.
  - Credit is the highest lane sequence that may be sent, so a lost or duplicated heartbeat changes nothing.
  - Tasks longer than LONG_TASK_SECONDS are bound late, one to an idle slot. Shorter ones are requested ahead, enough to
    cover one round trip to the ventilator.
"""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from pipeline.model.events import Reconnect, TasksFinished
from pipeline.model.messages import Ack, Chunk, Goodbye, Heartbeat, Registration, ResendRequest, Result, Shape
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.worker.held_tasks import HeldTasks

REPORT_AFTER_BYTES = 2 << 20
"""Received bytes that are reported at once: a quarter of what the ventilator keeps in flight on a lane."""
MAX_UNACKED_BYTES = 64 << 20
"""Bytes of unacknowledged results above which no task is requested."""


class WorkerIdentity(Struct, frozen=True):
    """Name of a worker, new at each start; its command as digest and text; its number of slots."""

    name: str
    digest: str
    command: str
    slots: int


class HeartbeatSender:
    """Numbered heartbeats of one worker, with the run and the lane that it has joined."""

    def __init__(self, identity: WorkerIdentity, held_tasks: HeldTasks, now: float) -> None:
        self.identity = identity
        self.run = ""
        self.lane = 0
        self.last_sequence = 0
        self.last_ack_number = 0
        self.heartbeat_number = 0
        self.done_count = 0
        self.heartbeat_interval, self.heartbeat_timeout = 1.0, 10.0
        self.next_heartbeat_time = now
        self.is_urgent = True
        self._held_tasks = held_tasks
        self._credit_estimator = CreditEstimator(identity.slots)
        self._sent_credit_limit = 0
        self._unreported_bytes = 0
        self._is_new_run = False
        self._shape: Shape = "line"

    def on_registration(self, registration: Registration) -> list[Send]:
        """Join the run of this registration, and connect to its lane if that is a newer one."""
        self.heartbeat_interval = registration.heartbeat_interval
        self.heartbeat_timeout = registration.heartbeat_timeout
        if registration.run != self.run:
            self.run, self.last_ack_number, self.lane, self._is_new_run = registration.run, 0, 0, True
            self._shape = registration.record_format.shape
        if registration.lane <= self.lane:
            return []
        self.lane, self.last_sequence, self._sent_credit_limit, self.is_urgent = registration.lane, 0, 0, True
        return [Send(Port.LANES, Reconnect(registration.lane_endpoint))]

    def on_chunk(self, chunk: Chunk, now: float) -> bool:
        """Record the arrival of a chunk; return False if it belongs to another run or lane."""
        if chunk.run != self.run or chunk.lane != self.lane:
            return False
        self.last_sequence = max(self.last_sequence, chunk.sequence)
        self._unreported_bytes += len(chunk.body)
        self.is_urgent = self.is_urgent or self._unreported_bytes >= REPORT_AFTER_BYTES
        self._credit_estimator.on_chunk(chunk.sequence, chunk.count, now)
        return True

    def on_ack(self, ack: Ack) -> list[ResendRequest]:
        """Record the number of an Ack; return its requests to this worker."""
        self.last_ack_number = ack.number
        return [request for request in ack.resend if request.worker == self.identity.name]

    def make_result(self, tasks_finished: TasksFinished) -> Result:
        """Count finished tasks, and complete their result with what the executor does not know."""
        self._credit_estimator.on_tasks_finished(tasks_finished.result.count, tasks_finished.seconds)
        self.done_count += tasks_finished.result.count
        self.is_urgent = True
        return replace(tasks_finished.result, run=self.run, worker=self.identity.name, shape=self._shape)

    def goodbye(self, *, is_run_over: bool) -> list[Send]:
        """Return the last message of this worker, to ventilator and sink."""
        return self._to_peers(Goodbye(self.identity.name, is_run_over))

    def tick(self, now: float, *, can_request: bool) -> list[Send]:
        """Send a heartbeat to all peers when one is due, or to the ventilator alone when it should act on it."""
        self.is_urgent = False
        credit_limit = self._credit_limit() if can_request else self.last_sequence
        is_due = now >= self.next_heartbeat_time or self._is_new_run
        more, self._is_new_run = credit_limit - self._sent_credit_limit, False
        is_hungry = more > 0 and (
            self._held_tasks.idle_slots or more >= max(1, self._credit_estimator.prefetch_chunks() // 4)
        )
        # The ventilator counts unreported bytes as in flight, and sends nothing above its limit of these.
        must_report = self._unreported_bytes >= REPORT_AFTER_BYTES or (
            self._unreported_bytes and not self._held_tasks.unfinished.task_count
        )
        if not (is_due or is_hungry or must_report):
            return []
        self._unreported_bytes = 0
        if more > 0:
            self._credit_estimator.on_heartbeat_sent(credit_limit, now)
        self._sent_credit_limit = credit_limit
        heartbeat = self._make_heartbeat()
        if not is_due:
            return [Send(Port.REGISTRY, heartbeat)]
        self.next_heartbeat_time = now + self.heartbeat_interval
        return self._to_peers(heartbeat)

    def _to_peers(self, message: Heartbeat | Goodbye) -> list[Send]:
        return [Send(Port.REGISTRY, message), *([Send(Port.RESULTS, message)] if self.run else [])]

    def _credit_limit(self) -> int:
        if self._held_tasks.unacked_results.size > MAX_UNACKED_BYTES:
            return self.last_sequence
        return self.last_sequence + (
            self._held_tasks.idle_slots
            if self._held_tasks.is_stalled
            else self._credit_estimator.chunks_to_request(self._held_tasks.unfinished.task_count)
        )

    def _make_heartbeat(self) -> Heartbeat:
        self.heartbeat_number += 1
        return Heartbeat(
            worker=self.identity.name,
            number=self.heartbeat_number,
            run=self.run,
            digest=self.identity.digest,
            command=self.identity.command,
            slots=self.identity.slots,
            lane=self.lane,
            last_sequence=self.last_sequence,
            credit_limit=self._sent_credit_limit,
            unfinished=self._held_tasks.unfinished.ranges(),
            unacked=self._held_tasks.unacked_results.tasks.ranges(),
            last_ack_number=self.last_ack_number,
            seconds_per_task=self._credit_estimator.seconds_per_task,
            done_count=self.done_count,
            attempts=self._held_tasks.attempt_ranges(),
        )


LONG_TASK_SECONDS = 0.020
"""Tasks that take longer are never requested ahead."""
MAX_PREFETCH_CHUNKS = 256
"""Chunks requested ahead at most, however short their tasks are."""
MAX_ROUND_TRIP_SECONDS = 0.020
"""Upper bound of a measured round trip. Slow input looks like a slow lane, and must not make a worker hold tasks back
from others."""


class CreditEstimator:
    """Number of chunks that keeps all slots busy, estimated from task times and round trips."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.seconds_per_task = 0.0
        """Moving mean; 0 until a task has finished."""
        self._tasks_per_chunk = 1.0
        self._round_trip_seconds = 0.002
        self._pending_request: tuple[int, float] | None = None
        """Credit limit and time of the heartbeat whose round trip is being measured."""

    def on_tasks_finished(self, tasks: int, seconds: float) -> None:
        """Learn from `tasks` tasks that took `seconds` of run time in total."""
        latest = max(seconds, 1e-7) / tasks
        weight = min(0.5, tasks * 0.1) if self.seconds_per_task else 1.0
        self.seconds_per_task += (latest - self.seconds_per_task) * weight

    def on_chunk(self, sequence: int, tasks: int, now: float) -> None:
        """Learn from the size of a chunk, and from its round trip if it is the first that was newly allowed."""
        self._tasks_per_chunk += (tasks - self._tasks_per_chunk) / 4
        if self._pending_request and sequence >= self._pending_request[0]:
            measured = min(now - self._pending_request[1], MAX_ROUND_TRIP_SECONDS)
            self._round_trip_seconds += (measured - self._round_trip_seconds) / 4
            self._pending_request = None

    def on_heartbeat_sent(self, credit_limit: int, now: float) -> None:
        """Begin to measure a round trip, unless one is being measured."""
        if self._pending_request is None:
            self._pending_request = (credit_limit, now)

    def chunks_to_request(self, unfinished: int) -> int:
        """Return how many more chunks to request while this many tasks are unfinished."""
        idle = max(0, self.slots - unfinished)
        if not self.seconds_per_task or self.seconds_per_task > LONG_TASK_SECONDS:
            return idle
        chunks = ceil(unfinished / max(1.0, self._tasks_per_chunk))
        return max(idle, self.slots + self.prefetch_chunks() - chunks)

    def prefetch_chunks(self) -> int:
        """Return how many chunks cover one round trip."""
        chunk_seconds = max(self.seconds_per_task * self._tasks_per_chunk / self.slots, 20e-6)
        return min(MAX_PREFETCH_CHUNKS, 1 + ceil(self._round_trip_seconds / chunk_seconds))
