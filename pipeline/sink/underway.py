"""What output and spill were given and have not answered for, in the order in which they were given it.

It numbers the writes and keeps of one life of the sink, and says of what is safe which facts have become true.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from pipeline.words.errands import Committed
from pipeline.words.messages import Result
from pipeline.words.parts import AttemptRange
from pipeline.words.ranges import RangeSet


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
