"""Heartbeats: what is held, how much credit is requested.

How much a worker asks for: enough that no slot waits, no more than would hold back others.

Credit is said as the highest lane sequence that may be sent, so a lost or doubled pulse changes nothing. Tasks longer
than LONG are bound late, one to an idle slot; shorter ones are asked ahead, by what covers one way to the desk and
back.

What a worker says of itself: pulses, with all that it holds and what more it may be sent.

A pulse leaves at each interval, to desk and sink, and to the desk at once when a slot or a good part of the credit
waits. It is the whole truth of its moment, so that losing one costs an interval and nothing else.
"""

from __future__ import annotations

from math import ceil

from msgspec import Struct

from pipeline.model.events import Reconnect, TasksFinished, TasksReleased
from pipeline.model.messages import (
    Ack,
    Chunk,
    Goodbye,
    Heartbeat,
    PartialOutput,
    Registration,
    ResendRequest,
    Result,
    Shape,
)
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.worker.held_tasks import HeldTasks

LONG_TASK_SECONDS = 0.020
"""Seconds a task; longer ones are never asked ahead."""

MAX_PREFETCH_CHUNKS = 256
"""Chunks asked ahead at most, however short."""

MAX_ROUND_TRIP_SECONDS = 0.020
"""Seconds. A slow input looks like a slow lane, and must not make a worker hoard."""


class CreditEstimator:
    """What one worker may be sent, from what it has measured."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.seconds_per_task = 0.0
        """Seconds a task, a moving mean; 0 until one has finished."""
        self._tasks_per_chunk = 1.0
        self._round_trip_seconds = 0.002
        self._pending_request: tuple[int, float] | None = None

    def on_tasks_finished(self, tasks: int, seconds: float) -> None:
        """`tasks` ended after `seconds` of run time in all."""
        latest = max(seconds, 1e-7) / tasks
        self.seconds_per_task = (
            latest
            if not self.seconds_per_task
            else self.seconds_per_task + (latest - self.seconds_per_task) * min(0.5, tasks * 0.1)
        )

    def on_chunk(self, sequence: int, tasks: int, now: float) -> None:
        """A chunk arrived."""
        self._tasks_per_chunk += (tasks - self._tasks_per_chunk) / 4
        if self._pending_request and sequence >= self._pending_request[0]:
            measured = min(now - self._pending_request[1], MAX_ROUND_TRIP_SECONDS)
            self._round_trip_seconds += (measured - self._round_trip_seconds) / 4
            self._pending_request = None

    def on_heartbeat_sent(self, credit_limit: int, now: float) -> None:
        """A pulse left that allows sequences up to `allowed`."""
        if self._pending_request is None:
            self._pending_request = (credit_limit, now)

    def chunks_to_request(self, unfinished: int) -> int:
        """How many more chunks to ask for, with so many tasks unfinished."""
        idle = max(0, self.slots - unfinished)
        if not self.seconds_per_task or self.seconds_per_task > LONG_TASK_SECONDS:
            return idle
        chunks = ceil(unfinished / max(1.0, self._tasks_per_chunk))
        return max(idle, self.slots + self.prefetch_chunks() - chunks)

    def prefetch_chunks(self) -> int:
        """Chunks that cover one round trip."""
        one = max(self.seconds_per_task * self._tasks_per_chunk / self.slots, 20e-6)
        return min(MAX_PREFETCH_CHUNKS, 1 + ceil(self._round_trip_seconds / one))


REPORT_AFTER_BYTES = 2 << 20
"""Bytes of chunks that have come, past which that is said: a quarter of what a lane may have under way."""
MAX_UNACKED_BYTES = 64 << 20
"""Bytes of unanswered results past which nothing new is asked for."""


class WorkerIdentity(Struct, frozen=True):
    """Who a worker is: its name, new at each start; what it runs, as a digest and as text; its slots."""

    name: str
    digest: str
    command: str
    slots: int


class HeartbeatSender:
    """What a worker says of itself: its pulses, numbered, with what it holds and what more it may be sent."""

    def __init__(self, identity: WorkerIdentity, held_tasks: HeldTasks, now: float) -> None:
        self.identity = identity
        self.run, self.lane, self.last_sequence, self.last_ack_number, self.heartbeat_number, self.done_count = (
            "",
            0,
            0,
            0,
            0,
            0,
        )
        self.heartbeat_interval, self.heartbeat_timeout = 1.0, 10.0
        self.is_urgent, self.next_heartbeat_time, self._unreported_bytes = True, now, 0
        self._shape: Shape = "line"
        self._held_tasks, self._credit_estimator, self._sent_credit_limit, self._is_new_run = (
            held_tasks,
            CreditEstimator(identity.slots),
            0,
            False,
        )

    def on_registration(self, registration: Registration) -> list[Send]:
        """To a run, and to a lane."""
        self.heartbeat_interval, self.heartbeat_timeout = (
            registration.heartbeat_interval,
            registration.heartbeat_timeout,
        )
        if registration.run != self.run:
            self.run, self.last_ack_number, self.lane, self._is_new_run = registration.run, 0, 0, True
            self._shape = registration.record_format.shape
        if registration.lane <= self.lane:
            return []
        self.lane, self.last_sequence, self._sent_credit_limit, self.is_urgent = registration.lane, 0, 0, True
        return [Send(Port.LANES, Reconnect(registration.lane_endpoint))]

    def on_chunk(self, chunk: Chunk, now: float) -> bool:
        """A chunk came; False if it is none of this run and lane."""
        if chunk.run != self.run or chunk.lane != self.lane:
            return False
        self.last_sequence = max(self.last_sequence, chunk.sequence)
        self._unreported_bytes += len(chunk.body)
        self.is_urgent = self.is_urgent or self._unreported_bytes >= REPORT_AFTER_BYTES
        self._credit_estimator.on_chunk(chunk.sequence, chunk.count, now)
        return True

    def on_ack(self, ack: Ack) -> list[ResendRequest]:
        """Take in the number of an Ack; what it asks of this worker."""
        self.last_ack_number = ack.number
        return [again for again in ack.resend if again.worker == self.identity.name]

    def make_result(self, tasks_finished: TasksFinished) -> Result:
        """What the sink is told of tasks that have ended."""
        self._credit_estimator.on_tasks_finished(tasks_finished.result.count, tasks_finished.seconds)
        self.done_count += tasks_finished.result.count
        self.is_urgent = True
        return replace(tasks_finished.result, run=self.run, worker=self.identity.name, shape=self._shape)

    def on_output_lines(self, part: PartialOutput) -> list[Send]:
        """What the sink is told of a task that still runs; what is lost of it comes with the result."""
        return [Send(Port.RESULTS, part)] if self._held_tasks.unfinished.covers(part.task, part.task + 1) else []

    def on_tasks_released(self, tasks_released: TasksReleased) -> list[Send]:
        """The executor has not started these, and the next pulse says so."""
        self._held_tasks.release(tasks_released.ranges)
        self.is_urgent = True
        return []

    def goodbye(self, *, is_run_over: bool) -> list[Send]:
        """The last word, to desk and sink."""
        bye = Goodbye(self.identity.name, is_run_over)
        return [Send(Port.REGISTRY, bye), *([Send(Port.RESULTS, bye)] if self.run else [])]

    def tick(self, now: float, *, can_request: bool) -> list[Send]:
        """A pulse at each interval, to desk and sink; and one to the desk when there is something to ask for."""
        self.is_urgent = False
        allowed = self._credit_limit() if can_request else self.last_sequence
        beat = now >= self.next_heartbeat_time or self._is_new_run
        more, self._is_new_run = allowed - self._sent_credit_limit, False
        hungry = more > 0 and (
            self._held_tasks.idle_slots or more >= max(1, self._credit_estimator.prefetch_chunks() // 4)
        )
        # the ventilator counts as under way what it has not heard of as seen, and stops at so many bytes
        arrived = self._unreported_bytes >= REPORT_AFTER_BYTES or (
            self._unreported_bytes and not self._held_tasks.unfinished.task_count
        )
        if not beat and not hungry and not arrived:
            return []
        self._unreported_bytes = 0
        if more > 0:
            self._credit_estimator.on_heartbeat_sent(allowed, now)
        self._sent_credit_limit = allowed
        pulse = self._make_heartbeat()
        if not beat:
            return [Send(Port.REGISTRY, pulse)]
        self.next_heartbeat_time = now + self.heartbeat_interval
        return [Send(Port.REGISTRY, pulse), *([Send(Port.RESULTS, pulse)] if self.run else [])]

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
