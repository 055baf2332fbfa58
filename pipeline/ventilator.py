"""The ventilator: reads tasks, sends each worker as much as it asks for, and sends again what was lost.

It keeps the records of every task until the sink's Ack says that it is settled, and reads no further than its window.
It takes its run from the sink, never sends a chunk before that, and ends when KILL has come and its workers are gone.
It never judges a task's outcome.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipeline import errors
from pipeline.desk import Desk
from pipeline.lanes import CHUNK_SIZE, Lane, share
from pipeline.messages import (
    Ack,
    Bye,
    Called,
    Chunk,
    Connect,
    End,
    Foreign,
    Kill,
    Message,
    Opened,
    Pulse,
    Recipe,
    Records,
    Run,
    Stop,
    Unreachable,
    Want,
    Welcome,
)
from pipeline.ranges import RangeSet, settled_of
from pipeline.station import NEVER, Port, Send
from pipeline.station import Lane as LanePort
from pipeline.stock import Span, Stock, cut
from pipeline.watch import Watch

MOST_RANGES = 4096
"""Settled ranges above the low-water mark past which nothing new is sent: each costs room in every Ack."""
BLOCK = 512 << 10
"""Bytes asked of the source at a time."""
NAME = "ventilator"


@dataclass(frozen=True, slots=True)
class Feed:
    """What a ventilator is given: its input's identity and look, the run's name if it begins one, and the limits."""

    run: str
    fingerprint: str
    recipe: Recipe
    sink_at: str = ""
    control_at: str = ""
    chunk: int | None = None
    window: int = 64 << 20
    interval: float = 1.0
    liveness: float = 10.0
    patience: float = 600.0


class Ventilator:
    """One life of the ventilator."""

    def __init__(self, feed: Feed, now: float) -> None:
        self.feed = feed
        self.done, self.outcome, self.reason = False, errors.OK, ""
        self.run = Run(feed.run, 0, feed.fingerprint, "feeding", -1, "")
        self.confirmed = False
        """Whether the sink has said that this is its run."""
        self.stock = Stock(feed.recipe)
        word = Welcome("", "run", "", feed.recipe, 0, "", feed.sink_at, feed.control_at, feed.interval, feed.liveness)
        self.desk = Desk(self.stock, word)
        self.settled = RangeSet()
        self.kill: Kill | None = None
        self._stop: Stop | None = None
        self._ack, self._epoch, self._full, self._reading = 0, "", False, False
        self._heard = -1
        self._early: dict[bytes, Pulse] = {}
        self._quiet_until = now
        self._next, self._soon = now, False
        self._sink = Watch("sink", now, feed.patience)
        self._own = Watch("sink", now, feed.patience)
        """Whether the sink hears this station: its Acks say which Run they know."""
        self._workers = Watch("worker", now, feed.patience)

    @property
    def deadline(self) -> float:
        """At once when there is something to send; else the next word to everybody."""
        workers = self._workers.deadline if self.confirmed else NEVER
        return 0.0 if self._soon else min(self._next, self._sink.deadline, workers)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word; chunks leave at the next tick, at once, when all that had arrived is known."""
        self._soon = True
        match message:
            case Called(peer, Pulse() as pulse):
                return self._pulsed(peer, pulse, now)
            case Called(_, Bye(name)):
                return self.desk.left(name)
            case Records():
                self._read(message)
            case Ack():
                return self._acked(message, now)
            case Opened():
                return self.desk.opened(message)
            case End(total, reason):
                self._reading = True  # for good: there is nothing more to read
                self.run = replace(self.run, state="ended", total=total, reason=reason)
                return self._say_run() if self.confirmed else []
            case Kill():
                return self._killed(message)
            case Unreachable(peer):
                self.desk.unreachable(peer, now)
            case Stop():
                return self._stopped(message)
            case Foreign(peer, version) if peer:
                return self.desk.refuse(peer, "a worker", f"it speaks protocol {version}, this is pipe1")
            case _:
                pass
        return []

    def tick(self, now: float) -> list[Send]:
        """Send what can be sent; at each interval also say all that is, and look who is still there."""
        self._soon = False
        sends = [*self._sink.tick(now), *(self._workers.tick(now) if self.confirmed else [])]
        if now >= self._next:
            self._next = now + self.feed.interval
            sends += self._beat(now)
        sends += self.desk.expire(now)
        if self.kill and not self.desk.lanes:
            self.done = True
            return [*sends, Send(Port.RESULTS, Bye(NAME, self.reason))]
        if end := self._reason_to_end(now):
            return sends + self._end(*end)
        if self.confirmed and not self.kill and now >= self._quiet_until:
            sends += self._dispatch(now)
        return sends

    def _beat(self, now: float) -> list[Send]:
        sends = self.desk.welcome_all()
        patience = 5 * self.feed.interval
        if self._sink.repair_due(now, patience):
            sends += [Send(Port.CONTROL, Connect()), Send(Port.RESULTS, Connect())]
        elif self._own.repair_due(now, patience):
            sends.append(Send(Port.RESULTS, Connect()))
        if self.confirmed:
            sends += self._say_run()
        if self._stop:
            sends.append(Send(Port.RESULTS, self._stop))
        return sends

    def _say_run(self) -> list[Send]:
        self.run = replace(self.run, number=self.run.number + 1)
        return [Send(Port.RESULTS, self.run)]

    def _reason_to_end(self, now: float) -> tuple[int, str] | None:
        if self._stop and self._sink.silent(now, 2 * self.feed.interval):
            return errors.interrupted(self._stop.reason), self._stop.reason
        if self._sink.lost(now):
            return errors.INCOMPLETE, "the sink did not answer any more"
        if self.confirmed and self._workers.lost(now):
            return errors.INCOMPLETE, "no worker came back"
        return None

    # --- what is said to it

    def _pulsed(self, peer: bytes, pulse: Pulse, now: float) -> list[Send]:
        sends = self._workers.heard(now)
        if not self.confirmed:
            self._early[peer] = pulse
            return sends
        return sends + self.desk.pulsed(peer, pulse, self._ack >= pulse.ack, now)

    def _read(self, records: Records) -> None:
        """What a former life of this ventilator had settled, or a worker says it holds, is not sent."""
        self._reading = False
        span = Span(records.first, records.count, records.body)
        known = RangeSet(self.settled.inside(span.first, span.end) + self.desk.claimed().inside(span.first, span.end))
        if not known.tasks:
            self.stock.add(records)
            return
        for part in cut(span, self.settled.outside(span.first, span.end), self.feed.recipe):
            self.stock.put_back(part)
        for lane in self.desk.lanes.values():
            self.desk.adopt(lane)

    def _acked(self, ack: Ack, now: float) -> list[Send]:
        sends = self._sink.heard(now)
        if ack.heard != self._heard:
            self._heard = ack.heard
            self._own.heard(now)
        if ack.run != self.run.run:
            return sends + self._join(ack, now)
        settled = settled_of(ack.low, ack.ranges)
        if self._epoch != ack.epoch and any(settled.outside(low, high) for low, high in self.settled):
            return sends + self._end(errors.INCOMPLETE, "the sink was started again and has lost what it had settled")
        self._ack, self._epoch, self._full = ack.number, ack.epoch, ack.full
        if not self.confirmed:
            sends += self._confirm(now)
        for part in settled:
            self.settled.add(*part)
        self.desk.settle(self.settled)
        self.stock.settle(self.settled)
        return sends

    def _join(self, ack: Ack, now: float) -> list[Send]:
        """The sink names another run, or none: offer this one, take that one up, or end."""
        if not ack.run and not self.settled.tasks:
            return self._say_run()
        if not self.confirmed and 0 <= ack.total <= ack.low and ack.fingerprint != self.feed.fingerprint:
            return []  # a sink that has finished and is about to go
        if self.confirmed or not ack.run:
            return self._end(errors.INCOMPLETE, "the sink was started again and has lost what it had settled")
        if ack.fingerprint != self.feed.fingerprint:
            return self._end(errors.USAGE, "the sink is in the middle of a run of another input")
        self.run = replace(self.run, run=ack.run)
        self._quiet_until = now + 3 * self.feed.interval  # what workers hold is theirs; they will say so by then
        return self._acked(ack, now)

    def _confirm(self, now: float) -> list[Send]:
        self.confirmed = True
        self.desk.word = replace(self.desk.word, run=self.run.run)
        self._workers.expect(now)
        early, self._early = self._early, {}
        sends = self._say_run()
        for peer, pulse in early.items():
            sends += self._pulsed(peer, pulse, now)
        return sends

    def _killed(self, kill: Kill) -> list[Send]:
        if kill.run != self.run.run and (self.confirmed or kill.run):
            return []
        if self.kill is None:
            self.kill, self.reason = kill, kill.reason
            done = errors.TASKS_FAILED if kill.failed else errors.OK
            self.outcome = done if kill.mode == "done" and not kill.reason else errors.interrupted(kill.reason)
        return self.desk.over(kill) if kill.mode != "soon" else []

    def _stopped(self, stop: Stop) -> list[Send]:
        """The person wants an end: the sink says it to all; where there is none, it is this station's alone."""
        if not self._sink.met or (self._stop and self._stop.mode == "now"):
            return self._end(errors.interrupted(stop.reason), stop.reason)
        self._stop = Stop("now" if self._stop else stop.mode, stop.reason)
        return [Send(Port.RESULTS, self._stop)]

    # --- what it sends

    def _dispatch(self, now: float) -> list[Send]:
        """A chunk to each lane in turn, as long as there is room and something to send."""
        sends: list[Send] = []
        hungry = [lane for lane in self.desk.lanes.values() if lane.room()]
        credit = sum(lane.room() for lane in hungry)
        while hungry:
            for lane in hungry:
                span = self._next_span(lane, credit)
                if span is None:
                    return sends + self._want()
                sent = lane.carry(span, now)
                credit -= 1
                word = Chunk(self.run.run, lane.number, sent.sequence, sent.first, sent.count, sent.body)
                sends.append(Send(LanePort(lane.number), word))
            hungry = [lane for lane in hungry if lane.room()]
        return sends if self.stock.has_fresh else sends + self._want()

    def _next_span(self, lane: Lane, credit: int) -> Span | None:
        fresh = not self._full and len(self.settled) < MOST_RANGES
        most = share(lane, self.stock.tasks, credit, self.feed.chunk)
        return self.stock.take(most, CHUNK_SIZE, fresh=fresh)

    def _want(self) -> list[Send]:
        """Read on, but only within the window."""
        unsettled = self.stock.size + sum(lane.size for lane in self.desk.lanes.values())
        if self._reading or self.stock.has_fresh or unsettled >= self.feed.window:
            return []
        self._reading = True
        return [Send(Port.SOURCE, Want(BLOCK))]

    def _end(self, outcome: int, reason: str) -> list[Send]:
        """Give up: the sink is told why, so that it can end the run."""
        self.done, self.outcome, self.reason = True, outcome, reason
        stopped = replace(self.run, state="stopped", reason=reason)
        return [*([Send(Port.RESULTS, stopped)] if self.confirmed else []), Send(Port.RESULTS, Bye(NAME, reason))]
