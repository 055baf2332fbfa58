"""The bench of the executor of callables: its slots at work, and what waits for them.

It cuts the backlog into batches of about ten milliseconds, so that the slots end together; what lies behind a task
that turns out long goes back to the backlog for others. A child that dies convicts the one task that it ran; a task
that runs too long takes its child along. It knows no words but what it says, and never waits.
"""

from __future__ import annotations

import signal

from pipeline.executor.backlog import Backlog, Bite
from pipeline.executor.callslot import DEPTH, CallSlot
from pipeline.executor.crew import Crew
from pipeline.executor.limits import Limits
from pipeline.executor.pace import Pace
from pipeline.words.errands import Done, Returned
from pipeline.words.parts import Ranges
from pipeline.words.station import NEVER, Message

BODY = 512 << 10
"""Bytes of records in a batch at most; a larger record travels alone."""


class Bench:
    """The crew at work. `said` is what has happened and was not told yet; `deadline` is when to go round again."""

    def __init__(self, crew: Crew, limits: Limits) -> None:
        self.backlog = Backlog()
        self.said: list[Message] = []
        self.deadline = crew.deadline
        self._crew, self._limits, self._pace = crew, limits, Pace()

    def go_round(self, deaths: list[tuple[CallSlot, int]], now: float) -> None:
        """See to each slot, and to those whose children have died, with the wait status."""
        for slot in self._crew.slots:
            self._attend(slot, now)
            self._watch(slot, now)
        for slot, status in deaths:
            self._died(slot, status, now)
        self.fill(now)

    def fill(self, now: float) -> None:
        """Give each slot a batch that has none, then one more while tasks are short."""
        slots = [] if self._crew.broken else self._crew.slots
        depths = range(1, DEPTH + 1 if self._pace.short else 2)
        for depth, slot in ((depth, slot) for depth in depths for slot in slots):
            if self.backlog.tasks and slot.takes(depth):
                records = self.backlog.take(self._pace.size(self.backlog.tasks, len(slots)), BODY)
                if records and not slot.load(records, self.backlog.recipe, now):
                    self.put_back([records])
        looks = [slot.batches[0].look for slot in slots if slot.batches]
        watches = [slot.watch.deadline(self._limits, now) for slot in slots] if self._limits.timed else []
        self.deadline = min(self._crew.deadline, *looks, *watches, NEVER)

    def tell(self, dones: list[Done]) -> None:
        """Say what has ended by itself, and learn from it."""
        for done in dones:
            self._limits.learn(done.seconds / done.result.count, done.result.count - len(done.result.notes))
        self.said += dones

    def put_back(self, rest: list[Bite]) -> None:
        """These were not started; they are next."""
        for bite in reversed(rest):
            self.backlog.put_back(bite)

    def _attend(self, slot: CallSlot, now: float) -> None:
        """Take what the slot's child is through with, and look at what takes long."""
        while slot.batches and slot.batches[0].seconds is not None:
            self._finished(slot, now)
        if slot.batches and now >= slot.batches[0].look:
            dones, rest = slot.look(now)
            self.tell(dones)
            self.put_back(rest)

    def _watch(self, slot: CallSlot, now: float) -> None:
        """End the slot's child if its task runs too long: ask first; kill it after the grace, or when it is idle."""
        watch, limits = slot.watch, self._limits
        if not limits.timed or (slot.doomed and not watch.stopped):
            return
        signum = watch.wants(slot.plate.running(), limits, now)
        if signum == signal.SIGTERM:
            self.put_back(slot.plate.take_back())
            self.tell(slot.tell(now))
            if slot.plate.running() != watch.task:
                return  # it has just ended
            watch.stop(limits, now)
            slot.plate.sentence(watch.task)
        if signum:
            self._crew.end(slot, signum)

    def _finished(self, slot: CallSlot, now: float) -> None:
        """The child is through with its first batch, or was halted."""
        batch = slot.batches[0]
        self.tell(slot.tell(now))
        self._pace.learn(batch.told, batch.seconds or 0.0)
        rest = slot.finish(now)
        if not batch.released:
            self.put_back(rest)
        elif rest:
            self.said.append(Returned(numbers(rest)))

    def _died(self, slot: CallSlot, status: int, now: float) -> None:
        """A child is dead: settle its batches, and put another in its place."""
        slot.hear()
        self._attend(slot, now)
        self.tell(slot.tell(now))
        verdicts, rest = slot.convict(status)
        self.said += verdicts
        self.put_back(rest)
        self._crew.replace(slot, status)


def numbers(rest: list[Bite]) -> Ranges:
    """The numbers of these records."""
    return tuple((records.first, records.first + records.count) for records in rest)
