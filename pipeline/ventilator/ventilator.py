"""State machine of the ventilator; agreement with the sink on the run.

The run, as the ventilator and the sink agree on it.

The sink names the run: none yet, then this ventilator's is offered; the same input's, then it is taken up; another's,
then there is no accord. Nothing is sent to workers before it. A sink that comes back without what it had settled
ends it.

The ventilator: reads tasks, sends each worker as much as it asks for, and sends again what was lost.

It keeps the records of every task until the sink's Ack says that it is settled, and reads no further than its window.
It takes its run from the sink, never sends a chunk before that, and ends when KILL has come and its workers are gone.
It never judges a task's outcome.
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

SINK_LOST_STATE = "the sink was started again and has lost what it had settled"


class RunAgreement:
    """What the ventilator says of its run, and what the sink has confirmed."""

    def __init__(
        self, run: str, fingerprint: str, now: float, peer_timeout: float, heartbeat_interval: float = 1.0
    ) -> None:
        self.sink_monitor = PeerMonitor("sink", now, peer_timeout, heartbeat_interval)
        self.ventilator_state = VentilatorState(run, 0, fingerprint, "feeding", -1, "")
        self.is_confirmed = False
        """Whether the sink has said that this is its run."""
        self.is_resumed = False
        """Whether another life of this ventilator has begun it."""
        self.last_ack_number = 0
        """The number of the latest Ack."""
        self.stop_request: StopRequest | None = None
        self._last_state_number, self._sink_epoch = -1, ""
        self._delivery_monitor = PeerMonitor("sink", now, 0.0)
        """Whether the sink hears this station: its Acks say which Run they know."""

    def announce(self) -> list[Send]:
        """The run as it is, to the sink, and the wish for its end if somebody has one."""
        self.ventilator_state = replace(self.ventilator_state, number=self.ventilator_state.number + 1)
        return [
            Send(Port.RESULTS, self.ventilator_state),
            *([Send(Port.RESULTS, self.stop_request)] if self.stop_request else []),
        ]

    def on_interval(self, now: float, silence_seconds: float, *, is_starved: bool) -> list[Send]:
        """Say it again; over new sockets if they have carried nothing for `seconds`, one way or the other.

        `starved`: nothing can be sent before the source answers.
        """
        self.ventilator_state = replace(
            self.ventilator_state,
            is_waiting_for_input=is_starved and self.is_confirmed and self.ventilator_state.state == "feeding",
        )
        repairs: list[Send] = []
        if self.sink_monitor.is_reconnect_due(now, silence_seconds):
            repairs = [Send(Port.CONTROL, Reconnect()), Send(Port.RESULTS, Reconnect())]
        elif self._delivery_monitor.is_reconnect_due(now, silence_seconds):
            repairs = [Send(Port.RESULTS, Reconnect())]
        return repairs + (self.announce() if self.is_confirmed else [])

    def on_end_of_input(self, total: int, reason: str) -> list[Send]:
        """All is read; with a reason: all that could be."""
        self.ventilator_state = replace(self.ventilator_state, state="ended", total=total, reason=reason)
        return self.announce() if self.is_confirmed else []

    def request_stop(self, stop: StopRequest) -> list[Send]:
        """Somebody wants the run to end: the sink says it to all. Nothing if it is not there, or was told all that."""
        if not self.sink_monitor.has_been_seen or (self.stop_request and self.stop_request.mode == "now"):
            return []
        self.stop_request = StopRequest("now" if self.stop_request else stop.mode, stop.reason)
        return [Send(Port.RESULTS, self.stop_request)]

    def accept_ack(self, ack: Ack, now: float) -> bool:
        """Take in an Ack: whether it is of this run. If it is the sink's first word of it, `say` that to the sink."""
        if ack.last_state_number != self._last_state_number:
            self._last_state_number = ack.last_state_number
            self._delivery_monitor.record_message(now)
        same = is_same_input(
            self.ventilator_state.fingerprint, ack.fingerprint, is_verified=ack.checksum_watermark >= 0
        )
        same = same and not 0 <= ack.total <= ack.low_watermark
        if ack.run and ack.run != self.ventilator_state.run and same and not self.is_confirmed:
            self.ventilator_state, self.is_resumed = replace(self.ventilator_state, run=ack.run), True
        return ack.run == self.ventilator_state.run

    def sink_failure(self, now: float, stop_timeout: float) -> tuple[int, str] | None:
        """Exit code and reason once the sink is given up: after its patience, or `soon` if an end is wished for."""
        if self.stop_request and self.sink_monitor.is_silent_for(now, stop_timeout):
            return errors.stop_exit_code(self.stop_request.reason), self.stop_request.reason
        return (errors.INCOMPLETE, "the sink did not answer any more") if self.sink_monitor.is_lost(now) else None

    def conflict(self, ack: Ack, settled: RangeSet) -> tuple[int, str] | None:
        """Why there can be no accord with the sink of this Ack: exit code and reason."""
        if ack.run == self.ventilator_state.run:
            known = settled_ranges(ack.low_watermark, ack.ranges)
            told = known.end if len(ack.ranges) == MAX_ACK_ITEMS else settled.end
            forgot = self._sink_epoch != ack.epoch and any(known.gaps(low, min(high, told)) for low, high in settled)
            self.last_ack_number, self._sink_epoch = ack.number, ack.epoch
            return (errors.INCOMPLETE, SINK_LOST_STATE) if forgot else None
        if not ack.run:
            return (errors.INCOMPLETE, SINK_LOST_STATE) if settled.task_count else None
        if self.is_confirmed:
            return errors.INCOMPLETE, SINK_LOST_STATE
        if 0 <= ack.total <= ack.low_watermark:
            return None  # it has finished, and is about to go
        return errors.USAGE, "the sink is in the middle of a run of another input"


class VentilatorConfig(Struct, frozen=True):
    """What a ventilator is given: its input's identity and look, the run's name if it begins one, and the limits."""

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
    """One life of the ventilator."""

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
        word = Registration(
            "",
            "run",
            "",
            config.record_format,
            0,
            "",
            config.results_endpoint,
            config.control_endpoint,
            config.heartbeat_interval,
            config.heartbeat_timeout,
        )
        self.registry = WorkerRegistry(self.dispatcher.task_store, word, now, config.peer_timeout)
        self.kill: Kill | None = None
        self._dispatch_after, self._next_requeue_time = now, NEVER
        self._next_interval_time, self._is_urgent = now, False
        self._handlers: Handlers = {
            ReceivedFrom: self._on_worker_message,
            RecordsRead: self._on_records,
            Ack: self._on_ack,
            LaneOpened: lambda word, _: self.registry.on_lane_opened(word),
            EndOfInput: self._on_end_of_input,
            Kill: lambda word, _: self._on_kill(word),
            PeerUnreachable: lambda word, now: self.registry.on_peer_unreachable(word.peer, now),
            StopRequest: lambda word, _: self._on_stop_request(word),
            VersionMismatch: lambda word, _: self.registry.refuse_version(word.peer, word.version),
        }

    @property
    def deadline(self) -> float:
        """At once when there is something to send; else the next word to everybody."""
        workers = self.registry.worker_monitor.deadline if self.agreement.is_confirmed else NEVER
        return (
            0.0
            if self._is_urgent
            else min(self._next_interval_time, self.agreement.sink_monitor.deadline, workers, self._next_requeue_time)
        )

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word; chunks leave at the next tick, at once, when all that had arrived is known."""
        self._is_urgent = True
        hear = self._handlers.get(type(message))
        return hear(message, now) if hear else []

    def tick(self, now: float) -> list[Send]:
        """Send what can be sent; at each interval also say all that is, and look who is still there."""
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
        """The run; what the sink has not answered, again; and what need not be kept, to the source."""
        said = self.agreement.on_interval(
            now, 5 * self.config.heartbeat_interval, is_starved=not self.dispatcher.task_store.task_count
        )
        if not self.agreement.is_confirmed or self.agreement.sink_monitor.is_silent_for(
            now, 3 * self.config.heartbeat_interval
        ):
            return said
        return [
            *said,
            *self.checksum_sender.resend(self.agreement.ventilator_state.run),
            *self.dispatcher.resend(self.agreement.ventilator_state.run),
        ]

    def _on_records(self, records: RecordsRead, _: float) -> list[Send]:
        sends = self.checksum_sender.add(records, self.agreement.ventilator_state.run)
        return sends + self.dispatcher.on_records(records, self.registry.lanes, self.checksum_sender.needed)

    def _reason_to_end(self, now: float) -> tuple[int, str] | None:
        is_settled = 0 <= self.agreement.ventilator_state.total <= self.dispatcher.settled.low_watermark()
        if self.registry.worker_monitor.is_lost(now) and self.agreement.is_confirmed and not is_settled:
            return errors.INCOMPLETE, "no worker came back"
        return self.agreement.sink_failure(now, 2 * self.config.heartbeat_interval)

    def _on_worker_message(self, envelope: ReceivedFrom, now: float) -> list[Send]:
        if isinstance(envelope.message, Goodbye):
            return self.registry.on_goodbye(envelope.message, now)
        return self.registry.on_heartbeat(
            envelope.peer, envelope.message, self.agreement.last_ack_number >= envelope.message.last_ack_number, now
        )

    def _on_end_of_input(self, end: EndOfInput, _: float) -> list[Send]:
        self.dispatcher.on_end_of_input()
        return self.agreement.on_end_of_input(
            self.checksum_sender.comparable(end.total) if end.reason else end.total, end.reason
        )

    def _on_ack(self, ack: Ack, now: float) -> list[Send]:
        sends = self.agreement.sink_monitor.record_message(now)
        agreed = self.agreement.accept_ack(ack, now)
        if breach := self.agreement.conflict(ack, self.dispatcher.settled):
            return sends + self._stop(*breach)
        if not agreed:
            return sends + ([] if ack.run else self.agreement.announce())
        self.dispatcher.spill_full = ack.spill_full
        self.dispatcher.settle(settled_ranges(ack.low_watermark, ack.ranges), self.registry.lanes)
        self.dispatcher.retry(ack.retries, self.registry.lanes, now)
        self.registry.lanes.resume_parked(now - 3 * self.config.heartbeat_interval)
        sends += self.checksum_sender.on_ack(ack)
        self.registry.command_check.set_command(ack.digest, ack.command)
        return sends if self.agreement.is_confirmed else sends + self._confirm(ack, now)

    def _confirm(self, ack: Ack, now: float) -> list[Send]:
        """The sink knows the run: now the workers are welcome, and are told what it wants of each task."""
        recipe = replace(
            self.config.record_format, collect_metrics=ack.collect_metrics, stream_output=ack.stream_output
        )
        self.agreement.is_confirmed = True
        if self.agreement.is_resumed:  # what workers hold is theirs; they will say so by then
            self._dispatch_after = now + 3 * self.config.heartbeat_interval
        return [*self.agreement.announce(), *self.registry.start_run(self.agreement.ventilator_state.run, recipe, now)]

    def _on_kill(self, kill: Kill) -> list[Send]:
        if kill.run != self.agreement.ventilator_state.run and (self.agreement.is_confirmed or kill.run):
            return []
        if self.kill is None:
            self.kill, self.stop_reason, self.exit_code = kill, kill.reason, kill.exit_code
        return self.registry.end_run(kill) if kill.mode != "soon" else []

    def _on_stop_request(self, stop: StopRequest) -> list[Send]:
        """The person wants an end: the sink says it to all; where there is none, it is this station's alone."""
        return self.agreement.request_stop(stop) or self._stop(errors.stop_exit_code(stop.reason), stop.reason)

    def _stop(self, exit_code: int, reason: str) -> list[Send]:
        """Give up: the sink is told why, so that it can end the run."""
        self.done, self.exit_code, self.stop_reason = True, exit_code, reason
        stopped = Send(Port.RESULTS, replace(self.agreement.ventilator_state, state="stopped", reason=reason))
        return [*([stopped] if self.agreement.is_confirmed else []), Send(Port.RESULTS, Goodbye(VENTILATOR))]
