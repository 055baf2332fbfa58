"""The sink: writes each task's result once, acks what is settled, and says KILL when all is written.

It repeats its whole ledger at each interval, asks again for results that pulses speak of and that never came, has
failed tasks tried again, and goes when everybody has said goodbye or fallen silent. It never runs or sends a task, and
never acks what is not safe.
"""

from __future__ import annotations

from msgspec import Struct, field

from pipeline.sink.attempts import Attempts, Retrying
from pipeline.sink.audience import Audience
from pipeline.sink.closing import Closing
from pipeline.sink.intake import Intake
from pipeline.sink.ledger import Ledger
from pipeline.sink.live import Live
from pipeline.sink.speech import Speech, Wants
from pipeline.sink.view import View
from pipeline.sink.writing import Limits, Writing
from pipeline.words.errands import Committed, Differs, Kept
from pipeline.words.halt import Halt
from pipeline.words.messages import Bye, Glance, Part, Pulse, Read, Result, Run, Stop
from pipeline.words.notices import Asked, Shown, VentilatorDead, Waiting
from pipeline.words.station import Hearing, Message, Port, Send


class Order(Struct, frozen=True):
    """How a sink writes, and how long it waits. With `journal`, another one can go on with its run."""

    keep_order: bool = False
    spill_limit: int = 10 << 30
    interval: float = 1.0
    liveness: float = 10.0
    patience: float = 600.0
    journal: bool = False
    retrying: Retrying = field(default_factory=Retrying)
    halt: Halt | None = None
    wants: Wants = field(default_factory=Wants)

    @property
    def limits(self) -> Limits:
        """Those of writing."""
        return Limits(self.spill_limit, self.keep_order, self.wants.log)


class Sink:
    """One life of the sink, which goes on with the ledger of those before it; `kept` bytes are in the spill.

    `birth` is greater than that of every life before: its Acks are numbered from there.
    """

    def __init__(
        self, order: Order, epoch: str, birth: int, now: float, ledger: Ledger | None = None, kept: int = 0
    ) -> None:
        self.order, self.done = order, False
        self.ledger = ledger or Ledger()
        self.attempts = Attempts(order.retrying)
        self.attempts.learn(self.ledger.tries.among([(0, self.ledger.tries.end)]), now)
        self.live = Live(self.ledger, ordered=order.keep_order)
        self.writing = Writing(self.ledger, self.attempts, self.live, order.limits, kept)
        self.intake = Intake(self.ledger, marked=order.journal)
        self.closing = Closing(self.ledger, self.writing, order.halt, order.interval, journal=order.journal)
        self.audience = Audience(self.ledger, order.liveness, now, order.patience, order.interval)
        self.speech = Speech(self.ledger, epoch, birth, now, order.wants)
        self.view = View(self.ledger, self.audience, self.writing, now, ordered=order.keep_order)
        self._next, self._soon = now, False
        self._hears: Hearing = {
            Result: self._result,
            Part: lambda word, _: self.live.heard(word),
            Glance: lambda word, _: self.audience.glanced(word),
            Asked: lambda _, now: [Send(Port.TOLD, Shown(self.view.status(now, self.closing.kill)))],
            Committed: self._committed,
            Kept: lambda word, _: self.writing.fetched(word),
            Pulse: self._pulsed,
            Read: lambda word, _: self.intake.heard(word),
            Differs: lambda word, now: [*self.intake.refuse(), *self.closing.differs(word.low, word.high, now)],
            Run: self._fed,
            Waiting: lambda word, _: self.closing.stuck(word),
            Stop: lambda word, now: self.closing.wish(word.mode, word.reason, now),
            VentilatorDead: lambda _, now: [*self.audience.on_ventilator_dead(), *self.closing.on_ventilator_dead(now)],
            Bye: lambda word, now: self.audience.left(word.name, now, over=self.closing.kill is not None),
        }

    @property
    def outcome(self) -> int:
        """The run's exit code, once done."""
        return self.closing.verdict.outcome

    @property
    def reason(self) -> str:
        """Why it ends early; empty if it does not."""
        return self.closing.verdict.reason

    @property
    def deadline(self) -> float:
        """The next Ack, or the next word to everybody."""
        due = self.speech.due, self._next, self.audience.ventilator.deadline, self.closing.verdict.deadline
        return 0.0 if self._soon else min(due)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word."""
        self._soon = self._soon or self.closing.kill is not None
        hear = self._hears.get(type(message))
        return hear(message, now) if hear else []

    def tick(self, now: float) -> list[Send]:
        """Ack, say all that is at each interval, and go when everybody is gone."""
        self._soon = False
        sends = [*self.audience.ventilator.tick(now), *self.closing.tick(now)]
        if self.audience.ventilator.lost(now) and not self.closing.kill:
            sends += self.closing.wish("soon", "the ventilator did not come back", now)
        if now >= self._next:
            self._next = now + self.order.interval
            sends += self._beat(now)
        if now >= self.speech.due:
            sends.append(self.speech.ack(now, self.audience, self.intake, self.attempts, full=self.writing.full))
        if self.closing.kill and not self.audience.awaited(now):
            sends += self._close(now)
        return sends

    def _result(self, result: Result, _: float) -> list[Send]:
        known = result.run == self.ledger.run and self.intake.told_of(result.first, result.first + result.count)
        return self.writing.take(result) if known and not self.closing.is_late else []

    def _committed(self, committed: Committed, now: float) -> list[Send]:
        journaled = committed.store == "journal"
        sends = self._journaled(committed.number, now) if journaled else self.writing.safe(committed)
        return [*sends, *self.closing.break_off(committed.failure, now)]

    def _journaled(self, number: int, now: float) -> list[Send]:
        news = self.ledger.durable(number)
        self.attempts.learn(news, now)
        self.intake.learn(news)
        if news:
            self.speech.hurry(now)
            self._soon = self._soon or self.writing.is_complete or self.ledger.killed is not None
        return [*self.writing.forget(), *self.closing.halt(now)]

    def _pulsed(self, pulse: Pulse, now: float) -> list[Send]:
        return [*(self.speech.hurry(now) if self.audience.pulsed(pulse, now) else []), *self.intake.joined(pulse)]

    def _fed(self, run: Run, now: float) -> list[Send]:
        """The ventilator's state; the first one names the run."""
        self.speech.heard = run.number
        if run.run != self.ledger.run:
            self.speech.hurry(now)
            known = self.ledger.run or self.closing.kill
            return [] if known else [*self.audience.fed(now), *self.intake.named(run)]
        self.view.starved = run.waiting
        return [*self.audience.fed(now), *(self.closing.heard(run, now) or self.intake.ended(run))]

    def _beat(self, now: float) -> list[Send]:
        self.speech.due = now
        self.audience.forget(now)
        return [
            *([Send(Port.CONTROL, kill)] if (kill := self.closing.kill) else []),
            *self.view.beat(now, kill),
            *self.writing.advance(),
        ]

    def _close(self, now: float) -> list[Send]:
        """Everybody is gone."""
        sends = self.closing.last_words()
        self.done = sends is None
        return self.view.beat(now, self.closing.kill) if sends is None else sends
