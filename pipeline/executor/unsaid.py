"""What a running task has written and nobody was told yet: it is said in whole lines, each once, as they come.

What follows the last newline stays here, however long it grows: it is kept in the pieces in which it came.
"""

from __future__ import annotations

from pipeline.executor.assignment import TaskAssignment
from pipeline.words.messages import PartialOutput


class LineBuffer:
    """Of one task. Lines begin with its tag, as in its output."""

    __slots__ = ("_assignment", "_partial_line", "_reported_bytes", "_complete_lines")

    def __init__(self, assignment: TaskAssignment) -> None:
        self._assignment, self._reported_bytes = assignment, 0
        self._complete_lines: list[bytes] = []
        self._partial_line: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """It has written this."""
        lines, newline, rest = data.rpartition(b"\n")
        if newline:
            self._complete_lines += [*self._partial_line, lines, newline]
            self._partial_line = []
        if rest:
            self._partial_line.append(rest)

    def take_lines(self) -> list[PartialOutput]:
        """What was not said, if there is a whole line."""
        if not self._complete_lines:
            return []
        text, start = self._assignment.add_tags(b"".join(self._complete_lines)), self._reported_bytes
        self._complete_lines, self._reported_bytes = [], start + len(text)
        lot = self._assignment.chunk_info
        return [PartialOutput(lot.run, self._assignment.task, lot.tries, start, text)]
