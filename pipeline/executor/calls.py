"""The executor of callables: one warm child a slot, called with task after task.

It is an edge: chunks in, outcomes out. What happens in between is the bench's. It never imports the person's module,
never waits, and forks once: at its construction, which must come before any ZeroMQ context.
"""

from __future__ import annotations

from time import monotonic

from pipeline.executor import callee
from pipeline.executor.backlog import Lot
from pipeline.executor.bench import Bench, numbers
from pipeline.executor.crew import Crew
from pipeline.executor.limits import Limits
from pipeline.house.usage import Usage
from pipeline.words.errands import Cancel, Look, Release, Returned
from pipeline.words.messages import Chunk, Glance
from pipeline.words.parts import Ranges, Recipe
from pipeline.words.ranges import RangeSet
from pipeline.words.station import NEVER, Address, Message

MOST_SHOWN = 256
"""Running tasks that are told to who looks on."""


class Calls:
    """The edge. `call` and `init` are MODULE:FUNCTION or FILE.py:FUNCTION; `init` may be empty.

    Raises UsageError at once for what is written wrong; what can't be imported or called is a Broken, later.
    """

    def __init__(self, call: str, init: str, slots: int, limits: Limits | None = None) -> None:
        callee.check(call, "--call")
        if init:
            callee.check(init, "--init")
        limits = limits or Limits()
        self._crew, self._broken = Crew(call, init, slots, limits.output), False
        self._bench = Bench(self._crew, limits)
        self._usage = Usage()
        self.deadline = self._bench.deadline

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge serves one port
        """Take a Recipe, Chunk, Release or Cancel."""
        match message:
            case Recipe():
                self._bench.backlog.recipe = message
            case Chunk():
                lot = Lot(message.tries, message.run, monotonic())
                self._bench.backlog.add(message.first, message.count, message.body, lot)
                self._bench.fill(monotonic())
            case Release():
                self._release()
            case Look():
                doing = [each for slot in self._crew.slots for each in slot.doing(monotonic())]
                self._bench.said.append(Glance("", *self._usage.look(), tuple(doing[:MOST_SHOWN])))
            case Cancel():
                self._cancel(message.ranges)
        self.deadline = self._bench.deadline

    def files(self) -> list[object]:
        """One epoll for the nursery and all children."""
        return [] if self._crew.closed else [self._crew.fileno()]

    def receive(self) -> list[Message]:
        """What has happened: Done, Returned, Broken."""
        if self._crew.closed:
            return []
        deaths, now = self._crew.hear(), monotonic()
        if deaths is not None or now >= self.deadline:
            self._bench.go_round(deaths or [], now)
            self.deadline = self._bench.deadline
        said = [*self._bench.said, *self._crew.late(now)]
        self._bench.said.clear()
        if self._crew.broken and not self._broken:
            self._broken = True
            return [*said, self._crew.broken]
        return said

    def close(self) -> None:
        """Kill all children and wait until they and the nursery are gone. Nothing of the backlog is told."""
        self._crew.close()
        self.deadline = NEVER

    def _release(self) -> None:
        """Give back what waits, and what running batches have not started."""
        gone = RangeSet(self._bench.backlog.release())
        for slot in self._crew.slots:
            for batch in slot.batches:
                batch.released = True
            gone.update(numbers(slot.plate.take_back()))
        self._bench.said.append(Returned(gone.ranges()))

    def _cancel(self, ranges: Ranges) -> None:
        """Forget these tasks; a child that runs one is killed and replaced."""
        self._bench.backlog.drop(ranges)
        unwanted, now = RangeSet(ranges), monotonic()
        for slot in self._crew.slots:
            if slot.plate.unwant(unwanted):
                self._bench.tell(slot.tell(now))
                self._bench.put_back(slot.plate.take_back())
                if slot.plate.running() in unwanted:
                    self._crew.end(slot)
