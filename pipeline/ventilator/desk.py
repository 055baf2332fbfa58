"""The desk where workers check in: who is there, who is refused, who is lost, and what each is told.

A worker gets a lane at its first pulse, and keeps it as long as pulses come. One run has one command: a worker with
another one is refused, by name. Knows nothing of runs but what a Welcome carries.
"""

from __future__ import annotations

from pipeline.ventilator.admission import Admission
from pipeline.ventilator.lanes import Lane, Lanes
from pipeline.ventilator.stock import Stock
from pipeline.words.errands import Open, Opened, Shut
from pipeline.words.errors import foreign
from pipeline.words.messages import Bye, Kill, Pulse, Welcome
from pipeline.words.notices import Lost
from pipeline.words.parts import Recipe
from pipeline.words.station import NEVER, Caller, Port, Send
from pipeline.words.structs import replace
from pipeline.words.watch import Watch


class Desk:
    """The workers of one ventilator. `word` is what a Welcome says but for the lane."""

    def __init__(self, stock: Stock, word: Welcome, now: float, patience: float) -> None:
        self.watch = Watch("worker", now, patience, word.interval)
        self._early: dict[str, tuple[bytes, Pulse, float]] = {}
        self.lanes = Lanes(stock)
        self.word = word
        self.admission = Admission()
        self._numbers = 0

    def pulsed(self, peer: bytes, pulse: Pulse, judged: bool, now: float) -> list[Send]:  # noqa: FBT001
        """A worker's pulse. `judged`: the own Ack is as new as its, so what it does not hold may be sent again."""
        heard = self.watch.heard(now)
        if not self.word.run:
            self._early[pulse.worker] = (peer, pulse, now)
            return heard
        return heard + self._answer(peer, pulse, judged, now)

    def begin(self, run: str, recipe: Recipe, now: float) -> list[Send]:
        """There is a run: who called before is answered now."""
        self.word = replace(self.word, run=run, recipe=recipe)
        self.watch.expect(now)
        early, self._early = self._early, {}
        recent = [(peer, pulse) for peer, pulse, heard in early.values() if now - heard <= self.word.liveness]
        return [send for peer, pulse in recent for send in self.pulsed(peer, pulse, True, now)]

    def _answer(self, peer: bytes, pulse: Pulse, judged: bool, now: float) -> list[Send]:  # noqa: FBT001
        lane = self.lanes.of(pulse.worker)
        if lane is None and self.word.state == "over":
            return [Send(Caller(peer), self.word)]
        if objection := self.admission.objection(pulse):
            return self.refuse(peer, pulse.worker, objection)
        if lane is None:
            return self._open(peer, pulse, now)
        lane.pulsed(pulse, peer, now)
        if pulse.run == self.word.run and judged:
            self.lanes.judge(lane, pulse)
        knows = pulse.run == self.word.run and pulse.lane == lane.number
        return [] if knows else self._welcome(lane)

    def _open(self, peer: bytes, pulse: Pulse, now: float) -> list[Send]:
        self._numbers += 1
        number = max(self._numbers, pulse.lane + 1 if pulse.run == self.word.run else 0)
        self._numbers = number
        lane = Lane(number, pulse, peer, now)
        self.lanes.add(lane)
        lane.pulsed(pulse, peer, now)
        if pulse.run == self.word.run:
            self.lanes.judge(lane, pulse)
        return [Send(Port.LANES, Open(number))]

    def opened(self, opened: Opened) -> list[Send]:
        """A lane is bound: its worker is told where."""
        for lane in self.lanes:
            if lane.number == opened.lane:
                lane.at = opened.at
                return self._welcome(lane)
        return [Send(Port.LANES, Shut(opened.lane))]

    def left(self, bye: Bye, now: float) -> list[Send]:
        """A worker said goodbye: it holds nothing any more. If the run is over, that is about to be heard here, too."""
        self._early.pop(bye.name, None)
        if bye.over:
            self.lanes.parked = now
        return self._close(bye.name, NEVER if bye.over else 0.0)

    def _close(self, worker: str, due: float = 0.0) -> list[Send]:
        lane = self.lanes.of(worker)
        if lane is None:
            return []
        self.lanes.close(lane, due)
        return [Send(Port.LANES, Shut(lane.number))]

    def unreachable(self, peer: bytes, now: float) -> list[Send]:
        """No connection to this caller: it is lost sooner, unless it calls again."""
        for lane in self.lanes:
            if lane.peer == peer and lane.suspected == NEVER:
                lane.suspected = now
        return []

    def expire(self, now: float) -> list[Send]:
        """Say who is missing, lose who was silent too long, and make lanes anew that swallow what they are given."""
        sends = self.watch.tick(now) if self.word.run else []
        for lane in self.lanes:
            if lane.is_silent(now, self.word.liveness):
                lost = Lost(lane.worker, sum(span.count for span in lane.out.values()))
                self.lanes.suspect(lane)
                sends += [*self._close(lane.worker), Send(Port.TOLD, lost)]
            elif lane.overdue(now):
                self._numbers += 1
                sends += [Send(Port.LANES, Shut(lane.number)), Send(Port.LANES, Open(self._numbers))]
                lane.rebind(self._numbers)
        return sends

    def over(self, kill: Kill) -> list[Send]:
        """The run has ended: everybody is told, now and at each pulse."""
        self.word = replace(self.word, state="over", reason=kill.reason)
        return self.welcome_all()

    def welcome_all(self) -> list[Send]:
        """Say to everybody what is."""
        return [send for lane in self.lanes for send in self._welcome(lane)]

    def refuse(self, peer: bytes, name: str, reason: str) -> list[Send]:
        """Turn somebody away, by name; the person is told once."""
        word = replace(self.word, state="refused", reason=reason)
        answer = [Send(Caller(peer), word)] if peer else []
        return [*answer, *self.admission.refuse(name, reason)]

    def refuse_version(self, peer: bytes, version: str) -> list[Send]:
        """Turn a caller of another version away; elsewhere than at the desk there is nobody to answer."""
        return self.refuse(peer, "a worker", foreign(version)) if peer else []

    def _welcome(self, lane: Lane) -> list[Send]:
        if not lane.at:
            return []
        return [Send(Caller(lane.peer), replace(self.word, lane=lane.number, lane_at=lane.at))]
