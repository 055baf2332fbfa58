"""What a simulated line reads and writes: the input, the output, the spill and the journal.

The input hands out its records in pieces, at once or slowly. What was not synced is lost with the power, and the output
is cut back to what the journal knows, as the real journal does it.
"""

from __future__ import annotations

from functools import partial

from clock import AT_ONCE, Clock
from log import Log, Violation
from process import Process

from pipeline.journal.past import Past
from pipeline.journal.recheck import sift
from pipeline.sink.ledger import Ledger
from pipeline.sink.sink import Sink
from pipeline.words import accounts
from pipeline.words.errands import Committed, End, Entry, Fetch, Forget, Keep, Kept, Records, Show, Write
from pipeline.words.facts import Fact, Left, Marked
from pipeline.words.messages import Result
from pipeline.words.notices import Waiting
from pipeline.words.ranges import RangeSet
from pipeline.words.results import cut_result
from pipeline.words.station import VENTILATOR, Message

ONE_READ = 3 * 20
"""Bytes that one answer of the input has at most."""


class Input:
    """Task k is the line "k"."""

    def __init__(self, clock: Clock, disk: Disk) -> None:
        self._clock, self._disk = clock, disk
        self._cursor = self._readings = 0
        self.is_spoiled: bool | None = None
        """Whether the task of the edited record was settled when that was read; None before."""

    def rewind(self) -> None:
        """Another ventilator reads it from its beginning."""
        self._cursor = 0
        self._readings += 1

    def send(self, process: Process, message: Message) -> None:
        """It is asked for more."""
        if isinstance(message, Forget):
            return
        plan, rng, start = self._clock.plan, self._clock.rng, self._cursor
        if start >= plan.tasks:
            process.soon(End(plan.tasks))
            return
        count = min(rng.randint(1, 20), plan.tasks - start)
        if plan.large:
            count = 1
        self._cursor += count
        edited = plan.edited if self._readings > 1 else -1
        if start <= edited < start + count and self.is_spoiled is None:
            self.is_spoiled = edited in self._disk.safe().settled
        body = b"".join(b"%d%*s\n" % (task, plan.large + (task == edited), b"") for task in range(start, start + count))
        wait = rng.random() * 2 if plan.slow_input else AT_ONCE
        self._clock.at(self._clock.now + wait, partial(process.deliver, Records(start, count, body)))


class Disk:
    """The sink's output, spill and journal."""

    def __init__(self, clock: Clock, log: Log) -> None:
        self._clock, self._log = clock, log
        self.output: list[tuple[int, str]] = []
        """Each task that was written, and how it ended."""
        self.rows: list[tuple[int, int]] = []
        """Each try that was written down, as (task, tries before it)."""
        self.shown: list[int] = []
        """Each line that was written, by its task; and all that a task has written."""
        self.text: dict[int, bytes] = {}
        self.spill: dict[int, Result] = {}
        self.journal: list[Entry] = []
        self._past = Past()
        self.synced = 0
        self._last = 0.0

    def send(self, process: Process, message: Message) -> None:
        """Output, spill or journal is told to do something."""
        if isinstance(message, Write | Show) and self._is_full(process):
            process.soon(Waiting("disk", "the disk is full"))
        else:
            self._take(process, message)

    def _is_full(self, process: Process) -> bool:
        """For good, once the end was said: before it, a run would just wait, as it should."""
        assert isinstance(process.station, Sink)
        return self._clock.now >= self._clock.plan.full and process.station.closing.kill is not None

    def _take(self, process: Process, message: Message) -> None:
        match message:
            case Write(number, result, tried, shown):
                self._account(result)
                if tried:
                    self._confirm(process, number)
                else:
                    self._write(process, number, result, dict(shown))
            case Show(body):
                self._show(body)
            case Keep(number, result):
                self.spill[result.first] = result
                process.soon(Committed("spill", number))
            case Fetch(first):
                process.soon(Kept(self.spill[first]))
            case Forget(below):
                self.spill = {first: kept for first, kept in self.spill.items() if first + kept.count > below}
            case Entry(number, facts):
                kept = Entry(number, tuple(each for fact in facts for each in self._kept(process, fact)))
                self.journal.append(kept)
                self._clock.at(self._clock.now + 0.02, partial(self._sync, process, kept))

    def _kept(self, process: Process, fact: Fact) -> list[Fact]:
        """What the real journal keeps of it."""
        news: list[Fact] = [fact]
        if isinstance(fact, Marked):
            marked, differs = sift(fact, self._past.recorded, self._past.settled)
            news = [*marked]
            if differs and self._clock.plan.edited < 0:
                raise Violation(f"{differs}, though the input has not changed")
            if differs:
                process.soon(differs)
        for each in news:
            self._past.take(each)
        return news

    def _account(self, result: Result) -> None:
        """Each task's account is its own, and each of its tries has a row."""
        tasks = range(result.first, result.first + result.count)
        wanted = self._clock.plan.wants in {"accounts", "log"} and result.worker != VENTILATOR
        if wanted and [int(each.record) for each in accounts.each(result.accounts)] != list(tasks):
            raise Violation(f"{result} has other accounts")
        self.rows += [(task, result.tries) for task in tasks]

    def _write(self, process: Process, number: int, result: Result, shown: dict[int, int]) -> None:
        kinds = {note.task: note.kind for note in result.notes}
        fates = [(task, kinds.get(task, "ok")) for task in range(result.first, result.first + result.count)]
        plan, tries = self._clock.plan, result.tries
        wrote = [(task, b"".join(plan.lines(task, tries))) for task, fate in fates if fate != "poison"]
        if result.output != b"".join([text for _, text in wrote]):
            raise Violation(f"{result} is not what its tasks wrote")
        self._show(b"".join([text[shown.get(task, 0) :] for task, text in wrote]))
        for task, text in wrote if plan.wants == "live" else ():
            if not self.text[task].endswith(text):
                raise Violation(f"task {task} has written {text!r}, and its lines are {self.text[task]!r}")
        self.output += fates
        self._log.waited += self._clock.now * result.count
        self._confirm(process, number)

    def _show(self, lines: bytes) -> None:
        for line in lines.splitlines(keepends=True):
            self.shown.append(int(line))
            self.text[int(line)] = self.text.get(int(line), b"") + line
        self._log.lines += self._clock.now * lines.count(b"\n")

    def _confirm(self, process: Process, number: int) -> None:
        """It is written in a moment, behind all before it."""
        now, sizes = self._clock.now, (len(self.output), len(self.rows))
        self._last = max(self._last, now + 0.01 * self._clock.rng.random())
        self._clock.at(self._last, partial(self._written, process, number, sizes))

    def _written(self, process: Process, number: int, sizes: tuple[int, int]) -> None:
        if process.is_running:
            process.deliver(Committed("output", number, sizes=sizes))

    def _sync(self, process: Process, entry: Entry) -> None:
        if process.is_running:
            at = next(at for at, each in enumerate(self.journal) if each is entry)
            self.synced = max(self.synced, at + 1)
            process.deliver(Committed("journal", entry.number))

    def safe(self) -> Ledger:
        """What a loss of power would leave."""
        return Ledger(fact for entry in self.journal[: self.synced] for fact in entry.facts)

    def crash(self) -> list[Fact]:
        """The power fails: what the next sink finds. Of what was not synced, any first part may be there."""
        del self.journal[self._clock.rng.randint(self.synced, len(self.journal)) :]
        self.synced = len(self.journal)
        facts = [fact for entry in self.journal for fact in entry.facts]
        self._past = Past()
        for fact in facts:
            self._past.take(fact)
        ledger = Ledger(facts)
        written, rows = ledger.sizes or (0, 0)
        del self.output[written:]
        del self.rows[rows:]
        kept = [part for result in self.spill.values() for part in self._inside(result, ledger.ahead)]
        self.spill = {result.first: result for result in kept}
        return facts

    def _inside(self, result: Result, ahead: RangeSet) -> list[Result]:
        inside = ahead.inside(result.first, result.first + result.count)
        return cut_result(result, inside) if inside else []

    def is_left(self) -> bool:
        """Whether the last that was written is a goodbye."""
        return bool(self.journal) and self.journal[-1].facts == (Left(),)

    def kept(self) -> int:
        """Bytes in the spill."""
        return sum(len(result.output) + len(result.errors) for result in self.spill.values())
