"""The way of a result: to the output or the spill, then to the journal; and lines of running tasks.

- A result is settled when the output (or spill) and then the journal have committed it, so an Ack never covers a
  result that could be lost.
- Results are written as they arrive or, with --keep-order, in the order of tasks. Then results ahead of their turn
  wait in the spill, where they count as settled once the journal has them.
- With --line-buffer, lines of running tasks are written as they arrive, each byte once. Partial output is only an
  advance on the result, which repeats all of it. So lost, late and duplicate lines are dropped, and the result is
  written without the bytes that were shown.
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
from pipeline.model.results import content_bytes, slice_result
from pipeline.model.state_machine import Port, Send
from pipeline.sink.ledger import Ledger
from pipeline.sink.retries import RetryQueue

MAX_BUFFERED_BYTES = 1 << 16
"""Bytes of partial output to buffer for a task ahead of its turn."""


class WriterConfig(Struct, frozen=True):
    """Size of the spill, whether results are written in order, and whether each attempt is logged."""

    spill_limit: int = 10 << 30
    keep_order: bool = False
    log_attempts: bool = False


class _PendingWrite(Struct, frozen=True, gc=False):
    number: int
    low: int
    high: int
    failed_tasks: tuple[int, ...]
    attempt_range: AttemptRange | None


class ResultWriter:
    """Results on their way to output, spill and journal. Output and spill commit their writes by number, in order."""

    def __init__(
        self,
        ledger: Ledger,
        retry_queue: RetryQueue,
        live_output: LiveOutput,
        config: WriterConfig,
        spilled_bytes: int = 0,
    ) -> None:
        self._ledger, self._retry_queue, self._live_output, self._config = ledger, retry_queue, live_output, config
        self._output_writes: deque[_PendingWrite] = deque()
        self._spill_writes: deque[_PendingWrite] = deque()
        self._last_number = 0
        self._is_fetching = self.is_flushing = False
        self._spilled_bytes, self._output_sizes = spilled_bytes, ledger.output_sizes
        self._discarded_below = ledger.written_below
        self.spill_full = False
        """The spill is over its limit, so no new task should be started."""

    @property
    def is_idle(self) -> bool:
        """Whether no write or fetch is pending."""
        return not (self._output_writes or self._spill_writes or self._is_fetching)

    @property
    def is_drained(self) -> bool:
        """Whether no write is pending and no result waits for its turn."""
        return self.is_idle and not len(self._ledger.spilled)

    @property
    def is_complete(self) -> bool:
        """Whether all tasks of the run are settled and written."""
        return self._ledger.is_complete and self.is_drained

    @property
    def oldest_output_number(self) -> int:
        """The number of the oldest write that the output has not committed; -1 if there is none."""
        return self._output_writes[0].number if self._output_writes else -1

    def accept(self, result: Result) -> list[Send]:
        """Write or spill the new parts of a result, except failed tasks that are retried."""
        sends = [send for part in self._ledger.accept(result) for send in self._accept_part(part)]
        return [*sends, *self._live_output.show_next_in_order()]

    def _accept_part(self, part: Result) -> list[Send]:
        retried = self._retry_queue.next_attempts(part)
        if not retried:
            return self.write_or_spill(part)
        final = RangeSet([(part.first, part.first + part.count)])
        final.difference_update((attempt.low, attempt.high) for attempt in retried)
        log = self._log_failed_attempts(part, retried) if self._config.log_attempts else self._record_attempts(retried)
        return [*log, *(send for piece in slice_result(part, list(final)) for send in self.write_or_spill(piece))]

    def _record_attempts(self, attempt_ranges: list[AttemptRange]) -> list[Send]:
        new = [attempt_range for attempt_range in attempt_ranges if self._ledger.record_attempt(attempt_range)]
        return [self._ledger.append(*new)] if new else []

    def _log_failed_attempts(self, part: Result, attempt_ranges: list[AttemptRange]) -> list[Send]:
        # The row of a failed attempt is written before the journal records the attempt. Otherwise a restarted sink
        # would lack the row, or write it twice.
        sends = []
        for attempt_range in attempt_ranges:
            if not self._ledger.is_new_attempt(attempt_range):
                self._ledger.record_attempt(attempt_range)
                continue
            (piece,) = slice_result(part, [(attempt_range.low, attempt_range.high)])
            number = self._add_pending(self._output_writes, piece, attempt_range)
            sends.append(Send(Port.OUTPUT, WriteResult(number, piece, is_retried=True)))
        return sends

    def write_or_spill(self, part: Result) -> list[Send]:
        """Write a result whose turn has come, or spill it."""
        turn = self._ledger.next_in_order  # tasks below failed in an earlier run and are done again
        if not self._config.keep_order or part.first < turn or (part.first == turn and not self._is_fetching):
            return [self._write(part), *self.fetch_next()]
        self._spilled_bytes += content_bytes(part)
        self._ledger.spilled.add(part.first, part.first + part.count)
        number = self._add_pending(self._spill_writes, part)
        return [Send(Port.SPILL, SpillResult(number, part)), *self._report_spill_full()]

    def _write(self, part: Result, *, is_counted: bool = False) -> Send:
        if self._config.keep_order:
            self._ledger.next_in_order = max(self._ledger.next_in_order, part.first + part.count)
        number = self._add_pending(self._output_writes, part, is_counted=is_counted)
        return Send(Port.OUTPUT, WriteResult(number, part, streamed_sizes=self._live_output.take_shown(part)))

    def _add_pending(
        self,
        queue: deque[_PendingWrite],
        part: Result,
        attempt_range: AttemptRange | None = None,
        *,
        is_counted: bool = False,
    ) -> int:
        failed = () if is_counted or attempt_range else tuple(failure.task for failure in part.failures)
        self._last_number += 1
        queue.append(_PendingWrite(self._last_number, part.first, part.first + part.count, failed, attempt_range))
        return self._last_number

    def fetch_next(self) -> list[Send]:
        """Fetch the spilled result whose turn has come; while flushing, also one after a gap."""
        spilled = self._ledger.spilled
        if self._is_fetching or not len(spilled):
            return []
        if self._ledger.next_in_order not in spilled:
            if not self.is_flushing:
                return []
            self._ledger.next_in_order = spilled.ranges()[0][0]
        self._is_fetching = True
        return [Send(Port.SPILL, FetchSpilled(self._ledger.next_in_order))]

    def on_fetched(self, spilled_result: FetchedResult) -> list[Send]:
        """Write a result from the spill. Its failures were counted when it was spilled."""
        result = spilled_result.result
        self._is_fetching = False
        self._spilled_bytes -= content_bytes(result)
        self._ledger.spilled.remove(result.first, result.first + result.count)
        return [
            self._write(result, is_counted=True),
            *self.fetch_next(),
            *self._report_spill_full(),
            *self._live_output.show_next_in_order(),
        ]

    def _report_spill_full(self) -> list[Send]:
        is_full = self._spilled_bytes > self._config.spill_limit
        if is_full == self.spill_full:
            return []
        self.spill_full = is_full
        return [Send(Port.USER, Waiting("spill", f"task {self._ledger.next_in_order + 1:,}", is_full))]

    def flush(self) -> list[Send]:
        """Write what is spilled, across gaps: the run ends early, and the missing tasks never come."""
        self.is_flushing = True
        return self.fetch_next()

    def on_committed(self, confirmation: Committed) -> list[Send]:
        """Journal what output or spill have committed."""
        is_spilled = confirmation.store == "spill"
        if not is_spilled:
            self._output_sizes = confirmation.sizes
        queue = self._spill_writes if is_spilled else self._output_writes
        ranges, failed_tasks = RangeSet(), RangeSet()
        attempts: list[AttemptRange] = []
        while queue and queue[0].number <= confirmation.number:
            write = queue.popleft()
            if write.attempt_range is None:
                ranges.add(write.low, write.high)
                failed_tasks.update((task, task + 1) for task in write.failed_tasks)
            elif self._ledger.record_attempt(write.attempt_range):
                attempts.append(write.attempt_range)
        if not ranges.task_count and not attempts:
            return []
        settled = TasksSettled(ranges.ranges(), failed_tasks.ranges(), is_spilled, self._output_sizes)
        return [self._ledger.append(settled, *attempts)]

    def discard_written(self) -> list[Send]:
        """Let the spill discard what the journal knows to be in the output."""
        if not self._config.keep_order or self._discarded_below >= self._ledger.written_below:
            return []
        self._discarded_below = self._ledger.written_below
        return [Send(Port.SPILL, DiscardBelow(self._discarded_below))]


class _LiveTask(Struct):
    """Output of a running attempt: `shown_bytes` are written, `buffer` follows them."""

    attempt: int
    shown_bytes: int = 0
    buffer: bytes = b""


class LiveOutput:
    """Lines of running tasks; with `is_ordered`, only of the next task in order."""

    def __init__(self, ledger: Ledger, *, is_ordered: bool) -> None:
        self._ledger, self._is_ordered = ledger, is_ordered
        self._live_tasks: dict[int, _LiveTask] = {}

    def on_partial_output(self, partial: PartialOutput) -> list[Send]:
        """Write or buffer new output of a running task."""
        ledger, task = self._ledger, partial.task
        if partial.run != ledger.run or task in ledger.settled or task in ledger.pending:
            return []
        live_task = self._live_tasks.get(task)
        if live_task is None or live_task.attempt < partial.attempt:
            live_task = self._live_tasks[task] = _LiveTask(partial.attempt)
        end = live_task.shown_bytes + len(live_task.buffer)
        fits = partial.attempt == live_task.attempt and partial.start <= end < partial.start + len(partial.body)
        if not fits or len(live_task.buffer) > MAX_BUFFERED_BYTES:
            return []
        live_task.buffer += partial.body[end - partial.start :]
        return [] if self._is_ordered and task != ledger.next_in_order else self._show(live_task)

    def show_next_in_order(self) -> list[Send]:
        """Write what is buffered of the task whose turn it is now."""
        live_task = self._live_tasks.get(self._ledger.next_in_order) if self._is_ordered and self._live_tasks else None
        return self._show(live_task) if live_task else []

    def take_shown(self, result: Result) -> tuple[tuple[int, int], ...]:
        """Forget the tasks of a result about to be written. Return those of this attempt with their bytes shown."""
        if not self._live_tasks:
            return ()
        tasks = range(result.first, result.first + result.count)
        live_tasks = [(task, live_task) for task in tasks if (live_task := self._live_tasks.pop(task, None))]
        return tuple(
            (task, live_task.shown_bytes)
            for task, live_task in live_tasks
            if live_task.shown_bytes and live_task.attempt == result.attempt
        )

    def _show(self, live_task: _LiveTask) -> list[Send]:
        body, live_task.buffer = live_task.buffer, b""
        live_task.shown_bytes += len(body)
        return [Send(Port.OUTPUT, WriteLines(body))] if body else []
