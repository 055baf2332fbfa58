"""The sink: writes each task's result once, acks what is settled, and says KILL when all is written.

It repeats its whole ledger at each interval, asks again for results that pulses speak of and that never came, and goes
when everybody has said goodbye or fallen silent. It never runs or sends a task, and never acks what is not safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline import errors
from pipeline.audience import Audience
from pipeline.ending import Verdict
from pipeline.errands import Durable, Kept, Spilled, Written
from pipeline.ledger import Ledger, Restored
from pipeline.messages import Bye, Kill, Pulse, Result, Run, Status, Stop
from pipeline.speech import Speech
from pipeline.station import Hearing, Message, Port, Send
from pipeline.watch import Watch
from pipeline.writing import Writing


@dataclass(frozen=True, slots=True)
class Order:
    """How a sink writes, and how long it waits."""

    keep_order: bool = False
    spill_limit: int = 10 << 30
    interval: float = 1.0
    liveness: float = 10.0
    patience: float = 600.0


class Sink:
    """One life of the sink. `birth` is greater than that of every life before: its Acks are numbered from there."""

    def __init__(self, order: Order, epoch: str, birth: int, now: float, restored: Restored | None = None) -> None:
        self.order = order
        self.done, self.outcome, self.reason, self.verdict = False, errors.OK, "", Verdict()
        self.ledger = Ledger(restored or Restored())
        self.writing = Writing(self.ledger, order.spill_limit, keep_order=order.keep_order)
        self.audience = Audience(self.ledger, order.liveness, now)
        self.speech = Speech(self.ledger, epoch, birth, now)
        self._broken, self._next, self._soon, self._broken_input = False, now, False, ""
        self._ventilator = Watch("ventilator", now, order.patience, order.interval)
        self._hears: Hearing = {
            Result: self._result,
            Written: self._safe,
            Spilled: self._safe,
            Durable: self._durable,
            Kept: lambda word, _: self.writing.fetched(word),
            Pulse: self._pulsed,
            Run: self._fed,
            Stop: lambda word, _: self._end_run(word.mode, word.reason),
            Bye: lambda word, _: self.audience.left(word.name, over=self.verdict.kill is not None),
        }

    @property
    def deadline(self) -> float:
        """The next Ack, or the next word to everybody."""
        return 0.0 if self._soon else min(self.speech.due, self._next, self._ventilator.deadline)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word."""
        self._soon = self._soon or self.verdict.kill is not None
        hear = self._hears.get(type(message))
        return hear(message, now) if hear else []

    def tick(self, now: float) -> list[Send]:
        """Ack, say all that is at each interval, and go when everybody is gone."""
        self._soon = False
        sends = self._ventilator.tick(now)
        if self.verdict.kill is None and self.ledger.run and self.writing.is_complete:
            sends += self._end_run("done", self._broken_input)
        if now >= self._next:
            self._next = now + self.order.interval
            sends += self._beat(now)
        if now >= self.speech.due:
            sends.append(self.speech.ack(now, self.audience, full=self.writing.full))
        if self._ventilator.lost(now) and not self.verdict.kill:
            sends += self._end_run("soon", "the ventilator did not come back")
        if self.verdict.kill and not self.audience.awaited(now):
            sends += self._close(now)
        return sends

    def _durable(self, durable: Durable, now: float) -> list[Send]:
        if self.ledger.durable(durable.number):
            self.speech.hurry(now)
            self._soon = self._soon or self.writing.is_complete
        return []

    def _pulsed(self, pulse: Pulse, now: float) -> list[Send]:
        return self.speech.hurry(now) if self.audience.pulsed(pulse, now) else []

    def _result(self, result: Result, _: float) -> list[Send]:
        if result.run != self.ledger.run or self._broken:
            return []
        return self.writing.take(result)

    def _safe(self, word: Written | Spilled, _: float) -> list[Send]:
        sends = self.writing.safe(word)
        if word.failure and not self._broken:
            self._broken = True
            self.verdict.break_off(word.failure)
            sends += self._end_run("now", word.failure)
        return sends

    def _fed(self, run: Run, now: float) -> list[Send]:
        """The ventilator's state; the first one names the run."""
        ledger, self.speech.heard = self.ledger, run.number
        if run.run != ledger.run:
            self.speech.hurry(now)
        if not ledger.run and not self.verdict.kill:
            ledger.run, ledger.fingerprint = run.run, run.fingerprint
        if run.run != ledger.run:
            return []
        self.audience.fed(now)
        sends = self._ventilator.heard(now)
        if run.state == "stopped" and not self.verdict.kill:
            return sends + self._end_run("soon", run.reason or "the ventilator stopped")
        if run.state == "ended":
            self._broken_input = run.reason
        if run.state == "ended" and ledger.total < 0:
            ledger.total = run.total
            sends.append(Send(Port.JOURNAL, ledger.entry((), 0, spilled=False)))
        return sends

    def _end_run(self, mode: Literal["done", "soon", "now"], reason: str) -> list[Send]:
        """Say KILL; a later, harder one replaces it."""
        kill = Kill(self.ledger.run, mode, reason, self.ledger.failed)
        news = self.verdict.say(kill)
        self.outcome, self.reason = self.verdict.outcome, self.verdict.reason
        return [Send(Port.CONTROL, kill)] if news else []

    def _beat(self, now: float) -> list[Send]:
        self.speech.due = now
        self.audience.forget(now)
        status = self.status(now)
        repeated = [Send(Port.CONTROL, self.verdict.kill)] if self.verdict.kill else []
        return [*repeated, Send(Port.CONTROL, status), Send(Port.TOLD, status)]

    def _close(self, now: float) -> list[Send]:
        """Everybody is gone. What stands behind a gap in the order is written before the end."""
        if not self._broken and not self.writing.is_over:
            return self.writing.flush()
        self.done = True
        status = self.status(now)
        return [Send(Port.CONTROL, status), Send(Port.TOLD, status)]

    def status(self, now: float) -> Status:
        """The whole line, for those who look on."""
        return self.speech.status(now, self.audience, self.verdict.kill, ordered=self.order.keep_order)
