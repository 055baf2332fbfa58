"""State machine of the worker; connections, shutdown, activity reports.

A worker's four connections: who is silent, what the person is told, and what is made anew.

libzmq retries a lost connection, but never after a protocol error, and a half-open one looks alive to it. So what has
carried nothing for too long is replaced: repair is a new socket.

A worker's way out: who asked it to leave, and when it goes.

The end of a run replaces a wish that only this worker leave. Nothing here sends.

What a worker runs now, for those who look on: the executor is asked at each beat, and the sink is told.

A person may ask, too. Nothing depends on it; a glance that is lost is followed by another.

The worker: lane to executor to sink, and a pulse that says all it holds.

It keeps a result until the sink's Ack answers for it, runs nothing twice that it still holds, gives back what it can't
start soon, and ends at KILL, when asked to leave, or when nobody has answered for its patience. It never decides
what a task's outcome means, and never sends more than it was asked.
"""

from __future__ import annotations

from typing import Literal

from pipeline.model import errors
from pipeline.model.events import (
    CancelTasks,
    ExecutorFailed,
    QueryActivity,
    Reconnect,
    ReleaseQueued,
    StatusReport,
    StatusRequested,
    TasksFinished,
    TasksReleased,
    VersionMismatch,
)
from pipeline.model.messages import (
    Ack,
    Chunk,
    Kill,
    PartialOutput,
    RecordFormat,
    Registration,
    StopRequest,
    WorkerActivity,
)
from pipeline.model.ranges import settled_ranges
from pipeline.model.results import slice_result
from pipeline.model.state_machine import NEVER, Handlers, Message, PeerMonitor, Port, Send
from pipeline.model.structs import replace
from pipeline.worker.heartbeat import HeartbeatSender, WorkerIdentity
from pipeline.worker.held_tasks import HeldTasks, UnackedResults


class Connections:
    """Desk, results and control, as their silence shows them. The lane is the ventilator's to replace."""

    def __init__(self, now: float, peer_timeout: float) -> None:
        self.ventilator_monitor = PeerMonitor("ventilator", now, peer_timeout)
        self.sink_monitor = PeerMonitor("sink", now, peer_timeout)
        self._results_reconnect_time = now

    def deadline(self, *, has_run: bool) -> float:
        """When somebody's silence becomes worth a word."""
        return min(self.ventilator_monitor.deadline, self.sink_monitor.deadline if has_run else NEVER)

    def tick(self, now: float, *, has_run: bool) -> list[Send]:
        """Tell the person who is missing."""
        return [*self.ventilator_monitor.tick(now), *(self.sink_monitor.tick(now) if has_run else [])]

    def timeout_reason(self, now: float) -> str:
        """Who has not answered for longer than patience lasts; empty if nobody."""
        if self.ventilator_monitor.is_lost(now):
            return "the ventilator did not answer any more"
        return "the sink did not answer any more" if self.sink_monitor.is_lost(now) else ""

    def connect_sink(self, registration: Registration, now: float) -> list[Send]:
        """Where the sink is; its silence counts from now."""
        self.ventilator_monitor.interval = self.sink_monitor.interval = registration.heartbeat_interval
        self.sink_monitor.restart(now)
        return [
            Send(Port.RESULTS, Reconnect(registration.results_endpoint)),
            Send(Port.CONTROL, Reconnect(registration.control_endpoint)),
        ]

    def due_reconnects(
        self, now: float, heartbeat_interval: float, heartbeat_timeout: float, unacked_results: UnackedResults | None
    ) -> list[Send]:
        """The connections to make anew now; `unanswered` is None before a run was joined."""
        sends = []
        if self.ventilator_monitor.is_reconnect_due(now, 3 * heartbeat_interval):
            sends.append(Send(Port.REGISTRY, Reconnect()))
        if unacked_results is None:
            return sends
        if self.sink_monitor.is_reconnect_due(now, 5 * heartbeat_interval):
            sends.append(Send(Port.CONTROL, Reconnect()))
        oldest = unacked_results.oldest_sent_time()
        waits = (
            oldest is not None
            and now - oldest > heartbeat_timeout
            and now - self._results_reconnect_time > heartbeat_timeout
        )
        if waits and not self.sink_monitor.is_silent_for(now, 5 * heartbeat_interval):
            self._results_reconnect_time = now
            sends.append(Send(Port.RESULTS, Reconnect()))
        return sends


class Shutdown:
    """A worker's: it was asked to leave, or the run ends soon; it goes when it holds nothing any more."""

    def __init__(self) -> None:
        self.stop_reason, self.exit_code = "", errors.OK
        self.has_begun = self.is_this_worker_only = self.is_run_over = False
        """`alone`: only this worker leaves; the run goes on without it. `over`: it was told that the run is over."""

    def on_run_ending(self, kill: Kill) -> bool:
        """The run ends soon; False if that is no news."""
        news = not self.has_begun or self.is_this_worker_only
        self.has_begun, self.is_this_worker_only, self.stop_reason, self.exit_code = True, False, kill.reason, errors.OK
        return news

    def on_stop_request(self, stop: StopRequest) -> Literal["soon", "now"]:
        """Somebody sent a signal: what runs is finished and answered first; asked again, it is killed."""
        again = self.has_begun and self.is_this_worker_only
        self.stop_reason, self.exit_code = stop.reason, errors.stop_exit_code(stop.reason)
        self.has_begun = self.is_this_worker_only = True
        return "now" if again else stop.mode


def reason_to_end(
    shutdown: Shutdown, held_tasks: HeldTasks, connections: Connections, now: float, heartbeat_timeout: float
) -> tuple[int, str] | None:
    """Why a worker goes now, if it does: exit code and reason."""
    if lost := connections.timeout_reason(now):
        return errors.INCOMPLETE, lost
    if not shutdown.has_begun:
        return None
    if held_tasks.is_empty:
        return shutdown.exit_code, shutdown.stop_reason
    if not held_tasks.unfinished.task_count and connections.sink_monitor.is_silent_for(now, heartbeat_timeout):
        return errors.INCOMPLETE, "results were left that no sink answered for"
    return None


class ActivityReporter:
    """Of the worker of this name."""

    def __init__(self, worker: str) -> None:
        self._worker, self._is_status_requested = worker, False

    def query_activity(self, *, has_run: bool = True) -> list[Send]:
        """Ask the executor; `joined`: there is a run."""
        return [Send(Port.EXECUTOR, QueryActivity())] if has_run else []

    def on_status_request(self) -> list[Send]:
        """A person wants to know."""
        self._is_status_requested = True
        return self.query_activity()

    def on_activity(self, glance: WorkerActivity, *, has_run: bool) -> list[Send]:
        """The executor has answered; `joined`: there is a run, and a sink to be told."""
        glance = replace(glance, worker=self._worker)
        asked, self._is_status_requested = self._is_status_requested, False
        told = [Send(Port.USER, StatusReport(glance))] if asked else []
        return [*told, *([Send(Port.RESULTS, glance)] if has_run else [])]


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
