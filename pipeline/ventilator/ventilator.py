"""The ventilator: reads tasks, sends each worker as much as it asks for, and sends again what was lost.

It keeps the records of every task until the sink's Ack says that it is settled, and reads no further than its window.
It takes its run from the sink, never sends a chunk before that, and ends when KILL has come and its workers are gone.
It never judges a task's outcome.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.ventilator.accord import Accord
from pipeline.ventilator.desk import Desk
from pipeline.ventilator.feeding import Feeding
from pipeline.ventilator.marking import Marking
from pipeline.words import errors
from pipeline.words.errands import Called, End, Foreign, Opened, Records, Unreachable
from pipeline.words.messages import Ack, Bye, Kill, Stop, Welcome
from pipeline.words.parts import Recipe
from pipeline.words.ranges import settled_of
from pipeline.words.station import NEVER, VENTILATOR, Hearing, Message, Port, Send
from pipeline.words.structs import replace


class Feed(Struct, frozen=True):
    """What a ventilator is given: its input's identity and look, the run's name if it begins one, and the limits."""

    run: str
    fingerprint: str
    recipe: Recipe
    sink_at: str = ""
    control_at: str = ""
    chunk: int | None = None
    most: int | None = None
    crash_limit: int = 3
    window: int = 64 << 20
    interval: float = 1.0
    liveness: float = 10.0
    patience: float = 600.0


class Ventilator:
    """One life of the ventilator."""

    def __init__(self, feed: Feed, now: float) -> None:
        self.feed = feed
        self.done, self.outcome, self.reason = False, errors.OK, ""
        self.accord = Accord(feed.run, feed.fingerprint, now, feed.patience, feed.interval)
        self.feeding = Feeding(feed.recipe, feed.window, feed.chunk, feed.most, feed.crash_limit)
        self.marking = Marking(feed.run, feed.recipe)
        word = Welcome("", "run", "", feed.recipe, 0, "", feed.sink_at, feed.control_at, feed.interval, feed.liveness)
        self.desk = Desk(self.feeding.stock, word, now, feed.patience)
        self.kill: Kill | None = None
        self._quiet_until, self._due = now, NEVER
        self._next, self._soon = now, False
        self._hears: Hearing = {
            Called: self._called,
            Records: self._read,
            Ack: self._acked,
            Opened: lambda word, _: self.desk.opened(word),
            End: self._read_all,
            Kill: lambda word, _: self._killed(word),
            Unreachable: lambda word, now: self.desk.unreachable(word.peer, now),
            Stop: lambda word, _: self._stopped(word),
            Foreign: lambda word, _: self.desk.refuse_version(word.peer, word.version),
        }

    @property
    def deadline(self) -> float:
        """At once when there is something to send; else the next word to everybody."""
        workers = self.desk.watch.deadline if self.accord.confirmed else NEVER
        return 0.0 if self._soon else min(self._next, self.accord.sink.deadline, workers, self._due)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word; chunks leave at the next tick, at once, when all that had arrived is known."""
        self._soon = True
        hear = self._hears.get(type(message))
        return hear(message, now) if hear else []

    def tick(self, now: float) -> list[Send]:
        """Send what can be sent; at each interval also say all that is, and look who is still there."""
        self._soon, sends = False, self.accord.sink.tick(now)
        if now >= self._next:
            self._next = now + self.feed.interval
            sends += [*self.desk.welcome_all(), *self._beat(now)]
        sends += self.desk.expire(now)
        if self.kill and not len(self.desk.lanes):
            self.done = True
            return [*sends, Send(Port.RESULTS, Bye(VENTILATOR))]
        if end := self._reason_to_end(now):
            return sends + self._end(*end)
        if self.accord.confirmed and now >= self._quiet_until:
            lanes, run = self.desk.lanes, self.accord.run.run
            sends += self.feeding.read_on(lanes) if self.kill else self.feeding.dispatch(run, lanes, now)
        self._due = self.feeding.stock.next_due(now)
        return sends

    def _beat(self, now: float) -> list[Send]:
        """The run; what the sink has not answered, again; and what need not be kept, to the source."""
        said = self.accord.beat(now, 5 * self.feed.interval, starved=not self.feeding.stock.tasks)
        if not self.accord.confirmed or self.accord.sink.silent(now, 3 * self.feed.interval):
            return said
        return [*said, *self.marking.say(self.accord.run.run), *self.feeding.repeat(self.accord.run.run)]

    def _read(self, records: Records, _: float) -> list[Send]:
        sends = self.marking.add(records, self.accord.run.run)
        return sends + self.feeding.read(records, self.desk.lanes, self.marking.needed)

    def _reason_to_end(self, now: float) -> tuple[int, str] | None:
        is_settled = 0 <= self.accord.run.total <= self.feeding.settled.low_water()
        if self.desk.watch.lost(now) and self.accord.confirmed and not is_settled:
            return errors.INCOMPLETE, "no worker came back"
        return self.accord.lost(now, 2 * self.feed.interval)

    def _called(self, called: Called, now: float) -> list[Send]:
        if isinstance(called.word, Bye):
            return self.desk.left(called.word, now)
        return self.desk.pulsed(called.peer, called.word, self.accord.ack >= called.word.ack, now)

    def _read_all(self, end: End, _: float) -> list[Send]:
        self.feeding.ended()
        return self.accord.ended(self.marking.comparable(end.total) if end.reason else end.total, end.reason)

    def _acked(self, ack: Ack, now: float) -> list[Send]:
        sends = self.accord.sink.heard(now)
        agreed = self.accord.is_agreed(ack, now)
        if breach := self.accord.breach(ack, self.feeding.settled):
            return sends + self._end(*breach)
        if not agreed:
            return sends + ([] if ack.run else self.accord.say())
        self.feeding.full = ack.full
        self.feeding.settle(settled_of(ack.low, ack.ranges), self.desk.lanes)
        self.feeding.retry(ack.retries, self.desk.lanes, now)
        self.desk.lanes.wake(now - 3 * self.feed.interval)
        sends += self.marking.answered(ack)
        self.desk.admission.know(ack.digest, ack.command)
        return sends if self.accord.confirmed else sends + self._confirm(ack, now)

    def _confirm(self, ack: Ack, now: float) -> list[Send]:
        """The sink knows the run: now the workers are welcome, and are told what it wants of each task."""
        recipe = replace(self.feed.recipe, collect_metrics=ack.account, stream_output=ack.live)
        self.accord.confirmed = True
        if self.accord.resumed:  # what workers hold is theirs; they will say so by then
            self._quiet_until = now + 3 * self.feed.interval
        return [*self.accord.say(), *self.desk.begin(self.accord.run.run, recipe, now)]

    def _killed(self, kill: Kill) -> list[Send]:
        if kill.run != self.accord.run.run and (self.accord.confirmed or kill.run):
            return []
        if self.kill is None:
            self.kill, self.reason, self.outcome = kill, kill.reason, kill.code
        return self.desk.over(kill) if kill.mode != "soon" else []

    def _stopped(self, stop: Stop) -> list[Send]:
        """The person wants an end: the sink says it to all; where there is none, it is this station's alone."""
        return self.accord.asked(stop) or self._end(errors.interrupted(stop.reason), stop.reason)

    def _end(self, outcome: int, reason: str) -> list[Send]:
        """Give up: the sink is told why, so that it can end the run."""
        self.done, self.outcome, self.reason = True, outcome, reason
        stopped = Send(Port.RESULTS, replace(self.accord.run, state="stopped", reason=reason))
        return [*([stopped] if self.accord.confirmed else []), Send(Port.RESULTS, Bye(VENTILATOR))]
