"""The worker: lane to executor to sink, and a pulse that says all it holds.

It keeps a result until the sink's Ack answers for it, runs nothing twice that it still holds, gives back what it can't
start soon, and ends at KILL, when asked to leave, or when nobody has answered for its patience. It never decides
what a task's outcome means, and never sends more than it was asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import errors
from pipeline.credit import Credit
from pipeline.messages import (
    Ack,
    Again,
    Broken,
    Bye,
    Cancel,
    Chunk,
    Connect,
    Done,
    Foreign,
    Kill,
    Message,
    Pulse,
    Recipe,
    Release,
    Result,
    Returned,
    Stop,
    Welcome,
)
from pipeline.ranges import RangeSet, settled_of
from pipeline.records import split
from pipeline.station import Port, Send
from pipeline.unanswered import Unanswered
from pipeline.watch import Watch

ALL = ((0, 1 << 62),)
STUCK = 0.1
"""Seconds without a finished task after which the unstarted are given back."""
BUDGET = 64 << 20
"""Bytes of unanswered results past which nothing new is asked for."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker is: its name, new at each start; what it runs, as a digest and as text; its slots."""

    name: str
    digest: str
    command: str
    slots: int


class Worker:
    """One life of one worker."""

    def __init__(self, identity: Identity, now: float, patience: float = 600.0) -> None:
        self.identity = identity
        self.done, self.outcome, self.reason = False, errors.OK, ""
        self.run, self.recipe = "", Recipe()
        self.lane, self.seen, self.ack = 0, 0, 0
        self.holding = RangeSet()
        self.unanswered = Unanswered()
        self.credit = Credit(identity.slots)
        self.interval, self.liveness = 1.0, 10.0
        self.number, self.finished, self.leaving, self.ending = 0, 0, False, False
        self._told, self._soon, self._next = 0, True, now
        self._progress, self._stuck = now, False
        self._desk = Watch("ventilator", now, patience)
        self._sink = Watch("sink", now, patience)
        self._repaired = now

    @property
    def deadline(self) -> float:
        """The next pulse; or at once, when there is something to say."""
        if self._soon:
            return 0.0
        may_stick = self.holding.tasks > self.identity.slots and not self._stuck
        stuck = self._progress + STUCK if may_stick else self._next
        sink = self._sink.deadline if self.run else self._next
        return min(self._next, stuck, self._desk.deadline, sink)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word."""
        match message:
            case Done():
                return self._finish(message, now)
            case Chunk():
                return self._take(message, now)
            case Ack():
                return self._answered(message, now)
            case Welcome():
                return self._welcomed(message, now)
            case Kill():
                return self._killed(message, now)
            case Returned(ranges):
                self.holding.difference_update(ranges)
                self._soon = True
            case Stop():
                return self._leave(message)
            case Broken(reason, exit_code):
                return self._end(exit_code, reason)
            case Foreign(_, version):
                return self._end(errors.INCOMPLETE, f"a peer speaks protocol {version}, this is pipe1; install the same version")
            case _:
                pass
        return []

    def tick(self, now: float) -> list[Send]:
        """Say what is due: the pulse, repairs, the unstarted given back, an end."""
        sends = [*self._desk.tick(now), *(self._sink.tick(now) if self.run else [])]
        if end := self._reason_to_end(now):
            return sends + self._end(*end)
        if self._is_stuck(now):
            self._stuck = True
            sends.append(Send(Port.EXECUTOR, Release()))
        beat = now >= self._next
        if beat:
            self._next = now + self.interval
            sends += self._repairs(now)
        if beat or self._hungry():
            sends += self._pulses(beat, now)
        self._soon = False
        return sends

    def _reason_to_end(self, now: float) -> tuple[int, str] | None:
        if self._desk.lost(now):
            return errors.INCOMPLETE, "the ventilator did not answer any more"
        if self._sink.lost(now):
            return errors.INCOMPLETE, "the sink did not answer any more"
        if not self.leaving and not self.ending:
            return None
        if not self.holding.tasks and not len(self.unanswered):
            return self.outcome, self.reason
        if self.leaving and not self.holding.tasks and self._sink.silent(now, self.liveness):
            return errors.INCOMPLETE, "results were left that no sink answered for"
        return None

    def _is_stuck(self, now: float) -> bool:
        """More is held than can run, and nothing has ended for a while: the rest must not wait here."""
        return not self._stuck and self.holding.tasks > self.identity.slots and now >= self._progress + STUCK

    # --- what is said to it

    def _welcomed(self, welcome: Welcome, now: float) -> list[Send]:
        sends = self._desk.heard(now)
        if welcome.state == "refused":
            return sends + self._end(errors.USAGE, f"refused: {welcome.reason}")
        if welcome.state == "over":
            return sends if self.ending else sends + self._end(errors.OK, welcome.reason)
        self.interval, self.liveness = welcome.interval, welcome.liveness
        if welcome.run != self.run:
            sends += self._join(welcome, now)
        if welcome.lane > self.lane:
            self.lane, self.seen, self._told = welcome.lane, 0, 0
            self._soon = True
            sends.append(Send(Port.LANES, Connect(welcome.lane_at)))
        return sends

    def _join(self, welcome: Welcome, now: float) -> list[Send]:
        """Another run than before: what was held of the old one is dropped."""
        dropped = [Send(Port.EXECUTOR, Cancel(ALL))] if self.holding.tasks else []
        self.run, self.recipe, self.ack, self.lane = welcome.run, welcome.recipe, 0, 0
        self.holding = RangeSet()
        self.unanswered.clear()
        self._sink.expect(now)
        return [
            *dropped,
            Send(Port.EXECUTOR, welcome.recipe),
            Send(Port.RESULTS, Connect(welcome.sink_at)),
            Send(Port.CONTROL, Connect(welcome.control_at)),
        ]

    def _take(self, chunk: Chunk, now: float) -> list[Send]:
        if chunk.run != self.run or chunk.lane != self.lane:
            return []
        self.seen = max(self.seen, chunk.sequence)
        self.credit.came(chunk.sequence, chunk.count, now)
        if self.leaving or self.ending:
            self._soon = True
            return []
        if not self.holding.tasks:
            self._progress = now
        return [Send(Port.EXECUTOR, part) for part in self._new(chunk)]

    def _new(self, chunk: Chunk) -> list[Chunk]:
        """The parts of a chunk that are not held already: the same task again runs nothing."""
        end = chunk.first + chunk.count
        have = RangeSet((*self.holding.inside(chunk.first, end), *self.unanswered.tasks.inside(chunk.first, end)))
        new = have.outside(chunk.first, end)
        self.holding.update(new)
        if not have.tasks:
            return [chunk]
        parts = []
        for low, high in new:
            _, rest = split(chunk.body, low - chunk.first, self.recipe)
            body, _ = split(rest, high - low, self.recipe)
            parts.append(replace(chunk, first=low, count=high - low, body=body))
        return parts

    def _finish(self, done: Done, now: float) -> list[Send]:
        if not self.holding.covers(done.first, done.first + done.count):
            return []  # settled elsewhere or cancelled meanwhile
        self.holding.remove(done.first, done.first + done.count)
        self.credit.finished(done.count, done.seconds)
        self.finished += done.count
        self._progress, self._stuck, self._soon = now, False, True
        result = Result(
            self.run, self.identity.name, done.first, done.count, done.output, done.ends, done.errors, done.notes
        )
        self.unanswered.keep(result, self.number, now)
        return [Send(Port.RESULTS, result)]

    def _answered(self, ack: Ack, now: float) -> list[Send]:
        if ack.run != self.run:
            return []
        sends = self._sink.heard(now)
        self.ack = ack.number
        settled = settled_of(ack.low, ack.ranges)
        self.unanswered.settle(settled)
        for again in ack.again:
            sends += self._again(again, now)
        sends += self._drop(settled)
        self._soon = self._soon or self.leaving or self.ending
        return sends

    def _drop(self, settled: RangeSet) -> list[Send]:
        """What others have settled need not run on here."""
        twice = tuple(part for low, high in self.holding for part in settled.inside(low, high))
        if not twice:
            return []
        self.holding.difference_update(twice)
        self._soon = True
        return [Send(Port.EXECUTOR, Cancel(twice))]

    def _again(self, again: Again, now: float) -> list[Send]:
        if again.worker != self.identity.name:
            return []
        return [Send(Port.RESULTS, result) for result in self.unanswered.asked(again, self.number, now)]

    def _killed(self, kill: Kill, now: float) -> list[Send]:
        if kill.run != self.run and (self.run or not self._desk.silent(now, self.liveness)):
            return []  # another run's; or not welcomed yet, and the desk may still answer
        if kill.mode == "soon" and not self.ending:
            self.ending, self._soon, self.reason = True, True, kill.reason
            return [Send(Port.EXECUTOR, Release())]
        return [] if kill.mode == "soon" else self._end(errors.OK, kill.reason)

    def _leave(self, stop: Stop) -> list[Send]:
        """Asked to go, by a signal: what runs is finished and answered first; asked again, it is killed."""
        self.outcome, self.reason = errors.interrupted(stop.reason), stop.reason
        if stop.mode == "now" or self.leaving:
            return self._end(self.outcome, stop.reason)
        self.leaving = self._soon = True
        return [Send(Port.EXECUTOR, Release())]

    # --- what it says

    def _hungry(self) -> bool:
        """Whether more may be sent to it than it has said: worth a pulse only when a slot or a good part waits."""
        allowed = self._allowed()
        idle = self.holding.tasks < self.identity.slots
        return allowed > self._told and (idle or allowed - self._told >= max(1, self.credit.ahead() // 4))

    def _allowed(self) -> int:
        if self.leaving or self.ending or self.unanswered.size > BUDGET:
            return self.seen
        room = max(0, self.identity.slots - self.holding.tasks) if self._stuck else self.credit.room(self.holding.tasks)
        return self.seen + room

    def _pulses(self, beat: bool, now: float) -> list[Send]:  # noqa: FBT001
        self.number += 1
        allowed = self._allowed()
        if allowed > self._told:
            self.credit.told(allowed, now)
        self._told = allowed
        pulse = Pulse(
            worker=self.identity.name,
            number=self.number,
            run=self.run,
            digest=self.identity.digest,
            command=self.identity.command,
            slots=self.identity.slots,
            lane=self.lane,
            seen=self.seen,
            allowed=self._told,
            holding=self.holding.ranges(),
            finished=self.unanswered.tasks.ranges(),
            ack=self.ack,
            pace=self.credit.pace,
            done=self.finished,
        )
        to_sink = [Send(Port.RESULTS, pulse)] if beat and self.run else []
        return [Send(Port.DESK, pulse), *to_sink]

    def _repairs(self, now: float) -> list[Send]:
        """A connection that looks alive and carries nothing is replaced; libzmq never does that by itself."""
        sends = []
        if self._desk.repair_due(now, 3 * self.interval):
            sends.append(Send(Port.DESK, Connect()))
        if self.run and self._sink.repair_due(now, 5 * self.interval):
            sends.append(Send(Port.CONTROL, Connect()))
        oldest = self.unanswered.oldest()
        waited = oldest is not None and now - oldest > self.liveness and now - self._repaired > self.liveness
        if waited and not self._sink.silent(now, 5 * self.interval):
            self._repaired = now
            sends.append(Send(Port.RESULTS, Connect()))
        return sends

    def _end(self, outcome: int, reason: str) -> list[Send]:
        self.done, self.outcome, self.reason = True, outcome, reason
        bye = Bye(self.identity.name, reason)
        to_sink = [Send(Port.RESULTS, bye)] if self.run else []
        return [Send(Port.EXECUTOR, Cancel(ALL)), Send(Port.DESK, bye), *to_sink]
