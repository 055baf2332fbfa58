"""What a simulated line reads and writes: the input, the output, the spill and the journal.

The input hands out its records in pieces, at once or slowly. What was not synced is lost with the power, and the output
is cut back to what the journal knows, as the real journal does it.
"""

from __future__ import annotations

from functools import partial

from clock import AT_ONCE, Clock
from log import Log
from process import Process

from pipeline.errands import Durable, End, Entry, Fetch, Keep, Kept, Records, Spilled, Write, Written
from pipeline.ledger import Restored
from pipeline.messages import Result
from pipeline.ranges import RangeSet
from pipeline.station import Message

ONE_READ = 3 * 20
"""Bytes that one answer of the input has at most."""


class Input:
    """Task k is the line "k"."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._cursor = 0

    def rewind(self) -> None:
        """Another ventilator reads it from its beginning."""
        self._cursor = 0

    def send(self, process: Process, _: Message) -> None:
        """It is asked for more."""
        plan, rng, start = self._clock.plan, self._clock.rng, self._cursor
        if start >= plan.tasks:
            process.soon(End(plan.tasks))
            return
        count = min(rng.randint(1, 20), plan.tasks - start)
        self._cursor += count
        body = b"".join(b"%d\n" % task for task in range(start, start + count))
        wait = rng.random() * 2 if plan.slow_input else AT_ONCE
        self._clock.at(self._clock.now + wait, partial(process.deliver, Records(start, count, body)))


class Disk:
    """The sink's output, spill and journal."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock, self._log = clock, log
        self.output: list[int] = []
        self.spill: dict[int, Result] = {}
        self.journal: list[tuple[Entry, int]] = []
        """Each entry with the length of the output it answers for."""
        self.synced, self.written = 0, 0

    def send(self, process: Process, message: Message) -> None:
        """Output, spill or journal is told to do something."""
        match message:
            case Write(number, result):
                self._write(process, number, result)
            case Keep(number, result):
                self.spill[result.first] = result
                process.soon(Spilled(number))
            case Fetch(first):
                process.soon(Kept(self.spill[first]))
            case Entry():
                self.journal.append((message, self.written))
                self._clock.at(self._clock.now + 0.02, partial(self._sync, process, message.number))
            case _:
                pass

    def _write(self, process: Process, number: int, result: Result) -> None:
        self.output.extend(int(line) for line in result.output.split())
        now, length = self._clock.now, len(self.output)
        self._log.waited += now * result.count
        self._clock.at(now + 0.01 * self._clock.rng.random(), partial(self._written, process, number, length))

    def _written(self, process: Process, number: int, length: int) -> None:
        if process.is_running:
            self.written = max(self.written, length)
            process.deliver(Written(number))

    def _sync(self, process: Process, number: int) -> None:
        if process.is_running:
            last = max(index for index, (entry, _) in enumerate(self.journal) if entry.number == number)
            self.synced = max(self.synced, last + 1)
            process.deliver(Durable(number))

    def safe(self) -> RangeSet:
        """What a loss of power would leave."""
        safe = RangeSet()
        for entry, _ in self.journal[: self.synced]:
            safe.update(entry.ranges)
        return safe

    def crash(self) -> Restored:
        """The power fails: what the next sink finds."""
        del self.journal[self.synced :]
        del self.output[(self.journal[-1][1] if self.journal else 0) :]
        self.written = len(self.output)
        written, spilled = RangeSet(), RangeSet()
        for entry, _ in self.journal:
            (spilled if entry.spilled else written).update(entry.ranges)
        spilled.difference_update(written.ranges())
        self.spill = {first: kept for first, kept in self.spill.items() if first in spilled}
        if not self.journal:
            return Restored()
        last = self.journal[-1][0]
        return Restored(last.run, last.fingerprint, written.ranges(), spilled.ranges(), last.failed, last.total)
