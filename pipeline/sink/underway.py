"""What output and spill were given and have not answered for, in the order in which they were given it.

It numbers the writes and keeps of one life of the sink, and says of what is safe which facts have become true.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from pipeline.words.errands import Committed
from pipeline.words.messages import Result
from pipeline.words.parts import Tried
from pipeline.words.ranges import RangeSet


class _Given(Struct, frozen=True, gc=False):
    number: int
    low: int
    high: int
    failures: tuple[int, ...]
    tried: Tried | None


class Safe(Struct, frozen=True):
    """Tasks that have their final record, which of them failed; and tries that failed and are written down."""

    ranges: RangeSet
    failures: RangeSet
    tried: list[Tried]


class Underway:
    """Two queues under one count."""

    def __init__(self) -> None:
        self._number = 0
        self._writes: deque[_Given] = deque()
        self._keeps: deque[_Given] = deque()

    def __bool__(self) -> bool:
        return bool(self._writes or self._keeps)

    @property
    def oldest(self) -> int:
        """The number of what has waited longest for the output; -1 if nothing does."""
        return self._writes[0].number if self._writes else -1

    def write(self, part: Result, tried: Tried | None = None, *, known: bool = False) -> int:
        """The output is given this; `known`: its failures were counted before. The number."""
        return self._add(self._writes, part, () if known or tried else _failures(part), tried)

    def keep(self, part: Result) -> int:
        """The spill is given this. The number."""
        return self._add(self._keeps, part, _failures(part), None)

    def safe(self, word: Committed) -> Safe:
        """All up to this number are safe."""
        given = self._keeps if word.store == "spill" else self._writes
        safe = Safe(RangeSet(), RangeSet(), [])
        while given and given[0].number <= word.number:
            piece = given.popleft()
            if piece.tried:
                safe.tried.append(piece.tried)
                continue
            safe.ranges.add(piece.low, piece.high)
            safe.failures.update((task, task + 1) for task in piece.failures)
        return safe

    def _add(self, queue: deque[_Given], part: Result, failures: tuple[int, ...], tried: Tried | None) -> int:
        self._number += 1
        queue.append(_Given(self._number, part.first, part.first + part.count, failures, tried))
        return self._number


def _failures(result: Result) -> tuple[int, ...]:
    """Which of its tasks did not end well."""
    return tuple(note.task for note in result.notes)
