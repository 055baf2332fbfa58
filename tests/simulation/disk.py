"""Simulated input, output, spill and journal.

The input returns its records in pieces, at once or slowly. A power failure loses what was not synced, and the output is
truncated to the size that the journal has recorded, as after a real crash.
"""

from __future__ import annotations

from functools import partial

from pipeline.model import results
from pipeline.model.events import (
    Committed,
    ContentStored,
    DiscardBelow,
    DropContent,
    EndOfInput,
    FetchedResult,
    FetchSpilled,
    JournalEntry,
    ReadRequest,
    RecordsRead,
    SpillResult,
    StoreContent,
    Waiting,
    WriteLines,
    WriteResult,
)
from pipeline.model.journal_events import ChecksumsRecorded, JournalEvent, SinkSuspended
from pipeline.model.messages import Result
from pipeline.model.ranges import RangeSet
from pipeline.model.results import LargeResult, content_bytes, slice_result
from pipeline.model.state_machine import VENTILATOR, Message
from pipeline.sink.ledger import Ledger
from pipeline.sink.sink import Sink
from pipeline.storage.journal_reader import JournalState, sift
from tests.simulation.clock import MIN_DELAY_SECONDS, Clock
from tests.simulation.event_log import EventLog, Violation
from tests.simulation.executor import SimulatedContent
from tests.simulation.process import SimulatedProcess

MAX_READ_BYTES = 3 * 20
"""Maximum bytes of one answer of the input."""


class SimulatedInput:
    """An input in which task k is the line "k"."""

    def __init__(self, clock: Clock, disk: SimulatedDisk) -> None:
        self._clock, self._disk = clock, disk
        self._cursor = self._readings = 0
        self.is_spoiled: bool | None = None
        """Whether the task of the edited record was settled when it was read; None before."""

    def rewind(self) -> None:
        """Start again for another ventilator."""
        self._cursor = 0
        self._readings += 1

    def send(self, process: SimulatedProcess, message: Message) -> None:
        if not isinstance(message, ReadRequest):
            return
        plan, rng, start = self._clock.plan, self._clock.rng, self._cursor
        if start >= plan.tasks:
            process.deliver_soon(EndOfInput(plan.tasks))
            return
        count = min(rng.randint(1, 20), plan.tasks - start)
        if plan.padding_bytes or message.size == 1:
            count = 1
        self._cursor += count
        edited = plan.edited if self._readings > 1 else -1
        if start <= edited < start + count and self.is_spoiled is None:
            self.is_spoiled = edited in self._disk.durable_ledger().settled
        body = b"".join(
            b"%d%*s\n" % (task, plan.padding_bytes + (task == edited), b"") for task in range(start, start + count)
        )
        delay = rng.random() * 2 if plan.slow_input else MIN_DELAY_SECONDS
        self._clock.call_at(self._clock.now + delay, partial(process.deliver, RecordsRead(start, count, body)))


class SimulatedDisk:
    """The output, spill and journal of the sink."""

    def __init__(self, clock: Clock, log: EventLog) -> None:
        self._clock, self._log = clock, log
        self.output: list[tuple[int, str]] = []
        """Written tasks with their outcome."""
        self.rows: list[tuple[int, int]] = []
        """Logged attempts, as (task, attempt)."""
        self.shown_lines: list[int] = []
        """The task of each written line; and the output of each task."""
        self.shown_text: dict[int, bytes] = {}
        self.spill: dict[int, Result] = {}
        self._contents: dict[int, SimulatedContent] = {}
        """Incomplete contents of large results, by their number."""
        self.journal: list[JournalEntry] = []
        self._state = JournalState()
        self.synced_count = self._applied_count = 0
        self._durable_ledger = Ledger()
        self._last_write_at = 0.0

    def send(self, process: SimulatedProcess, message: Message) -> None:
        if isinstance(message, WriteResult | WriteLines) and self._is_full(process):
            process.deliver_soon(Waiting("disk", "the disk is full"))
        else:
            self._handle(process, message)

    def _is_full(self, process: SimulatedProcess) -> bool:
        """Return whether the disk is full. It is only full in a run that is stopped: another run would wait."""
        assert isinstance(process.station, Sink)
        return self._clock.now >= self._clock.plan.effective_disk_full_at and process.station.shutdown.kill is not None

    def _handle(self, process: SimulatedProcess, message: Message) -> None:
        match message:
            case WriteResult(number, result, is_retried, streamed_sizes):
                self._check_metrics(result)
                if is_retried:
                    self._confirm_later(process, number)
                else:
                    self._write(process, number, result, dict(streamed_sizes))
            case WriteLines(body):
                self._show(body)
            case StoreContent() | DropContent():
                self._store_content(process, message)
            case SpillResult(number, result):
                self.spill[result.first] = result
                process.deliver_soon(Committed("spill", number))
            case FetchSpilled(first):
                process.deliver_soon(FetchedResult(self.spill[first]))
            case DiscardBelow(low):
                self.spill = {first: kept for first, kept in self.spill.items() if first + kept.count > low}
            case JournalEntry(number, events):
                entry = JournalEntry(
                    number, tuple(each for event in events for each in self._journal_events(process, event))
                )
                self.journal.append(entry)
                self._clock.call_at(self._clock.now + 0.02, partial(self._sync, process, entry))

    def _store_content(self, process: SimulatedProcess, message: StoreContent | DropContent) -> None:
        if isinstance(message, DropContent):
            self._contents.pop(message.number, None)
            return
        content = self._contents.setdefault(message.number, SimulatedContent())
        content.body += message.body
        process.deliver_soon(ContentStored(message.number, len(content.body), content))
        if message.is_last:
            del self._contents[message.number]

    def _journal_events(self, process: SimulatedProcess, event: JournalEvent) -> list[JournalEvent]:
        """Return what the real journal stores of an event."""
        events: list[JournalEvent] = [event]
        if isinstance(event, ChecksumsRecorded):
            recorded, change = sift(event, self._state.recorded, self._state.settled)
            events = [*recorded]
            if change and self._clock.plan.edited < 0:
                raise Violation(f"{change}, though the input has not changed")
            if change:
                process.deliver_soon(change)
        for each in events:
            self._state.apply(each)
        return events

    def _check_metrics(self, result: Result) -> None:
        """Check that each task has its own metrics, and log its attempts."""
        tasks = range(result.first, result.first + result.count)
        wanted = self._clock.plan.report_mode in {"metrics", "log"} and result.worker != VENTILATOR
        if wanted and [int(each.record) for each in results.decode_metrics(result.metrics)] != list(tasks):
            raise Violation(f"{result} has metrics of other tasks")
        self.rows += [(task, result.attempt) for task in tasks]

    def _write(self, process: SimulatedProcess, number: int, result: Result, shown_counts: dict[int, int]) -> None:
        kinds = {note.task: note.kind for note in result.failures}
        fates = [(task, kinds.get(task, "ok")) for task in range(result.first, result.first + result.count)]
        plan, tries = self._clock.plan, result.attempt
        wrote = [(task, b"".join(plan.output_lines(task, tries))) for task, fate in fates if fate != "poison"]
        output = result.output
        if isinstance(result, LargeResult):
            assert result.content
            output = result.content.read(0, content_bytes(result))
        if output != b"".join([text for _, text in wrote]):
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
                raise Violation(f"unknown line: {line!r}")
            self.shown_lines.append(int(line))
            self.shown_text[int(line)] = self.shown_text.get(int(line), b"") + line
        self._log.line_latency += self._clock.now * lines.count(b"\n")

    def _confirm_later(self, process: SimulatedProcess, number: int) -> None:
        """Confirm a write in a moment, after all earlier ones."""
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
        """Return the ledger that a power failure would leave."""
        for entry in self.journal[self._applied_count : self.synced_count]:
            for event in entry.events:
                self._durable_ledger.apply(event)
        self._applied_count = self.synced_count
        return self._durable_ledger

    def crash(self) -> list[JournalEvent]:
        """Simulate a power failure. Return the events that remain: all synced ones, and a prefix of the rest."""
        del self.journal[self._clock.rng.randint(self.synced_count, len(self.journal)) :]
        self.synced_count = len(self.journal)
        events = [event for entry in self.journal for event in entry.events]
        self._state = JournalState()
        for event in events:
            self._state.apply(event)
        ledger = Ledger(events)
        written, rows = ledger.output_sizes or (0, 0)
        del self.output[written:]
        del self.rows[rows:]
        kept = [part for result in self.spill.values() for part in self._slice_spilled(result, ledger.spilled)]
        self.spill = {result.first: result for result in kept}
        self._contents.clear()
        return events

    def _slice_spilled(self, result: Result, spilled: RangeSet) -> list[Result]:
        inside = spilled.intersection(result.first, result.first + result.count)
        return slice_result(result, inside) if inside else []

    def is_suspended(self) -> bool:
        """Return whether the last journal event is SinkSuspended."""
        return bool(self.journal) and self.journal[-1].events == (SinkSuspended(),)

    def spilled_bytes(self) -> int:
        """Return the bytes in the spill."""
        return sum(content_bytes(result) for result in self.spill.values())
