"""The worker: lane to executor to sink, and a pulse that says all it holds.

It keeps a result until the sink's Ack answers for it, runs nothing twice that it still holds, gives back what it can't
start soon, and ends at KILL, when asked to leave, or when nobody has answered for its patience. It never decides
what a task's outcome means, and never sends more than it was asked.
"""

from __future__ import annotations

from pipeline.words import errors
from pipeline.words.errands import (
    CancelTasks,
    ExecutorFailed,
    ReleaseQueued,
    TasksFinished,
    TasksReleased,
    VersionMismatch,
)
from pipeline.words.messages import Ack, Chunk, Kill, PartialOutput, Registration, StopRequest, WorkerActivity
from pipeline.words.notices import StatusRequested
from pipeline.words.parts import RecordFormat
from pipeline.words.ranges import settled_ranges
from pipeline.words.results import slice_result
from pipeline.words.station import Handlers, Message, Port, Send
from pipeline.words.structs import replace
from pipeline.worker.departure import Shutdown, reason_to_end
from pipeline.worker.glances import ActivityReporter
from pipeline.worker.held import HeldTasks
from pipeline.worker.ties import Connections
from pipeline.worker.voice import HeartbeatSender, WorkerIdentity

ALL_TASKS = ((0, 1 << 62),)


class Worker:
    """One life of one worker: what it is told, and when it ends."""

    def __init__(self, identity: WorkerIdentity, now: float, peer_timeout: float = 600.0) -> None:
        self.done, self.exit_code, self.stop_reason = False, errors.OK, ""
        self.held_tasks = HeldTasks(identity.slots, now)
        self.connections = Connections(now, peer_timeout)
        self.heartbeat_sender = HeartbeatSender(identity, self.held_tasks, now)
        self.record_format = RecordFormat()
        self.shutdown = Shutdown()
        self.activity_reporter = ActivityReporter(identity.name)
        self._handlers: Handlers = {
            TasksFinished: self._on_tasks_finished,
            Chunk: self._on_chunk,
            Ack: self._on_ack,
            Registration: self._on_registration,
            Kill: self._on_kill,
            TasksReleased: lambda word, _: self.heartbeat_sender.on_tasks_released(word),
            StopRequest: lambda word, _: self._drain(self.shutdown.on_stop_request(word)),
            PartialOutput: lambda word, _: self.heartbeat_sender.on_output_lines(word),
            WorkerActivity: lambda word, _: self.activity_reporter.on_activity(
                word, has_run=bool(self.heartbeat_sender.run)
            ),
            StatusRequested: lambda *_: self.activity_reporter.on_status_request(),
            ExecutorFailed: lambda word, _: self._stop(word.exit_code, word.reason),
            VersionMismatch: lambda word, _: self._stop(errors.INCOMPLETE, errors.version_mismatch_text(word.version)),
        }

    @property
    def deadline(self) -> float:
        """The next pulse; or at once, when there is something to say."""
        if self.heartbeat_sender.is_urgent:
            return 0.0
        return min(
            self.heartbeat_sender.next_heartbeat_time,
            self.held_tasks.deadline,
            self.connections.deadline(has_run=bool(self.heartbeat_sender.run)),
        )

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word."""
        hear = self._handlers.get(type(message))
        return hear(message, now) if hear else []

    def tick(self, now: float) -> list[Send]:
        """Say what is due: the pulse, repairs, the unstarted given back, an end."""
        sends = self.connections.tick(now, has_run=bool(self.heartbeat_sender.run))
        if end := reason_to_end(
            self.shutdown, self.held_tasks, self.connections, now, self.heartbeat_sender.heartbeat_timeout
        ):
            return sends + self._stop(*end)
        sends += self.held_tasks.tick(now)
        if now >= self.heartbeat_sender.next_heartbeat_time:
            unanswered = self.held_tasks.unacked_results if self.heartbeat_sender.run else None
            sends += self.connections.due_reconnects(
                now, self.heartbeat_sender.heartbeat_interval, self.heartbeat_sender.heartbeat_timeout, unanswered
            ) + self.activity_reporter.query_activity(has_run=bool(self.heartbeat_sender.run))
        return sends + self.heartbeat_sender.tick(now, can_request=not self.shutdown.has_begun)

    def _on_registration(self, registration: Registration, now: float) -> list[Send]:
        sends = self.connections.ventilator_monitor.record_message(now)
        if registration.state == "refused":
            return sends + self._stop(errors.USAGE, f"refused: {registration.reason}")
        if registration.state == "over":
            self.shutdown.is_run_over = True
            return sends if self.shutdown.has_begun else sends + self._stop(errors.OK, registration.reason)
        if registration.run != self.heartbeat_sender.run:
            sends += self._join_run(registration, now)
        return sends + self.heartbeat_sender.on_registration(registration)

    def _join_run(self, registration: Registration, now: float) -> list[Send]:
        """Another run than before: what was held of the old one is dropped."""
        dropped = [Send(Port.EXECUTOR, CancelTasks(ALL_TASKS))] if self.held_tasks.unfinished.task_count else []
        self.record_format = registration.record_format
        self.held_tasks.clear()
        return [
            *dropped,
            Send(Port.EXECUTOR, registration.record_format),
            *self.connections.connect_sink(registration, now),
        ]

    def _on_chunk(self, chunk: Chunk, now: float) -> list[Send]:
        if not self.heartbeat_sender.on_chunk(chunk, now) or self.shutdown.has_begun:
            return []
        stale = self.held_tasks.drop_outdated(chunk)
        cancelled = [Send(Port.EXECUTOR, CancelTasks(stale))] if stale else []
        return [
            *cancelled,
            *(Send(Port.EXECUTOR, part) for part in self.held_tasks.accept(chunk, self.record_format, now)),
        ]

    def _on_tasks_finished(self, tasks_finished: TasksFinished, now: float) -> list[Send]:
        if not self.held_tasks.finish(tasks_finished, now):
            return []
        result = self.heartbeat_sender.make_result(tasks_finished)
        sends = []
        for run in self.held_tasks.attempts.split_by_attempt(result.first, result.first + result.count):
            (part,) = slice_result(result, [(run.low, run.high)])
            part = replace(part, attempt=run.attempt) if run.attempt else part
            self.held_tasks.unacked_results.add(part, self.heartbeat_sender.heartbeat_number, now)
            sends.append(Send(Port.RESULTS, part))
        return sends

    def _on_ack(self, ack: Ack, now: float) -> list[Send]:
        if ack.run != self.heartbeat_sender.run:
            return []
        sends = self.connections.sink_monitor.record_message(now)
        elsewhere = self.held_tasks.settle(settled_ranges(ack.low_watermark, ack.ranges), ack.retries)
        if elsewhere:
            sends.append(Send(Port.EXECUTOR, CancelTasks(elsewhere)))
        for again in self.heartbeat_sender.on_ack(ack):
            sends += self.held_tasks.unacked_results.resend(again, self.heartbeat_sender.heartbeat_number, now)
        self.heartbeat_sender.is_urgent = self.heartbeat_sender.is_urgent or bool(elsewhere) or self.shutdown.has_begun
        return sends

    def _on_kill(self, kill: Kill, now: float) -> list[Send]:
        if kill.run != self.heartbeat_sender.run and (
            self.heartbeat_sender.run
            or not self.connections.ventilator_monitor.is_silent_for(now, self.heartbeat_sender.heartbeat_timeout)
        ):
            return []  # another run's; or not welcomed yet, and the desk may still answer
        self.shutdown.is_run_over = True
        if kill.mode != "soon":
            return self._stop(errors.OK, kill.reason)
        return self._drain("soon") if self.shutdown.on_run_ending(kill) else []

    def _drain(self, mode: str) -> list[Send]:
        """Nothing new starts; what runs is finished and answered first, or killed."""
        self.heartbeat_sender.is_urgent = True
        if mode == "now":
            return self._stop(self.shutdown.exit_code, self.shutdown.stop_reason)
        return [Send(Port.EXECUTOR, ReleaseQueued())]

    def _stop(self, exit_code: int, reason: str) -> list[Send]:
        self.done, self.exit_code, self.stop_reason = True, exit_code, reason
        return [
            Send(Port.EXECUTOR, CancelTasks(ALL_TASKS)),
            *self.heartbeat_sender.goodbye(is_run_over=self.shutdown.is_run_over),
        ]
