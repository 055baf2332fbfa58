"""What a running task has written and nobody was told yet: it is said in whole lines, each once, as they come.

What follows the last newline stays here, however long it grows: it is kept in the pieces in which it came.
"""

from __future__ import annotations

from pipeline.executor.assignment import Assignment
from pipeline.words.messages import Part


class Unsaid:
    """Of one task. Lines begin with its tag, as in its output."""

    __slots__ = ("_assignment", "_rest", "_said", "_whole")

    def __init__(self, assignment: Assignment) -> None:
        self._assignment, self._said = assignment, 0
        self._whole: list[bytes] = []
        self._rest: list[bytes] = []

    def hear(self, piece: bytes) -> None:
        """It has written this."""
        lines, newline, rest = piece.rpartition(b"\n")
        if newline:
            self._whole += [*self._rest, lines, newline]
            self._rest = []
        if rest:
            self._rest.append(rest)

    def take(self) -> list[Part]:
        """What was not said, if there is a whole line."""
        if not self._whole:
            return []
        text, start = self._assignment.tagged(b"".join(self._whole)), self._said
        self._whole, self._said = [], start + len(text)
        lot = self._assignment.lot
        return [Part(lot.run, self._assignment.task, lot.tries, start, text)]
