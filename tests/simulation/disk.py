"""What a simulated line reads and writes: the input, the output, the spill and the journal.

The input hands out its records in pieces, at once or slowly. What was not synced is lost with the power, and the output
is cut back to what the journal knows, as the real journal does it.
"""

from __future__ import annotations

from functools import partial

from pipeline.model import results
from pipeline.model.events import (
    Committed,
    DiscardBelow,
    EndOfInput,
    FetchedResult,
    FetchSpilled,
    JournalEntry,
    RecordsRead,
    SpillResult,
    Waiting,
    WriteLines,
    WriteResult,
)
from pipeline.model.journal_events import ChecksumsRecorded, JournalEvent, SinkSuspended
from pipeline.model.messages import Result
from pipeline.model.ranges import RangeSet
from pipeline.model.results import slice_result
from pipeline.model.state_machine import VENTILATOR, Message
from pipeline.sink.ledger import Ledger
from pipeline.sink.sink import Sink
from pipeline.storage.journal_reader import JournalState, sift
from tests.simulation.clock import MIN_DELAY_SECONDS, Clock
from tests.simulation.event_log import EventLog, Violation
from tests.simulation.process import SimulatedProcess

MAX_READ_BYTES = 3 * 20
"""Bytes that one answer of the input has at most."""


class SimulatedInput:
    """Task k is the line "k"."""

    def __init__(self, clock: Clock, disk: SimulatedDisk) -> None:
        self._clock, self._disk = clock, disk
        self._cursor = self._readings = 0
        self.is_spoiled: bool | None = None
        """Whether the task of the edited record was settled when that was read; None before."""

    def rewind(self) -> None:
        """Another ventilator reads it from its beginning."""
        self._cursor = 0
        self._readings += 1

    def send(self, process: SimulatedProcess, message: Message) -> None:
        """It is asked for more."""
        if isinstance(message, DiscardBelow):
            return
        plan, rng, start = self._clock.plan, self._clock.rng, self._cursor
        if start >= plan.tasks:
            process.deliver_soon(EndOfInput(plan.tasks))
            return
        count = min(rng.randint(1, 20), plan.tasks - start)
        if plan.padding_bytes:
            count = 1
        self._cursor += count
        edited = plan.edited if self._readings > 1 else -1
        if start <= edited < start + count and self.is_spoiled is None:
            self.is_spoiled = edited in self._disk.durable_ledger().settled
        body = b"".join(
            b"%d%*s\n" % (task, plan.padding_bytes + (task == edited), b"") for task in range(start, start + count)
        )
        wait = rng.random() * 2 if plan.slow_input else MIN_DELAY_SECONDS
        self._clock.call_at(self._clock.now + wait, partial(process.deliver, RecordsRead(start, count, body)))


class SimulatedDisk:
    """The sink's output, spill and journal."""

    def __init__(self, clock: Clock, log: EventLog) -> None:
        self._clock, self._log = clock, log
        self.output: list[tuple[int, str]] = []
        """Each task that was written, and how it ended."""
        self.rows: list[tuple[int, int]] = []
        """Each try that was written down, as (task, tries before it)."""
        self.shown_lines: list[int] = []
        """Each line that was written, by its task; and all that a task has written."""
        self.shown_text: dict[int, bytes] = {}
        self.spill: dict[int, Result] = {}
        self.journal: list[JournalEntry] = []
        self._past = JournalState()
        self.synced_count = 0
        self._last_write_at = 0.0

    def send(self, process: SimulatedProcess, message: Message) -> None:
        """Output, spill or journal is told to do something."""
        if isinstance(message, WriteResult | WriteLines) and self._is_full(process):
            process.deliver_soon(Waiting("disk", "the disk is full"))
        else:
            self._handle(process, message)

    def _is_full(self, process: SimulatedProcess) -> bool:
        """For good, once the end was said: before it, a run would just wait, as it should."""
        assert isinstance(process.station, Sink)
        return self._clock.now >= self._clock.plan.effective_disk_full_at and process.station.shutdown.kill is not None

    def _handle(self, process: SimulatedProcess, message: Message) -> None:
        match message:
            case WriteResult(number, result, tried, shown):
                self._check_metrics(result)
                if tried:
                    self._confirm_later(process, number)
                else:
                    self._write(process, number, result, dict(shown))
            case WriteLines(body):
                self._show(body)
            case SpillResult(number, result):
                self.spill[result.first] = result
                process.deliver_soon(Committed("spill", number))
            case FetchSpilled(first):
                process.deliver_soon(FetchedResult(self.spill[first]))
            case DiscardBelow(below):
                self.spill = {first: kept for first, kept in self.spill.items() if first + kept.count > below}
            case JournalEntry(number, facts):
                kept = JournalEntry(number, tuple(each for fact in facts for each in self._kept(process, fact)))
                self.journal.append(kept)
                self._clock.call_at(self._clock.now + 0.02, partial(self._sync, process, kept))

    def _kept(self, process: SimulatedProcess, fact: JournalEvent) -> list[JournalEvent]:
        """What the real journal keeps of it."""
        news: list[JournalEvent] = [fact]
        if isinstance(fact, ChecksumsRecorded):
            marked, differs = sift(fact, self._past.recorded, self._past.settled)
            news = [*marked]
            if differs and self._clock.plan.edited < 0:
                raise Violation(f"{differs}, though the input has not changed")
            if differs:
                process.deliver_soon(differs)
        for each in news:
            self._past.apply(each)
        return news

    def _check_metrics(self, result: Result) -> None:
        """Each task's account is its own, and each of its tries has a row."""
        tasks = range(result.first, result.first + result.count)
        wanted = self._clock.plan.report_mode in {"accounts", "log"} and result.worker != VENTILATOR
        if wanted and [int(each.record) for each in results.decode_metrics(result.metrics)] != list(tasks):
            raise Violation(f"{result} has other accounts")
        self.rows += [(task, result.attempt) for task in tasks]

    def _write(self, process: SimulatedProcess, number: int, result: Result, shown_counts: dict[int, int]) -> None:
        kinds = {note.task: note.kind for note in result.failures}
        fates = [(task, kinds.get(task, "ok")) for task in range(result.first, result.first + result.count)]
        plan, tries = self._clock.plan, result.attempt
        wrote = [(task, b"".join(plan.output_lines(task, tries))) for task, fate in fates if fate != "poison"]
        if result.output != b"".join([text for _, text in wrote]):
            raise Violation(f"{result} is not what its tasks wrote")
        self._show(b"".join([text[shown_counts.get(task, 0) :] for task, text in wrote]))
        for task, text in wrote if plan.report_mode == "live" else ():
            if not self.shown_text[task].endswith(text):
                raise Violation(f"task {task} has written {text!r}, and its lines are {self.shown_text[task]!r}")
        self.output += fates
        self._log.write_latency += self._clock.now * result.count
        self._confirm_later(process, number)

    def _show(self, lines: bytes) -> None:
        for line in lines.splitlines(keepends=True):
            if not line[:-1].isdigit():
                raise Violation(f"a line that no task has written: {line!r}")
            self.shown_lines.append(int(line))
            self.shown_text[int(line)] = self.shown_text.get(int(line), b"") + line
        self._log.line_latency += self._clock.now * lines.count(b"\n")

    def _confirm_later(self, process: SimulatedProcess, number: int) -> None:
        """It is written in a moment, behind all before it."""
        now, sizes = self._clock.now, (len(self.output), len(self.rows))
        self._last_write_at = max(self._last_write_at, now + 0.01 * self._clock.rng.random())
        self._clock.call_at(self._last_write_at, partial(self._on_written, process, number, sizes))

    def _on_written(self, process: SimulatedProcess, number: int, sizes: tuple[int, int]) -> None:
        if process.is_running:
            process.deliver(Committed("output", number, sizes=sizes))

    def _sync(self, process: SimulatedProcess, entry: JournalEntry) -> None:
        if process.is_running:
            at = next(at for at, each in enumerate(self.journal) if each is entry)
            self.synced_count = max(self.synced_count, at + 1)
            process.deliver(Committed("journal", entry.number))

    def durable_ledger(self) -> Ledger:
        """What a loss of power would leave."""
        return Ledger(fact for entry in self.journal[: self.synced_count] for fact in entry.events)

    def crash(self) -> list[JournalEvent]:
        """The power fails: what the next sink finds. Of what was not synced, any first part may be there."""
        del self.journal[self._clock.rng.randint(self.synced_count, len(self.journal)) :]
        self.synced_count = len(self.journal)
        facts = [fact for entry in self.journal for fact in entry.events]
        self._past = JournalState()
        for fact in facts:
            self._past.apply(fact)
        ledger = Ledger(facts)
        written, rows = ledger.output_sizes or (0, 0)
        del self.output[written:]
        del self.rows[rows:]
        kept = [part for result in self.spill.values() for part in self._slice_spilled(result, ledger.spilled)]
        self.spill = {result.first: result for result in kept}
        return facts

    def _slice_spilled(self, result: Result, spilled: RangeSet) -> list[Result]:
        inside = spilled.intersection(result.first, result.first + result.count)
        return slice_result(result, inside) if inside else []

    def is_suspended(self) -> bool:
        """Whether the last that was written is a goodbye."""
        return bool(self.journal) and self.journal[-1].events == (SinkSuspended(),)

    def spilled_bytes(self) -> int:
        """Bytes in the spill."""
        return sum(len(result.output) + len(result.stderr) for result in self.spill.values())
