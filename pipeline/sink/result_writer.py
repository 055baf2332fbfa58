"""Moves results to output or spill, then to the journal; live output lines.

What output and spill were given and have not answered for, in the order in which they were given it.

It numbers the writes and keeps of one life of the sink, and says of what is safe which facts have become true.

Lines of tasks that still run, written as they come: each byte of a task's output once.

A Part is no more than a promise of the Result behind it, which has all of the output again; so one that is lost, late
or doubled is left out, and what has been written is told to who writes the Result. Where order is asked for, only the
task whose turn it is writes, and what others have said waits, up to a limit each.

The way of a result to safety: output (or spill), then journal, then settled.

Results are written as they come, or in the order of their tasks; then those ahead of their turn wait in the spill,
where they count as settled as soon as the journal knows. An Ack can so never say more than what is safe.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from pipeline.model.events import (
    Committed,
    DiscardBelow,
    FetchedResult,
    FetchSpilled,
    SpillResult,
    Waiting,
    WriteLines,
    WriteResult,
)
from pipeline.model.journal_events import TasksSettled
from pipeline.model.messages import AttemptRange, PartialOutput, Result
from pipeline.model.ranges import RangeSet
from pipeline.model.results import slice_result
from pipeline.model.state_machine import Port, Send
from pipeline.sink.ledger import Ledger
from pipeline.sink.retries import RetryQueue


class _PendingWrite(Struct, frozen=True, gc=False):
    number: int
    low: int
    high: int
    failed_tasks: tuple[int, ...]
    attempt_range: AttemptRange | None


class CommittedWrites(Struct, frozen=True):
    """Tasks that have their final record, which of them failed; and tries that failed and are written down."""

    ranges: RangeSet
    failed_tasks: RangeSet
    attempt_ranges: list[AttemptRange]


class PendingWrites:
    """Two queues under one count."""

    def __init__(self) -> None:
        self._last_number = 0
        self._output_writes: deque[_PendingWrite] = deque()
        self._spill_writes: deque[_PendingWrite] = deque()

    def __bool__(self) -> bool:
        return bool(self._output_writes or self._spill_writes)

    @property
    def oldest_output_number(self) -> int:
        """The number of what has waited longest for the output; -1 if nothing does."""
        return self._output_writes[0].number if self._output_writes else -1

    def add_output(self, part: Result, attempt_range: AttemptRange | None = None, *, is_counted: bool = False) -> int:
        """The output is given this; `known`: its failures were counted before. The number."""
        return self._add(
            self._output_writes, part, () if is_counted or attempt_range else _failed_tasks(part), attempt_range
        )

    def add_spill(self, part: Result) -> int:
        """The spill is given this. The number."""
        return self._add(self._spill_writes, part, _failed_tasks(part), None)

    def commit(self, confirmation: Committed) -> CommittedWrites:
        """All up to this number are safe."""
        given = self._spill_writes if confirmation.store == "spill" else self._output_writes
        safe = CommittedWrites(RangeSet(), RangeSet(), [])
        while given and given[0].number <= confirmation.number:
            piece = given.popleft()
            if piece.attempt_range:
                safe.attempt_ranges.append(piece.attempt_range)
                continue
            safe.ranges.add(piece.low, piece.high)
            safe.failed_tasks.update((task, task + 1) for task in piece.failed_tasks)
        return safe

    def _add(
        self,
        queue: deque[_PendingWrite],
        part: Result,
        failed_tasks: tuple[int, ...],
        attempt_range: AttemptRange | None,
    ) -> int:
        self._last_number += 1
        queue.append(_PendingWrite(self._last_number, part.first, part.first + part.count, failed_tasks, attempt_range))
        return self._last_number


def _failed_tasks(result: Result) -> tuple[int, ...]:
    """Which of its tasks did not end well."""
    return tuple(note.task for note in result.failures)


MAX_BUFFERED_BYTES = 1 << 16
"""Bytes kept of one task ahead of its turn."""


class _LiveTask(Struct):
    """What a task has written in this try: `shown` bytes are out, `kept` are those behind them."""

    attempt: int
    shown_bytes: int = 0
    buffer: bytes = b""


class LiveOutput:
    """The lines of running tasks; `ordered`: of one at a time."""

    def __init__(self, ledger: Ledger, *, is_ordered: bool) -> None:
        self._ledger, self._is_ordered = ledger, is_ordered
        self._live_tasks: dict[int, _LiveTask] = {}

    def on_partial_output(self, partial: PartialOutput) -> list[Send]:
        """A running task has written more."""
        ledger, task = self._ledger, partial.task
        if partial.run != ledger.run or task in ledger.settled or task in ledger.pending:
            return []
        known = self._live_tasks.get(task)
        if known is None or known.attempt < partial.attempt:
            known = self._live_tasks[task] = _LiveTask(partial.attempt)
        reached = known.shown_bytes + len(known.buffer)
        fits = partial.attempt == known.attempt and partial.start <= reached < partial.start + len(partial.body)
        if not fits or len(known.buffer) > MAX_BUFFERED_BYTES:
            return []
        known.buffer += partial.body[reached - partial.start :]
        return [] if self._is_ordered and task != ledger.next_in_order else self._show(known)

    def show_next_in_order(self) -> list[Send]:
        """It may be another task's turn."""
        known = self._live_tasks.get(self._ledger.next_in_order) if self._is_ordered and self._live_tasks else None
        return self._show(known) if known else []

    def take_shown(self, result: Result) -> tuple[tuple[int, int], ...]:
        """Of which tasks of a result, which is about to be written, how many bytes are out. They are forgotten here."""
        if not self._live_tasks:
            return ()
        tasks = range(result.first, result.first + result.count)
        known = [(task, heard) for task in tasks if (heard := self._live_tasks.pop(task, None))]
        return tuple(
            (task, heard.shown_bytes) for task, heard in known if heard.shown_bytes and heard.attempt == result.attempt
        )

    def _show(self, live_task: _LiveTask) -> list[Send]:
        body, live_task.buffer = live_task.buffer, b""
        live_task.shown_bytes += len(body)
        return [Send(Port.OUTPUT, WriteLines(body))] if body else []


class WriterConfig(Struct, frozen=True):
    """How many bytes may wait for their turn, whether there are turns, and whether each try is written down."""

    spill_limit: int = 10 << 30
    keep_order: bool = False
    log_attempts: bool = False


class ResultWriter:
    """What is on its way to output, spill and journal."""

    def __init__(
        self,
        ledger: Ledger,
        retry_queue: RetryQueue,
        live_output: LiveOutput,
        config: WriterConfig,
        spilled_bytes: int = 0,
    ) -> None:
        self._ledger, self._retry_queue, self._live_output = ledger, retry_queue, live_output
        self._spill_limit, self._keep_order, self._log_attempts = (
            config.spill_limit,
            config.keep_order,
            config.log_attempts,
        )
        self.pending_writes = PendingWrites()
        self._is_fetching = self.is_flushing = False
        self._spilled_bytes, self._output_sizes, self._discarded_below = (
            spilled_bytes,
            ledger.output_sizes,
            ledger.written_below,
        )
        self.spill_full = False
        """More than `limit` bytes are in the spill: nothing should be sent that was never sent."""

    @property
    def is_drained(self) -> bool:
        """Whether nothing is on its way, and nothing waits for its turn."""
        return self.is_idle and not len(self._ledger.spilled)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is on its way."""
        return not (self.pending_writes or self._is_fetching)

    @property
    def is_complete(self) -> bool:
        """Whether all tasks of the run are settled, and written."""
        return self._ledger.is_complete and self.is_drained

    def accept(self, result: Result) -> list[Send]:
        """A result has come: what is new of it is written or kept, unless it failed and is tried again."""
        sends = [send for part in self._ledger.accept(result) for send in self._accept_part(part)]
        return [*sends, *self._live_output.show_next_in_order()]

    def _accept_part(self, part: Result) -> list[Send]:
        tried = self._retry_queue.next_attempts(part)
        if not tried:
            return self.write_or_spill(part)
        final = RangeSet([(part.first, part.first + part.count)])
        final.difference_update((each.low, each.high) for each in tried)
        told = self._log_failed_attempts(part, tried) if self._log_attempts else self._record_attempts(tried)
        return [*told, *(send for piece in slice_result(part, list(final)) for send in self.write_or_spill(piece))]

    def _record_attempts(self, attempt_ranges: list[AttemptRange]) -> list[Send]:
        news = [each for each in attempt_ranges if self._ledger.record_attempt(each)]
        return [self._ledger.append(*news)] if news else []

    def _log_failed_attempts(self, part: Result, attempt_ranges: list[AttemptRange]) -> list[Send]:
        """Each try that failed has its row before it is known for good, so that no row is missing or there twice."""
        sends = []
        for each in attempt_ranges:
            if not self._ledger.is_new_attempt(each):
                self._ledger.record_attempt(each)
                continue
            (piece,) = slice_result(part, [(each.low, each.high)])
            sends.append(
                Send(Port.OUTPUT, WriteResult(self.pending_writes.add_output(piece, each), piece, is_retried=True))
            )
        return sends

    def write_or_spill(self, part: Result) -> list[Send]:
        """In its turn a result is written, ahead of it kept."""
        turn = self._ledger.next_in_order  # below it, there are only those that had failed and are done once more
        if not self._keep_order or part.first < turn or (part.first == turn and not self._is_fetching):
            return [self._write(part), *self.fetch_next()]
        self._spilled_bytes += len(part.output) + len(part.stderr)
        self._ledger.spilled.add(part.first, part.first + part.count)
        return [Send(Port.SPILL, SpillResult(self.pending_writes.add_spill(part), part)), *self._report_spill_full()]

    def _write(self, part: Result, *, is_counted: bool = False) -> Send:
        if self._keep_order:
            self._ledger.next_in_order = max(self._ledger.next_in_order, part.first + part.count)
        return Send(
            Port.OUTPUT,
            WriteResult(
                self.pending_writes.add_output(part, is_counted=is_counted),
                part,
                streamed_sizes=self._live_output.take_shown(part),
            ),
        )

    def fetch_next(self) -> list[Send]:
        """Fetch what was ahead and whose turn has come; at an early end, also what stands behind a gap."""
        ahead = self._ledger.spilled
        if self._is_fetching or not len(ahead):
            return []
        if self._ledger.next_in_order not in ahead:
            if not self.is_flushing:
                return []
            self._ledger.next_in_order = ahead.ranges()[0][0]
        self._is_fetching = True
        return [Send(Port.SPILL, FetchSpilled(self._ledger.next_in_order))]

    def on_fetched(self, spilled_result: FetchedResult) -> list[Send]:
        """The spill has given back a result whose turn has come. Its failures were counted when it was kept."""
        result = spilled_result.result
        self._is_fetching = False
        self._spilled_bytes -= len(result.output) + len(result.stderr)
        self._ledger.spilled.remove(result.first, result.first + result.count)
        return [
            self._write(result, is_counted=True),
            *self.fetch_next(),
            *self._report_spill_full(),
            *self._live_output.show_next_in_order(),
        ]

    def _report_spill_full(self) -> list[Send]:
        """The person is told, when it begins and when it is over, and what is waited for."""
        full = self._spilled_bytes > self._spill_limit
        if full == self.spill_full:
            return []
        self.spill_full = full
        return [Send(Port.USER, Waiting("spill", f"task {self._ledger.next_in_order + 1:,}", full))]

    def flush(self) -> list[Send]:
        """The run has ended early: what waits for a turn that never comes is written in the order of what is there."""
        self.is_flushing = True
        return self.fetch_next()

    def on_committed(self, confirmation: Committed) -> list[Send]:
        """Output or spill has it: now the journal."""
        if confirmation.store == "output":
            self._output_sizes = confirmation.sizes
        safe = self.pending_writes.commit(confirmation)
        news = [each for each in safe.attempt_ranges if self._ledger.record_attempt(each)]
        if not safe.ranges.task_count and not news:
            return []
        settled = TasksSettled(
            safe.ranges.ranges(), safe.failed_tasks.ranges(), confirmation.store == "spill", self._output_sizes
        )
        return [self._ledger.append(settled, *news)]

    def discard_written(self) -> list[Send]:
        """What was fetched and is in the output for good need not be kept any more."""
        if not self._keep_order or self._discarded_below >= self._ledger.written_below:
            return []
        self._discarded_below = self._ledger.written_below
        return [Send(Port.SPILL, DiscardBelow(self._discarded_below))]
