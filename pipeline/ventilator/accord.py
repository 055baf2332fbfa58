"""The run, as the ventilator and the sink agree on it.

The sink names the run: none yet, then this ventilator's is offered; the same input's, then it is taken up; another's,
then there is no accord. Nothing is sent to workers before it. A sink that comes back without what it had settled
ends it.
"""

from __future__ import annotations

from pipeline.words import errors
from pipeline.words.errands import Reconnect
from pipeline.words.inputs import is_same_input
from pipeline.words.messages import MAX_ACK_ITEMS, Ack, StopRequest, VentilatorState
from pipeline.words.ranges import RangeSet, settled_ranges
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace
from pipeline.words.watch import PeerMonitor

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
