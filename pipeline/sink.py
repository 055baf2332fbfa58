"""The sink: writes each task's result once, acks what is settled, and says KILL when all is written.

The order is always: output (or spill), journal, Ack; so an Ack is never more than what is safe. It repeats its whole
ledger at each interval, asks again for results that pulses speak of and that never came, and goes when everybody has
said goodbye or fallen silent. It never runs or sends a task.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pipeline import errors
from pipeline.ledger import Ledger, Restored
from pipeline.messages import (
    Ack,
    Again,
    Bye,
    Durable,
    Fetch,
    Keep,
    Kept,
    Kill,
    Member,
    Message,
    Pulse,
    Result,
    Run,
    Spilled,
    Status,
    Stop,
    Write,
    Written,
)
from pipeline.station import NEVER, Port, Send
from pipeline.ventilator import NAME as VENTILATOR
from pipeline.watch import Watch

COALESCED = 0.004
"""Seconds between Acks under load; when idle an Ack leaves at once."""


@dataclass(frozen=True, slots=True)
class Order:
    """How a sink writes, and how long it waits."""

    keep_order: bool = False
    spill_limit: int = 10 << 30
    interval: float = 1.0
    liveness: float = 10.0
    patience: float = 600.0


def failures(result: Result) -> int:
    """How many of its tasks did not end well."""
    return len({note.task for note in result.notes})


@dataclass(slots=True)
class _Peer:
    pulse: Pulse
    heard: float


@dataclass(frozen=True, slots=True)
class _Sent:
    number: int
    low: int
    high: int
    failed: int


class Sink:
    """One life of the sink."""

    def __init__(self, order: Order, epoch: str, birth: int, now: float, restored: Restored | None = None) -> None:
        self.order, self.epoch = order, epoch
        self.done, self.outcome, self.reason = False, errors.OK, ""
        self.ledger = Ledger(restored or Restored())
        self.kill: Kill | None = None
        self.strange = 0
        """Results of other runs, dropped."""
        self.peers: dict[str, _Peer] = {}
        self._again: dict[str, Again] = {}
        self._gone: set[str] = set()
        self._number = birth
        self._writes: deque[_Sent] = deque()
        self._keeps: deque[_Sent] = deque()
        self._sent, self._kept_size, self._fetching, self._flushing, self._broken = 0, 0, False, False, False
        self._ack_at, self._acked, self._next = now, 0.0, now
        self._ended_run, self._heard, self._soon = "", -1, False
        self._ventilator = Watch("ventilator", now, order.patience)
        self._heard_ventilator = now if self.ledger.run else -NEVER

    @property
    def deadline(self) -> float:
        """The next Ack, or the next word to everybody."""
        return 0.0 if self._soon else min(self._ack_at, self._next, self._ventilator.deadline)

    def receive(self, message: Message, now: float) -> list[Send]:
        """Take in one word."""
        self._soon = self._soon or self.kill is not None
        match message:
            case Result():
                return self._result(message)
            case Written() | Spilled():
                return self._safe(message)
            case Durable(number):
                if self.ledger.durable(number):
                    self._ack_soon(now)
                    self._soon = self._soon or self.ledger.is_complete
            case Kept(result):
                return self._fetched(result)
            case Pulse():
                self._pulsed(message, now)
            case Run():
                return self._fed(message, now)
            case Stop(mode, reason):
                return self._end_run(mode, reason)
            case Bye(name):
                self._left(name)
            case _:
                pass
        return []

    def tick(self, now: float) -> list[Send]:
        """Ack, say all that is at each interval, and go when everybody is gone."""
        self._soon = False
        sends = self._ventilator.tick(now)
        if self.kill is None and self.ledger.run and self.ledger.is_complete:
            sends += self._end_run("done", self._ended_run)
        if now >= self._next:
            self._next = now + self.order.interval
            sends += self._beat(now)
        if now >= self._ack_at:
            sends.append(self._ack(now))
        if self._ventilator.lost(now) and not self.kill:
            sends += self._end_run("soon", "the ventilator did not come back")
        if self.kill and not self._awaited(now):
            sends += self._close(now)
        return sends

    # --- results, and their way to safety

    def _result(self, result: Result) -> list[Send]:
        if result.run != self.ledger.run or self._broken:
            self.strange += 1
            return []
        return [send for part in self.ledger.accept(result) for send in self._place(part)]

    def _place(self, part: Result) -> list[Send]:
        """In its turn a result is written, ahead of it kept."""
        if not self.order.keep_order or (part.first == self.ledger.turn and not self._fetching):
            return [self._write(part, failures(part)), *self._advance()]
        self._sent += 1
        self._keeps.append(_Sent(self._sent, part.first, part.first + part.count, failures(part)))
        self._kept_size += len(part.output) + len(part.errors)
        self.ledger.ahead.add(part.first, part.first + part.count)
        return [Send(Port.SPILL, Keep(self._sent, part))]

    def _write(self, part: Result, failed: int) -> Send:
        self._sent += 1
        end = part.first + part.count
        self._writes.append(_Sent(self._sent, part.first, end, failed))
        if self.order.keep_order:
            self.ledger.turn = end
        return Send(Port.OUTPUT, Write(self._sent, part))

    def _advance(self) -> list[Send]:
        """Fetch what was ahead and whose turn has come; at an early end, also what stands behind a gap."""
        ahead = self.ledger.ahead
        if self._fetching or not len(ahead):
            return []
        if self.ledger.turn not in ahead:
            if not self._flushing:
                return []
            self.ledger.turn = ahead.ranges()[0][0]
        self._fetching = True
        return [Send(Port.SPILL, Fetch(self.ledger.turn))]

    def _fetched(self, result: Result) -> list[Send]:
        self._fetching = False
        self._kept_size -= len(result.output) + len(result.errors)
        self.ledger.ahead.remove(result.first, result.first + result.count)
        return [self._write(result, 0), *self._advance()]  # its failures were counted when it was kept

    def _safe(self, word: Written | Spilled) -> list[Send]:
        """Output or spill has it: now the journal."""
        spilled = isinstance(word, Spilled)
        sent = self._keeps if spilled else self._writes
        ranges, failed = [], 0
        while sent and sent[0].number <= word.number:
            piece = sent.popleft()
            ranges.append((piece.low, piece.high))
            failed += piece.failed
        sends = [Send(Port.JOURNAL, self.ledger.entry(tuple(ranges), failed, spilled=spilled))] if ranges else []
        if word.failure and not self._broken:
            self._broken = True
            sends += self._end_run("now", word.failure)
            self.outcome = errors.STDOUT_CLOSED if word.failure == errors.CLOSED else errors.INCOMPLETE
        return sends

    # --- the others

    def _pulsed(self, pulse: Pulse, now: float) -> None:
        if pulse.worker in self._gone:
            return
        self.peers[pulse.worker] = _Peer(pulse, now)
        self._again.pop(pulse.worker, None)
        if pulse.run == self.ledger.run and (lost := self.ledger.missing(pulse.finished)):
            self._again[pulse.worker] = Again(pulse.worker, pulse.number, lost)
            self._ack_soon(now)

    def _fed(self, run: Run, now: float) -> list[Send]:
        """The ventilator's state; the first one names the run."""
        ledger, self._heard = self.ledger, run.number
        if not ledger.run and not self.kill:
            ledger.run, ledger.fingerprint = run.run, run.fingerprint
        if run.run != ledger.run:
            self._ack_soon(now)
            return []
        self._heard_ventilator = now
        sends = self._ventilator.heard(now)
        if run.state == "stopped" and not self.kill:
            return sends + self._end_run("soon", run.reason or "the ventilator stopped")
        if run.state == "ended" and ledger.total < 0:
            ledger.total, self._ended_run = run.total, run.reason
            sends.append(Send(Port.JOURNAL, ledger.entry((), 0, spilled=False)))
        if run.state == "feeding":
            self._ack_soon(now)
        return sends

    def _left(self, name: str) -> None:
        if name == VENTILATOR:
            self._heard_ventilator = -NEVER if self.kill else self._heard_ventilator
            return
        self._gone.add(name)
        self.peers.pop(name, None)
        self._again.pop(name, None)

    def _awaited(self, now: float) -> tuple[str, ...]:
        """Whose goodbye is missing, of those who are not lost."""
        silent = [name for name, peer in self.peers.items() if now - peer.heard > self.order.liveness]
        for name in silent:
            del self.peers[name]
        feeding = now - self._heard_ventilator <= self.order.liveness
        return (*self.peers, *((VENTILATOR,) if feeding else ()))

    # --- what it says

    def _end_run(self, mode: str, reason: str) -> list[Send]:
        """Say KILL; a later, harder one replaces it."""
        harder = {"done": 0, "soon": 1, "now": 2}
        if self.kill and (self.kill.mode == "done" or harder[mode] <= harder[self.kill.mode]):
            return []
        if not self.kill:
            failed = errors.TASKS_FAILED if self.ledger.failed else errors.OK
            self.outcome = failed if mode == "done" and not reason else errors.interrupted(reason)
        self.reason = reason
        self.kill = Kill(self.ledger.run, mode, reason, self.ledger.failed)  # type: ignore[arg-type]
        return [Send(Port.CONTROL, self.kill)]

    def _beat(self, now: float) -> list[Send]:
        sends = [Send(Port.CONTROL, self.kill)] if self.kill else []
        self._ack_at = now
        status = self.status(now)
        return [*sends, Send(Port.CONTROL, status), Send(Port.TOLD, status)]

    def _ack_soon(self, now: float) -> None:
        self._ack_at = min(self._ack_at, max(now, self._acked + COALESCED))

    def _ack(self, now: float) -> Send:
        self._ack_at, self._acked = NEVER, now
        self._number += 1
        ledger = self.ledger
        ack = Ack(
            run=ledger.run,
            heard=self._heard,
            fingerprint=ledger.fingerprint,
            epoch=self.epoch,
            number=self._number,
            low=ledger.settled.low_water(),
            ranges=ledger.settled.above_low_water(),
            failed=ledger.failed,
            total=ledger.total,
            full=self._kept_size > self.order.spill_limit,
            again=tuple(self._again.values()),
        )
        return Send(Port.CONTROL, ack)

    def status(self, now: float) -> Status:
        """The whole line, for those who look on."""
        members = tuple(
            Member(
                worker=name,
                command=peer.pulse.command,
                slots=peer.pulse.slots,
                running=min(peer.pulse.slots, sum(high - low for low, high in peer.pulse.holding)),
                done=peer.pulse.done,
                silent=round(now - peer.heard, 3),
            )
            for name, peer in self.peers.items()
        )
        turn = self.ledger.turn if self.order.keep_order and len(self.ledger.ahead) else -1
        state = self.kill.mode if self.kill else ("feeding" if self.ledger.total < 0 else "ended")
        settled, awaited = self.ledger.settled.tasks, self._awaited(now) if self.kill else ()
        return Status(
            self.ledger.run, state, settled, self.ledger.failed, self.ledger.total, turn, members, awaited
        )

    def _close(self, now: float) -> list[Send]:
        """Everybody is gone. What stands behind a gap in the order is written before the end."""
        if self._broken or not (len(self.ledger.ahead) or self._writes or self._keeps):
            self.done = True
            status = self.status(now)
            return [Send(Port.CONTROL, status), Send(Port.TOLD, status)]
        self._flushing = True
        return self._advance()
