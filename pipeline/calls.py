"""The executor of callables: one warm child a slot, called with task after task.

It is an edge: chunks in, outcomes out. It cuts the backlog into batches of about ten milliseconds, so that the slots
end together; what lies behind a task that turns out long goes back to the backlog for others. A child that dies
convicts the one task that it ran. It never imports the person's module, never waits, and forks once: at its
construction, which must come before any ZeroMQ context.
"""

from __future__ import annotations

from time import monotonic

from pipeline import callee
from pipeline.callslot import DEPTH, CallSlot
from pipeline.crew import Crew
from pipeline.errands import Cancel, Records, Release, Returned
from pipeline.executor import Backlog
from pipeline.messages import Chunk, Ranges, Recipe
from pipeline.pace import Pace
from pipeline.ranges import RangeSet
from pipeline.station import NEVER, Address, Message

BODY = 512 << 10
"""Bytes of records in a batch at most; a larger record travels alone."""


class Calls:
    """The edge. `call` and `init` are MODULE:FUNCTION or FILE.py:FUNCTION; `init` may be empty.

    Raises UsageError at once for what is written wrong; what can't be imported or called is a Broken, later.
    """

    def __init__(self, call: str, init: str, slots: int) -> None:
        callee.check(call, "--call")
        if init:
            callee.check(init, "--init")
        self._backlog, self._pace, self._broken = Backlog(), Pace(), False
        self._said: list[Message] = []
        self._crew = Crew(call, init, slots)
        self.deadline = self._crew.deadline

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge serves one port
        """Take a Recipe, Chunk, Release or Cancel."""
        match message:
            case Recipe():
                self._backlog.recipe = message
            case Chunk():
                self._backlog.add(message.first, message.count, message.body)
                self._fill(monotonic())
            case Release():
                self._release()
            case Cancel():
                self._cancel(message.ranges)

    def files(self) -> list[object]:
        """One epoll for the nursery and all children."""
        return [] if self._crew.closed else [self._crew.fileno()]

    def receive(self) -> list[Message]:
        """What has happened: Done, Returned, Broken."""
        if self._crew.closed:
            return []
        deaths, now = self._crew.hear(), monotonic()
        if deaths is not None or now >= self.deadline:
            for slot in self._crew.slots:
                self._attend(slot, now)
            for slot, status in deaths or ():
                self._died(slot, status, now)
            self._fill(now)
        self._said += self._crew.late(now)
        said, self._said = self._said, []
        if self._crew.broken and not self._broken:
            self._broken = True
            return [*said, self._crew.broken]
        return said

    def close(self) -> None:
        """Kill all children and wait until they and the nursery are gone. Nothing of the backlog is told."""
        self._crew.close()
        self.deadline = NEVER

    def _attend(self, slot: CallSlot, now: float) -> None:
        """Take what the slot's child is through with, and look at what takes long."""
        while slot.batches and slot.batches[0].seconds is not None:
            self._finished(slot, now)
        if slot.batches and now >= slot.batches[0].look:
            dones, rest = slot.look(now, self._backlog.recipe)
            self._said += dones
            self._put_back(rest)

    def _finished(self, slot: CallSlot, now: float) -> None:
        """The child is through with its first batch, or was halted."""
        batch = slot.batches[0]
        self._said += slot.tell(now)
        self._pace.learn(batch.told, batch.seconds or 0.0)
        rest = slot.finish(self._backlog.recipe, now)
        if not batch.released:
            self._put_back(rest)
        elif rest:
            self._said.append(Returned(_ranges(rest)))

    def _died(self, slot: CallSlot, status: int, now: float) -> None:
        """A child is dead: settle its batches, and put another in its place."""
        slot.hear()
        self._attend(slot, now)
        self._said += slot.tell(now)
        verdicts, rest = slot.convict(status, self._backlog.recipe)
        self._said += verdicts
        self._put_back(rest)
        self._crew.replace(slot, status)

    def _fill(self, now: float) -> None:
        """Give each slot a batch that has none, then one more while tasks are short."""
        slots = [] if self._crew.broken else self._crew.slots
        depths = range(1, DEPTH + 1 if self._pace.short else 2)
        for depth, slot in ((depth, slot) for depth in depths for slot in slots):
            if self._backlog.tasks and slot.takes(depth):
                records = self._backlog.take(self._pace.size(self._backlog.tasks, len(slots)), BODY)
                if records and not slot.load(records, self._backlog.recipe, now):
                    self._put_back([records])
        self.deadline = min(self._crew.deadline, *(slot.batches[0].look for slot in slots if slot.batches), NEVER)

    def _release(self) -> None:
        """Give back what waits, and what running batches have not started."""
        gone = RangeSet(self._backlog.release())
        for slot in self._crew.slots:
            for batch in slot.batches:
                batch.released = True
            gone.update(_ranges(slot.take_back(self._backlog.recipe)))
        self._said.append(Returned(gone.ranges()))

    def _cancel(self, ranges: Ranges) -> None:
        """Forget these tasks; a child that runs one is killed and replaced."""
        self._backlog.drop(ranges)
        unwanted, now = RangeSet(ranges), monotonic()
        for slot in self._crew.slots:
            if slot.unwant(unwanted):
                self._said += slot.tell(now)
                self._put_back(slot.take_back(self._backlog.recipe))
                if slot.running() in unwanted:
                    self._crew.kill(slot)

    def _put_back(self, rest: list[Records]) -> None:
        """These were not started; they are next."""
        for records in reversed(rest):
            self._backlog.put_back(records.first, records.count, records.body)


def _ranges(rest: list[Records]) -> Ranges:
    """The numbers of these records."""
    return tuple((records.first, records.first + records.count) for records in rest)
