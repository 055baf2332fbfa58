"""The worker: lane to executor to sink, and a pulse that says all it holds.

It keeps a result until the sink's Ack answers for it, runs nothing twice that it still holds, gives back what it can't
start soon, and ends at KILL, when asked to leave, or when nobody has answered for its patience. It never decides
what a task's outcome means, and never sends more than it was asked.
"""

from __future__ import annotations

from pipeline.words import errors
from pipeline.words.errands import Broken, Cancel, Done, Foreign, Release, Returned
from pipeline.words.messages import Ack, Chunk, Glance, Kill, Part, Stop, Welcome
from pipeline.words.notices import Asked
from pipeline.words.parts import Recipe
from pipeline.words.ranges import settled_of
from pipeline.words.results import cut_result
from pipeline.words.station import Hearing, Message, Port, Send
from pipeline.words.structs import replace
from pipeline.worker.departure import Departure, reason_to_end
from pipeline.worker.glances import Glances
from pipeline.worker.held import Held
from pipeline.worker.ties import Ties
from pipeline.worker.voice import Identity, Voice

ALL = ((0, 1 << 62),)


class Worker:
    """One life of one worker: what it is told, and when it ends."""

    def __init__(self, identity: Identity, now: float, patience: float = 600.0) -> None:
        self.done, self.outcome, self.reason = False, errors.OK, ""
        self.held = Held(identity.slots, now)
        self.ties = Ties(now, patience)
        self.voice = Voice(identity, self.held, now)
        self.recipe = Recipe()
        self.departure = Departure()
        self.glances = Glances(identity.name)
        self._hears: Hearing = {
            Done: self._finish,
            Chunk: self._take,
            Ack: self._answered,
            Welcome: self._welcomed,
            Kill: self._killed,
            Returned: lambda word, _: self.voice.gave_back(word),
            Stop: lambda word, _: self._depart(self.departure.asked(word)),
            Part: lambda word, _: self.voice.part(word),
            Glance: lambda word, _: self.glances.seen(word, joined=bool(self.voice.run)),
            Asked: lambda *_: self.glances.asked(),
            Broken: lambda word, _: self._end(word.exit_code, word.reason),
            Foreign: lambda word, _: self._end(errors.INCOMPLETE, errors.foreign(word.version)),
        }

    @property
    def deadline(self) -> float:
        """The next pulse; or at once, when there is something to say."""
        if self.voice.soon:
            return 0.0
        return min(self.voice.next, self.held.deadline, self.ties.deadline(joined=bool(self.voice.run)))

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word."""
        hear = self._hears.get(type(message))
        return hear(message, now) if hear else []

    def tick(self, now: float) -> list[Send]:
        """Say what is due: the pulse, repairs, the unstarted given back, an end."""
        sends = self.ties.tick(now, joined=bool(self.voice.run))
        if end := reason_to_end(self.departure, self.held, self.ties, now, self.voice.liveness):
            return sends + self._end(*end)
        sends += self.held.tick(now)
        if now >= self.voice.next:
            unanswered = self.held.unanswered if self.voice.run else None
            sends += self.ties.repairs(now, self.voice.interval, self.voice.liveness, unanswered) + self.glances.look(
                joined=bool(self.voice.run)
            )
        return sends + self.voice.tick(now, asks=not self.departure.begun)

    def _welcomed(self, welcome: Welcome, now: float) -> list[Send]:
        sends = self.ties.desk.heard(now)
        if welcome.state == "refused":
            return sends + self._end(errors.USAGE, f"refused: {welcome.reason}")
        if welcome.state == "over":
            self.departure.over = True
            return sends if self.departure.begun else sends + self._end(errors.OK, welcome.reason)
        if welcome.run != self.voice.run:
            sends += self._join(welcome, now)
        return sends + self.voice.welcomed(welcome)

    def _join(self, welcome: Welcome, now: float) -> list[Send]:
        """Another run than before: what was held of the old one is dropped."""
        dropped = [Send(Port.EXECUTOR, Cancel(ALL))] if self.held.unfinished.tasks else []
        self.recipe = welcome.recipe
        self.held.clear()
        return [*dropped, Send(Port.EXECUTOR, welcome.recipe), *self.ties.join(welcome, now)]

    def _take(self, chunk: Chunk, now: float) -> list[Send]:
        if not self.voice.saw(chunk, now) or self.departure.begun:
            return []
        stale = self.held.stale(chunk)
        cancelled = [Send(Port.EXECUTOR, Cancel(stale))] if stale else []
        return [*cancelled, *(Send(Port.EXECUTOR, part) for part in self.held.new(chunk, self.recipe, now))]

    def _finish(self, done: Done, now: float) -> list[Send]:
        if not self.held.finish(done, now):
            return []
        result = self.voice.result(done)
        sends = []
        for run in self.held.tries.runs(result.first, result.first + result.count):
            (part,) = cut_result(result, [(run.low, run.high)])
            part = replace(part, tries=run.tries) if run.tries else part
            self.held.unanswered.keep(part, self.voice.number, now)
            sends.append(Send(Port.RESULTS, part))
        return sends

    def _answered(self, ack: Ack, now: float) -> list[Send]:
        if ack.run != self.voice.run:
            return []
        sends = self.ties.sink.heard(now)
        elsewhere = self.held.settle(settled_of(ack.low, ack.ranges), ack.retries)
        if elsewhere:
            sends.append(Send(Port.EXECUTOR, Cancel(elsewhere)))
        for again in self.voice.meant(ack):
            sends += self.held.unanswered.asked(again, self.voice.number, now)
        self.voice.soon = self.voice.soon or bool(elsewhere) or self.departure.begun
        return sends

    def _killed(self, kill: Kill, now: float) -> list[Send]:
        if kill.run != self.voice.run and (self.voice.run or not self.ties.desk.silent(now, self.voice.liveness)):
            return []  # another run's; or not welcomed yet, and the desk may still answer
        self.departure.over = True
        if kill.mode != "soon":
            return self._end(errors.OK, kill.reason)
        return self._depart("soon") if self.departure.run_ends(kill) else []

    def _depart(self, mode: str) -> list[Send]:
        """Nothing new starts; what runs is finished and answered first, or killed."""
        self.voice.soon = True
        if mode == "now":
            return self._end(self.departure.outcome, self.departure.reason)
        return [Send(Port.EXECUTOR, Release())]

    def _end(self, outcome: int, reason: str) -> list[Send]:
        self.done, self.outcome, self.reason = True, outcome, reason
        return [Send(Port.EXECUTOR, Cancel(ALL)), *self.voice.goodbye(over=self.departure.over)]
