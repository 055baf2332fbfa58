"""State machine of the worker: lane to executor, executor to sink.

Theory of operation: the worker reports to the ventilator by heartbeats, which answers with a Registration that names a
run and a lane. Chunks arrive on the lane and go to the executor; results go to the sink, whose Acks settle them.

Invariants:
  - A result is kept until an Ack of the sink settles it.
  - A task does not run again while it is held; tasks that cannot start soon are released.
  - The worker never judges the outcome of a task, and never requests more than it has credit for.
  - It ends after a Kill, after a stop request, or when a peer has been silent for `peer_timeout` seconds.
"""

from __future__ import annotations

from typing import Literal

from pipeline.model import errors
from pipeline.model.events import (
    CancelTasks,
    ExecutorFailed,
    HaltLimit,
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

ALL_TASKS = ((0, 1 << 62),)


class Worker:
    """State machine of one worker process."""

    def __init__(self, identity: WorkerIdentity, now: float, peer_timeout: float = 600.0) -> None:
        self.done, self.exit_code, self.stop_reason = False, errors.OK, ""
        self.held_tasks = HeldTasks(identity.slots, now)
        self.connections = Connections(now, peer_timeout)
        self.heartbeat_sender = HeartbeatSender(identity, self.held_tasks, now)
        self.record_format = RecordFormat()
        self.shutdown = Shutdown()
        self._events_left = self._sent_halt_limit = 1
        """Halt events that end the run, as the latest Ack says; the limit that the executor has."""
        self._is_status_requested = False
        self._handlers: Handlers = {
            Registration: self._on_registration,
            Chunk: self._on_chunk,
            TasksFinished: self._on_tasks_finished,
            TasksReleased: self._on_tasks_released,
            PartialOutput: self._on_partial_output,
            Ack: self._on_ack,
            Kill: self._on_kill,
            StopRequest: lambda stop, _: self._drain(self.shutdown.on_stop_request(stop)),
            WorkerActivity: self._on_activity,
            StatusRequested: self._on_status_request,
            ExecutorFailed: lambda failed, _: self._stop(failed.exit_code, failed.reason),
            VersionMismatch: lambda event, _: self._stop(
                errors.INCOMPLETE, errors.version_mismatch_text(event.version)
            ),
        }

    @property
    def deadline(self) -> float:
        """Time of the next heartbeat, release or notice; 0 if something is to be reported at once."""
        if self.heartbeat_sender.is_urgent:
            return 0.0
        return min(self.heartbeat_sender.next_heartbeat_time, self.held_tasks.deadline, self.connections.deadline)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Handle one message."""
        handle = self._handlers.get(type(message))
        return handle(message, now) if handle else []

    def tick(self, now: float) -> list[Send]:
        """End if there is a reason; else send what is due: notices, releases, reconnects, heartbeats."""
        sends = self.connections.tick(now)
        sender = self.heartbeat_sender
        if end := reason_to_end(self.shutdown, self.held_tasks, self.connections, now, sender.heartbeat_timeout):
            return sends + self._stop(*end)
        sends += self.held_tasks.tick(now)
        if now >= sender.next_heartbeat_time:
            sends += self.connections.due_reconnects(
                now, sender.heartbeat_interval, sender.heartbeat_timeout, self.held_tasks.unacked_results
            )
            sends += self._query_activity()
        return sends + sender.tick(now, can_request=not self.shutdown.has_begun)

    def _on_registration(self, registration: Registration, now: float) -> list[Send]:
        sends = self.connections.ventilator_monitor.record_message(now)
        if registration.state == "refused":
            return sends + self._stop(errors.USAGE, f"rejected: {registration.reason}")
        if registration.state == "over":
            self.shutdown.is_run_over = True
            return sends if self.shutdown.has_begun else sends + self._stop(errors.OK, registration.reason)
        if registration.run != self.heartbeat_sender.run:
            sends += self._join_run(registration, now)
        return sends + self.heartbeat_sender.on_registration(registration)

    def _join_run(self, registration: Registration, now: float) -> list[Send]:
        """Drop the tasks and results of another run, and connect to the sink of this one."""
        dropped = [Send(Port.EXECUTOR, CancelTasks(ALL_TASKS))] if self.held_tasks.unfinished.task_count else []
        self.record_format = registration.record_format
        self._events_left = self._sent_halt_limit = 1
        self.held_tasks.clear()
        return [
            *dropped,
            Send(Port.EXECUTOR, registration.record_format),
            *self.connections.connect_sink(registration, now),
        ]

    def _on_chunk(self, chunk: Chunk, now: float) -> list[Send]:
        if not self.heartbeat_sender.on_chunk(chunk, now) or self.shutdown.has_begun:
            return []
        outdated = self.held_tasks.drop_outdated(chunk)
        parts = self.held_tasks.accept(chunk, self.record_format, now)
        return [
            *([Send(Port.EXECUTOR, CancelTasks(outdated))] if outdated else []),
            *(Send(Port.EXECUTOR, part) for part in parts),
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
        return [*sends, *self._limit_starts(now)]

    def _limit_starts(self, now: float) -> list[Send]:
        """Let the executor start nothing while its unsettled results may contain the one that ends the run."""
        event = self.record_format.halt_event
        limit = self._events_left - self.held_tasks.unacked_results.count_events(event) if event else 1
        if limit == self._sent_halt_limit:
            return []
        self._sent_halt_limit = limit
        self.held_tasks.pause(now, is_paused=limit <= 0)
        return [Send(Port.EXECUTOR, HaltLimit(limit))]

    def _on_tasks_released(self, tasks_released: TasksReleased, _: float) -> list[Send]:
        self.held_tasks.release(tasks_released.ranges)
        self.heartbeat_sender.is_urgent = True
        if self.shutdown.kills_tasks:  # all that had ended is reported by now
            return self._stop(self.shutdown.exit_code, self.shutdown.stop_reason)
        return []

    def _on_partial_output(self, part: PartialOutput, _: float) -> list[Send]:
        """Forward output of a running task. It is not repeated: the result contains it again."""
        return [Send(Port.RESULTS, part)] if self.held_tasks.unfinished.covers(part.task, part.task + 1) else []

    def _on_ack(self, ack: Ack, now: float) -> list[Send]:
        if ack.run != self.heartbeat_sender.run:
            return []
        sends = self.connections.sink_monitor.record_message(now)
        self._events_left = ack.events_left if ack.events_left >= 0 else 1
        elsewhere = self.held_tasks.settle(settled_ranges(ack.low_watermark, ack.ranges), ack.retries)
        if elsewhere:
            sends.append(Send(Port.EXECUTOR, CancelTasks(elsewhere)))
        for request in self.heartbeat_sender.on_ack(ack):
            sends += self.held_tasks.unacked_results.resend(request, self.heartbeat_sender.heartbeat_number, now)
        for transfer in ack.transfers:
            if transfer.worker == self.heartbeat_sender.identity.name:
                number = self.heartbeat_sender.heartbeat_number
                sends += self.held_tasks.unacked_results.send_content(transfer, number, now)
        self.heartbeat_sender.is_urgent = self.heartbeat_sender.is_urgent or bool(elsewhere) or self.shutdown.has_begun
        return [*sends, *self._limit_starts(now)]

    def _on_kill(self, kill: Kill, now: float) -> list[Send]:
        if kill.run != self.heartbeat_sender.run:
            # A worker without a run obeys the Kill of any run, unless the ventilator may still register it.
            is_waiting = not self.connections.ventilator_monitor.is_silent_for(
                now, self.heartbeat_sender.heartbeat_timeout
            )
            if self.connections.has_run or is_waiting:
                return []
        self.shutdown.is_run_over = True
        if kill.mode == "done":
            return self._stop(errors.OK, kill.reason)
        return self._drain(kill.mode) if self.shutdown.on_run_ending(kill) or kill.mode == "now" else []

    def _query_activity(self) -> list[Send]:
        return [Send(Port.EXECUTOR, QueryActivity())] if self.connections.has_run else []

    def _on_status_request(self, _: StatusRequested, __: float) -> list[Send]:
        self._is_status_requested = True
        return [Send(Port.EXECUTOR, QueryActivity())]

    def _on_activity(self, activity: WorkerActivity, _: float) -> list[Send]:
        """Forward the activity to the sink, and to the user if a status was requested."""
        activity = replace(activity, worker=self.heartbeat_sender.identity.name)
        is_requested, self._is_status_requested = self._is_status_requested, False
        return [
            *([Send(Port.USER, StatusReport(activity))] if is_requested else []),
            *([Send(Port.RESULTS, activity)] if self.connections.has_run else []),
        ]

    def _drain(self, mode: str) -> list[Send]:
        """Start no more tasks; let running tasks finish and wait for their Acks, or kill them.

        Tasks that have ended are reported in both cases, before TasksReleased.
        """
        self.heartbeat_sender.is_urgent = True
        self.shutdown.kills_tasks = self.shutdown.kills_tasks or mode == "now"
        return [Send(Port.EXECUTOR, ReleaseQueued())]

    def _stop(self, exit_code: int, reason: str) -> list[Send]:
        self.done, self.exit_code, self.stop_reason = True, exit_code, reason
        return [
            Send(Port.EXECUTOR, CancelTasks(ALL_TASKS)),
            *self.heartbeat_sender.goodbye(is_run_over=self.shutdown.is_run_over),
        ]


class Shutdown:
    """Request to end a worker, which it follows once it holds nothing.

    The end of a run replaces a request that only this worker stop.
    """

    def __init__(self) -> None:
        self.stop_reason, self.exit_code = "", errors.OK
        self.has_begun = False
        self.kills_tasks = False
        """Whether running tasks are killed."""
        self.is_this_worker_only = False
        """Whether the run continues without this worker."""
        self.is_run_over = False
        """Whether a peer has reported that the run is over."""

    def on_run_ending(self, kill: Kill) -> bool:
        """Begin to shut down because the run ends soon; return False if that was known."""
        is_new = not self.has_begun or self.is_this_worker_only
        self.has_begun, self.is_this_worker_only = True, False
        self.stop_reason, self.exit_code = kill.reason, errors.OK
        return is_new

    def on_stop_request(self, stop: StopRequest) -> Literal["soon", "now"]:
        """Begin to shut down because of a signal. A second one kills the running tasks."""
        is_repeated = self.has_begun and self.is_this_worker_only
        self.has_begun = self.is_this_worker_only = True
        self.stop_reason, self.exit_code = stop.reason, errors.stop_exit_code(stop.reason)
        return "now" if is_repeated else stop.mode


def reason_to_end(
    shutdown: Shutdown, held_tasks: HeldTasks, connections: Connections, now: float, heartbeat_timeout: float
) -> tuple[int, str] | None:
    """Return exit code and reason if the worker must end now."""
    if reason := connections.timeout_reason(now):
        return errors.INCOMPLETE, reason
    if not shutdown.has_begun:
        return None
    if held_tasks.is_empty:
        return shutdown.exit_code, shutdown.stop_reason
    if not held_tasks.unfinished.task_count and connections.sink_monitor.is_silent_for(now, heartbeat_timeout):
        return errors.INCOMPLETE, "results were not acknowledged: the sink stopped responding"
    return None


class Connections:
    """Connections to ventilator and sink; the ventilator replaces the lane itself.

    libzmq retries a lost connection, but not after a protocol error, and a half-open one looks alive to it. So a
    connection that has carried nothing for too long is replaced by a new socket.
    """

    def __init__(self, now: float, peer_timeout: float) -> None:
        self.ventilator_monitor = PeerMonitor("ventilator", now, peer_timeout)
        self.sink_monitor = PeerMonitor("sink", now, peer_timeout)
        self.has_run = False
        """Whether a run was joined; there is no sink before."""
        self._results_reconnect_time = now

    @property
    def deadline(self) -> float:
        """Time at which the user is notified of a silent peer."""
        return min(self.ventilator_monitor.deadline, self.sink_monitor.deadline if self.has_run else NEVER)

    def tick(self, now: float) -> list[Send]:
        """Notify the user of silent peers."""
        return [*self.ventilator_monitor.tick(now), *(self.sink_monitor.tick(now) if self.has_run else [])]

    def timeout_reason(self, now: float) -> str:
        """Return which peer has been silent for longer than the peer timeout; empty if none has."""
        if self.ventilator_monitor.is_lost(now):
            return "the ventilator stopped responding"
        return "the sink stopped responding" if self.sink_monitor.is_lost(now) else ""

    def connect_sink(self, registration: Registration, now: float) -> list[Send]:
        """Connect to the sink of a run, and measure its silence from now on."""
        self.has_run = True
        self.ventilator_monitor.interval = self.sink_monitor.interval = registration.heartbeat_interval
        self.sink_monitor.restart(now)
        return [
            Send(Port.RESULTS, Reconnect(registration.results_endpoint)),
            Send(Port.CONTROL, Reconnect(registration.control_endpoint)),
        ]

    def due_reconnects(
        self, now: float, heartbeat_interval: float, heartbeat_timeout: float, unacked_results: UnackedResults
    ) -> list[Send]:
        """Return Reconnect for each connection that has carried nothing for too long."""
        sends = []
        if self.ventilator_monitor.is_reconnect_due(now, 3 * heartbeat_interval):
            sends.append(Send(Port.REGISTRY, Reconnect()))
        if not self.has_run:
            return sends
        if self.sink_monitor.is_reconnect_due(now, 5 * heartbeat_interval):
            sends.append(Send(Port.CONTROL, Reconnect()))
        oldest = unacked_results.oldest_sent_time()
        is_stuck = oldest is not None and now - max(oldest, self._results_reconnect_time) > heartbeat_timeout
        # Without Acks, it is the control connection that fails, and says nothing about results.
        if is_stuck and not self.sink_monitor.is_silent_for(now, 5 * heartbeat_interval):
            self._results_reconnect_time = now
            sends.append(Send(Port.RESULTS, Reconnect()))
        return sends
