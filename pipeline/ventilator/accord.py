"""The run, as the ventilator and the sink agree on it.

The sink names the run: none yet, then this ventilator's is offered; the same input's, then it is taken up; another's,
then there is no accord. Nothing is sent to workers before it. A sink that comes back without what it had settled
ends it.
"""

from __future__ import annotations

from pipeline.words import errors
from pipeline.words.errands import Connect
from pipeline.words.inputs import same_input
from pipeline.words.messages import LISTED, Ack, Run, Stop
from pipeline.words.ranges import RangeSet, settled_of
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace
from pipeline.words.watch import Watch

LOST = "the sink was started again and has lost what it had settled"


class Accord:
    """What the ventilator says of its run, and what the sink has confirmed."""

    def __init__(self, run: str, fingerprint: str, now: float, patience: float, beat: float = 1.0) -> None:
        self.sink = Watch("sink", now, patience, beat)
        self.run = Run(run, 0, fingerprint, "feeding", -1, "")
        self.confirmed = False
        """Whether the sink has said that this is its run."""
        self.resumed = False
        """Whether another life of this ventilator has begun it."""
        self.ack = 0
        """The number of the latest Ack."""
        self.stop: Stop | None = None
        self._heard, self._epoch = -1, ""
        self._own = Watch("sink", now, 0.0)
        """Whether the sink hears this station: its Acks say which Run they know."""

    def say(self) -> list[Send]:
        """The run as it is, to the sink, and the wish for its end if somebody has one."""
        self.run = replace(self.run, number=self.run.number + 1)
        return [Send(Port.RESULTS, self.run), *([Send(Port.RESULTS, self.stop)] if self.stop else [])]

    def beat(self, now: float, seconds: float, *, starved: bool) -> list[Send]:
        """Say it again; over new sockets if they have carried nothing for `seconds`, one way or the other.

        `starved`: nothing can be sent before the source answers.
        """
        self.run = replace(self.run, waiting=starved and self.confirmed and self.run.state == "feeding")
        repairs: list[Send] = []
        if self.sink.repair_due(now, seconds):
            repairs = [Send(Port.CONTROL, Connect()), Send(Port.RESULTS, Connect())]
        elif self._own.repair_due(now, seconds):
            repairs = [Send(Port.RESULTS, Connect())]
        return repairs + (self.say() if self.confirmed else [])

    def ended(self, total: int, reason: str) -> list[Send]:
        """All is read; with a reason: all that could be."""
        self.run = replace(self.run, state="ended", total=total, reason=reason)
        return self.say() if self.confirmed else []

    def asked(self, stop: Stop) -> list[Send]:
        """Somebody wants the run to end: the sink says it to all. Nothing if it is not there, or was told all that."""
        if not self.sink.met or (self.stop and self.stop.mode == "now"):
            return []
        self.stop = Stop("now" if self.stop else stop.mode, stop.reason)
        return [Send(Port.RESULTS, self.stop)]

    def is_agreed(self, ack: Ack, now: float) -> bool:
        """Take in an Ack: whether it is of this run. If it is the sink's first word of it, `say` that to the sink."""
        if ack.heard != self._heard:
            self._heard = ack.heard
            self._own.heard(now)
        same = same_input(self.run.fingerprint, ack.fingerprint, verified=ack.read >= 0)
        same = same and not 0 <= ack.total <= ack.low
        if ack.run and ack.run != self.run.run and same and not self.confirmed:
            self.run, self.resumed = replace(self.run, run=ack.run), True
        return ack.run == self.run.run

    def lost(self, now: float, soon: float) -> tuple[int, str] | None:
        """Exit code and reason once the sink is given up: after its patience, or `soon` if an end is wished for."""
        if self.stop and self.sink.silent(now, soon):
            return errors.interrupted(self.stop.reason), self.stop.reason
        return (errors.INCOMPLETE, "the sink did not answer any more") if self.sink.lost(now) else None

    def breach(self, ack: Ack, settled: RangeSet) -> tuple[int, str] | None:
        """Why there can be no accord with the sink of this Ack: exit code and reason."""
        if ack.run == self.run.run:
            known = settled_of(ack.low, ack.ranges)
            told = known.end if len(ack.ranges) == LISTED else settled.end
            forgot = self._epoch != ack.epoch and any(known.outside(low, min(high, told)) for low, high in settled)
            self.ack, self._epoch = ack.number, ack.epoch
            return (errors.INCOMPLETE, LOST) if forgot else None
        if not ack.run:
            return (errors.INCOMPLETE, LOST) if settled.tasks else None
        if self.confirmed:
            return errors.INCOMPLETE, LOST
        if 0 <= ack.total <= ack.low:
            return None  # it has finished, and is about to go
        return errors.USAGE, "the sink is in the middle of a run of another input"
