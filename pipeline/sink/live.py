"""Lines of tasks that still run, written as they come: each byte of a task's output once.

A Part is no more than a promise of the Result behind it, which has all of the output again; so one that is lost, late
or doubled is left out, and what has been written is told to who writes the Result. Where order is asked for, only the
task whose turn it is writes, and what others have said waits, up to a limit each.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.sink.ledger import Ledger
from pipeline.words.errands import Show
from pipeline.words.messages import Part, Result
from pipeline.words.station import Port, Send

KEPT = 1 << 16
"""Bytes kept of one task ahead of its turn."""


class _Heard(Struct):
    """What a task has written in this try: `shown` bytes are out, `kept` are those behind them."""

    tries: int
    shown: int = 0
    kept: bytes = b""


class Live:
    """The lines of running tasks; `ordered`: of one at a time."""

    def __init__(self, ledger: Ledger, *, ordered: bool) -> None:
        self._ledger, self._ordered = ledger, ordered
        self._heard: dict[int, _Heard] = {}

    def heard(self, part: Part) -> list[Send]:
        """A running task has written more."""
        ledger, task = self._ledger, part.task
        if part.run != ledger.run or task in ledger.settled or task in ledger.pending:
            return []
        known = self._heard.get(task)
        if known is None or known.tries < part.tries:
            known = self._heard[task] = _Heard(part.tries)
        reached = known.shown + len(known.kept)
        fits = part.tries == known.tries and part.start <= reached < part.start + len(part.body)
        if not fits or len(known.kept) > KEPT:
            return []
        known.kept += part.body[reached - part.start :]
        return [] if self._ordered and task != ledger.turn else self._show(known)

    def turned(self) -> list[Send]:
        """It may be another task's turn."""
        known = self._heard.get(self._ledger.turn) if self._ordered and self._heard else None
        return self._show(known) if known else []

    def shown(self, result: Result) -> tuple[tuple[int, int], ...]:
        """Of which tasks of a result, which is about to be written, how many bytes are out. They are forgotten here."""
        if not self._heard:
            return ()
        tasks = range(result.first, result.first + result.count)
        known = [(task, heard) for task in tasks if (heard := self._heard.pop(task, None))]
        return tuple((task, heard.shown) for task, heard in known if heard.shown and heard.tries == result.tries)

    def _show(self, known: _Heard) -> list[Send]:
        body, known.kept = known.kept, b""
        known.shown += len(body)
        return [Send(Port.OUTPUT, Show(body))] if body else []
