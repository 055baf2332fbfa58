"""State machine of the ventilator, and its agreement with the sink on the run.

Theory of operation: the sink owns the run id. If it has no run yet, the ventilator proposes its own; if it has an
unfinished run of the same input, the ventilator resumes that; if it has a run of another input, or was restarted
without what it had settled, the ventilator ends.

Invariants:
  - No chunk is sent before the run is confirmed. After a resume, the ventilator waits until workers had time to claim
    the tasks that they hold.
  - Records are kept until an Ack settles them, and nothing is read beyond the window.
  - The ventilator never judges the outcome of a task. It ends when it has received Kill and its workers have left.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.model import errors
from pipeline.model.events import (
    EndOfInput,
    LaneOpened,
    PeerUnreachable,
    ReceivedFrom,
    Reconnect,
    RecordsRead,
    VersionMismatch,
    WorkerDead,
)
from pipeline.model.messages import (
    MAX_ACK_ITEMS,
    Ack,
    Goodbye,
    Kill,
    RecordFormat,
    Registration,
    StopRequest,
    VentilatorState,
)
from pipeline.model.ranges import RangeSet, settled_ranges
from pipeline.model.records import is_same_input
from pipeline.model.state_machine import NEVER, VENTILATOR, Handlers, Message, PeerMonitor, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.dispatcher import ChecksumSender, Dispatcher
from pipeline.ventilator.worker_registry import WorkerRegistry


class VentilatorConfig(Struct, frozen=True):
    """Identity and format of the input, run id to propose, endpoints and limits."""

    run: str
    fingerprint: str
    record_format: RecordFormat
    results_endpoint: str = ""
    control_endpoint: str = ""
    chunk: int | None = None
    max_task_bytes: int | None = None
    crash_limit: int = 3
    window: int = 64 << 20
    heartbeat_interval: float = 1.0
    heartbeat_timeout: float = 10.0
    peer_timeout: float = 600.0


class Ventilator:
    """State machine of one ventilator process."""

    def __init__(self, config: VentilatorConfig, now: float) -> None:
        self.config = config
        self.done, self.exit_code, self.stop_reason = False, errors.OK, ""
        self.agreement = RunAgreement(
            config.run, config.fingerprint, now, config.peer_timeout, config.heartbeat_interval
        )
        self.dispatcher = Dispatcher(
            config.record_format, config.window, config.chunk, config.max_task_bytes, config.crash_limit
        )
        self.checksum_sender = ChecksumSender(config.run, config.record_format)
        template = Registration(
            run="",
            state="run",
            reason="",
            record_format=config.record_format,
            lane=0,
            lane_endpoint="",
            results_endpoint=config.results_endpoint,
            control_endpoint=config.control_endpoint,
            heartbeat_interval=config.heartbeat_interval,
            heartbeat_timeout=config.heartbeat_timeout,
        )
        self.registry = WorkerRegistry(self.dispatcher.task_store, template, now, config.peer_timeout)
        self.kill: Kill | None = None
        self._dispatch_after, self._next_requeue_time = now, NEVER
        self._next_interval_time, self._is_urgent = now, False
        self._handlers: Handlers = {
            ReceivedFrom: self._on_worker_message,
            PeerUnreachable: lambda event, now: self.registry.on_peer_unreachable(event.peer, now),
            WorkerDead: lambda _, now: self.registry.on_worker_dead(now),
            LaneOpened: lambda event, _: self.registry.on_lane_opened(event),
            RecordsRead: self._on_records,
            EndOfInput: self._on_end_of_input,
            Ack: self._on_ack,
            Kill: self._on_kill,
            StopRequest: self._on_stop_request,
            VersionMismatch: lambda event, _: self.registry.refuse_version(event.peer, event.version),
        }

    @property
    def deadline(self) -> float:
        """Time of the next interval, retry or notice; 0 after a message, since chunks may be due."""
        if self._is_urgent:
            return 0.0
        workers = self.registry.worker_monitor.deadline if self.agreement.is_confirmed else NEVER
        return min(self._next_interval_time, self.agreement.sink_monitor.deadline, workers, self._next_requeue_time)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Handle one message. Chunks are sent by the next tick, after all messages that have arrived."""
        self._is_urgent = True
        handle = self._handlers.get(type(message))
        return handle(message, now) if handle else []

    def tick(self, now: float) -> list[Send]:
        """End if there is a reason; else send chunks, and at each interval what must be repeated."""
        self._is_urgent, sends = False, self.agreement.sink_monitor.tick(now)
        if now >= self._next_interval_time:
            self._next_interval_time = now + self.config.heartbeat_interval
            sends += [*self.registry.send_registrations(), *self._on_interval(now)]
        sends += self.registry.expire_silent(now)
        if self.kill and not len(self.registry.lanes):
            self.done = True
            return [*sends, Send(Port.RESULTS, Goodbye(VENTILATOR))]
        if end := self._reason_to_end(now):
            return sends + self._stop(*end)
        if self.agreement.is_confirmed and now >= self._dispatch_after:
            lanes, run = self.registry.lanes, self.agreement.ventilator_state.run
            sends += self.dispatcher.prefetch(lanes) if self.kill else self.dispatcher.dispatch(run, lanes, now)
        self._next_requeue_time = self.dispatcher.task_store.next_due(now)
        return sends

    def _on_interval(self, now: float) -> list[Send]:
        """Repeat the state of the ventilator, and what a responding sink has not acknowledged."""
        interval, run = self.config.heartbeat_interval, self.agreement.ventilator_state.run
        sends = self.agreement.on_interval(now, 5 * interval, is_starved=self.dispatcher.is_starved)
        if not self.agreement.is_confirmed or self.agreement.sink_monitor.is_silent_for(now, 3 * interval):
            return sends
        return [*sends, *self.checksum_sender.resend(run), *self.dispatcher.resend(run)]

    def _on_records(self, records: RecordsRead, _: float) -> list[Send]:
        sends = self.checksum_sender.add(records, self.agreement.ventilator_state.run)
        self.dispatcher.on_records(records, self.registry.lanes, self.checksum_sender.needed)
        return sends

    def _on_end_of_input(self, end: EndOfInput, _: float) -> list[Send]:
        self.dispatcher.on_end_of_input()
        total = self.checksum_sender.comparable(end.total) if end.reason else end.total
        return self.agreement.on_end_of_input(total, end.reason)

    def _on_worker_message(self, envelope: ReceivedFrom, now: float) -> list[Send]:
        message = envelope.message
        if isinstance(message, Goodbye):
            return self.registry.on_goodbye(message, now)
        is_ack_current = self.agreement.last_ack_number >= message.last_ack_number
        return self.registry.on_heartbeat(envelope.peer, message, is_ack_current, now)

    def _on_ack(self, ack: Ack, now: float) -> list[Send]:
        sends = self.agreement.sink_monitor.record_message(now)
        is_accepted = self.agreement.accept_ack(ack, now)
        if conflict := self.agreement.conflict(ack, self.dispatcher.settled):
            return sends + self._stop(*conflict)
        if not is_accepted:
            return sends + ([] if ack.run else self.agreement.announce())
        self.dispatcher.spill_full = ack.spill_full
        self.dispatcher.needs_total = ack.halt_event != "" and ack.events_left < 0
        self.dispatcher.settle(settled_ranges(ack.low_watermark, ack.ranges), self.registry.lanes)
        self.dispatcher.retry(ack.retries, self.registry.lanes, now)
        self.registry.lanes.resume_parked(now - 3 * self.config.heartbeat_interval)
        sends += self.checksum_sender.on_ack(ack)
        self.registry.set_command(ack.digest, ack.command)
        return sends if self.agreement.is_confirmed else sends + self._confirm(ack, now)

    def _confirm(self, ack: Ack, now: float) -> list[Send]:
        """Begin to register workers: the sink has confirmed the run."""
        record_format = replace(
            self.config.record_format,
            collect_metrics=ack.collect_metrics,
            stream_output=ack.stream_output,
            halt_event=ack.halt_event,
        )
        self.agreement.is_confirmed = True
        if self.agreement.is_resumed:  # workers may hold tasks of the run, and claim them by then
            self._dispatch_after = now + 3 * self.config.heartbeat_interval
        run = self.agreement.ventilator_state.run
        return [*self.agreement.announce(), *self.registry.start_run(run, record_format, now)]

    def _on_kill(self, kill: Kill, _: float) -> list[Send]:
        if kill.run != self.agreement.ventilator_state.run and (self.agreement.is_confirmed or kill.run):
            return []
        if self.kill is None:
            self.kill, self.stop_reason, self.exit_code = kill, kill.reason, kill.exit_code
        return self.registry.end_run(kill) if kill.mode != "soon" else []

    def _on_stop_request(self, stop: StopRequest, _: float) -> list[Send]:
        """Forward the request to the sink, which ends the run for all; without a sink, end this process alone."""
        return self.agreement.request_stop(stop) or self._stop(errors.stop_exit_code(stop.reason), stop.reason)

    def _reason_to_end(self, now: float) -> tuple[int, str] | None:
        is_settled = 0 <= self.agreement.ventilator_state.total <= self.dispatcher.settled.low_watermark()
        if self.registry.worker_monitor.is_lost(now) and self.agreement.is_confirmed and not is_settled:
            return errors.INCOMPLETE, "lost all workers"
        return self.agreement.sink_failure(now, 2 * self.config.heartbeat_interval)

    def _stop(self, exit_code: int, reason: str) -> list[Send]:
        """End, and report the reason to the sink, so that it can end the run."""
        self.done, self.exit_code, self.stop_reason = True, exit_code, reason
        stopped = Send(Port.RESULTS, replace(self.agreement.ventilator_state, state="stopped", reason=reason))
        return [*([stopped] if self.agreement.is_confirmed else []), Send(Port.RESULTS, Goodbye(VENTILATOR))]


SINK_LOST_STATE = "the sink was restarted without its record of settled tasks"


class RunAgreement:
    """State of the run that the ventilator reports, and whether the sink has confirmed it."""

    def __init__(
        self, run: str, fingerprint: str, now: float, peer_timeout: float, heartbeat_interval: float = 1.0
    ) -> None:
        self.sink_monitor = PeerMonitor("sink", now, peer_timeout, heartbeat_interval)
        self.ventilator_state = VentilatorState(run, 0, fingerprint, "feeding", -1, "")
        self.is_confirmed = False
        self.is_resumed = False
        """Whether the run was begun by an earlier ventilator process."""
        self.last_ack_number = 0
        self.stop_request: StopRequest | None = None
        self._last_state_number, self._sink_epoch = -1, ""
        self._delivery_monitor = PeerMonitor("sink", now, 0.0)
        """Whether the sink receives what is sent: an Ack carries the number of the last VentilatorState."""

    def announce(self) -> list[Send]:
        """Send the state of the run to the sink, and the stop request if there is one."""
        self.ventilator_state = replace(self.ventilator_state, number=self.ventilator_state.number + 1)
        return [
            Send(Port.RESULTS, self.ventilator_state),
            *([Send(Port.RESULTS, self.stop_request)] if self.stop_request else []),
        ]

    def on_interval(self, now: float, silence_seconds: float, *, is_starved: bool) -> list[Send]:
        """Announce the run; replace connections that have carried nothing for `silence_seconds` in one direction.

        `is_starved`: no task can be sent before the source answers.
        """
        self.ventilator_state = replace(
            self.ventilator_state,
            is_waiting_for_input=is_starved and self.is_confirmed and self.ventilator_state.state == "feeding",
        )
        reconnects: list[Send] = []
        if self.sink_monitor.is_reconnect_due(now, silence_seconds):
            reconnects = [Send(Port.CONTROL, Reconnect()), Send(Port.RESULTS, Reconnect())]
        elif self._delivery_monitor.is_reconnect_due(now, silence_seconds):
            reconnects = [Send(Port.RESULTS, Reconnect())]
        return reconnects + (self.announce() if self.is_confirmed else [])

    def on_end_of_input(self, total: int, reason: str) -> list[Send]:
        """Announce the number of tasks; a reason means that reading has failed after them."""
        self.ventilator_state = replace(self.ventilator_state, state="ended", total=total, reason=reason)
        return self.announce() if self.is_confirmed else []

    def request_stop(self, stop: StopRequest) -> list[Send]:
        """Send a stop request to the sink, "now" if it is repeated; nothing without a sink or for a third one."""
        if not self.sink_monitor.has_been_seen or (self.stop_request and self.stop_request.mode == "now"):
            return []
        self.stop_request = StopRequest("now" if self.stop_request else stop.mode, stop.reason)
        return [Send(Port.RESULTS, self.stop_request)]

    def accept_ack(self, ack: Ack, now: float) -> bool:
        """Resume the run of this Ack if it has the same input; return whether the Ack belongs to the run."""
        if ack.last_state_number != self._last_state_number:
            self._last_state_number = ack.last_state_number
            self._delivery_monitor.record_message(now)
        is_finished = 0 <= ack.total <= ack.low_watermark
        is_resumable = not is_finished and is_same_input(
            self.ventilator_state.fingerprint, ack.fingerprint, is_verified=ack.checksum_watermark >= 0
        )
        if ack.run and ack.run != self.ventilator_state.run and is_resumable and not self.is_confirmed:
            self.ventilator_state, self.is_resumed = replace(self.ventilator_state, run=ack.run), True
        return ack.run == self.ventilator_state.run

    def conflict(self, ack: Ack, settled: RangeSet) -> tuple[int, str] | None:
        """Return exit code and reason if the ventilator cannot work with the sink of this Ack."""
        if ack.run == self.ventilator_state.run:
            known = settled_ranges(ack.low_watermark, ack.ranges)
            # An Ack with the maximum of ranges says nothing of the tasks above them.
            end = known.end if len(ack.ranges) == MAX_ACK_ITEMS else settled.end
            has_lost = self._sink_epoch != ack.epoch and any(known.gaps(low, min(high, end)) for low, high in settled)
            self.last_ack_number, self._sink_epoch = ack.number, ack.epoch
            return (errors.INCOMPLETE, SINK_LOST_STATE) if has_lost else None
        if not ack.run:
            return (errors.INCOMPLETE, SINK_LOST_STATE) if settled.task_count else None
        if self.is_confirmed:
            return errors.INCOMPLETE, SINK_LOST_STATE
        if 0 <= ack.total <= ack.low_watermark:
            return None  # the run of this sink is finished, and a new sink will follow
        return errors.USAGE, f"the sink has an unfinished run of another input{errors.SAME_INPUT_HINT}"

    def sink_failure(self, now: float, stop_timeout: float) -> tuple[int, str] | None:
        """Return exit code and reason once the sink is lost; after a stop request, wait for `stop_timeout` only."""
        if self.stop_request and self.sink_monitor.is_silent_for(now, stop_timeout):
            return errors.stop_exit_code(self.stop_request.reason), self.stop_request.reason
        return (errors.INCOMPLETE, "the sink stopped responding") if self.sink_monitor.is_lost(now) else None
