"""Lines of tasks that still run, written as they come: each byte of a task's output once.

A Part is no more than a promise of the Result behind it, which has all of the output again; so one that is lost, late
or doubled is left out, and what has been written is told to who writes the Result. Where order is asked for, only the
task whose turn it is writes, and what others have said waits, up to a limit each.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.sink.ledger import Ledger
from pipeline.words.errands import WriteLines
from pipeline.words.messages import PartialOutput, Result
from pipeline.words.station import Port, Send

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
