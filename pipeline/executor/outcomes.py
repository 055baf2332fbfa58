"""What has ended and was not told yet: outcomes of single tasks, joined to runs of neighbours.

Many short tasks make one Done, so that a message carries many, and never more than its fields can say. Each outcome
added is told once, or dropped.
Nothing here knows when it is time to tell; it only says since when and how much there is.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from pipeline.words.errands import Done
from pipeline.words.messages import Result
from pipeline.words.parts import Note, Ranges
from pipeline.words.ranges import RangeSet

FULL = 1 << 20
"""Bytes after which a Done takes no more."""
TAIL = 2048
"""Bytes of a failed task's stderr that its note keeps."""


class Outcome(NamedTuple):
    """How one task ended; without a note, well. With one, `record` is the task itself."""

    task: int
    output: bytes
    errors: bytes
    note: Note | None
    seconds: float
    record: bytes = b""
    account: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it fills in a Done, about."""
        told = len(self.note.text) + len(self.note.tail) if self.note else 0
        return len(self.output) + len(self.errors) + len(self.record) + told


class Outcomes:
    """The ended tasks. `since` is the time at which the first of them ended, `size` their bytes."""

    def __init__(self) -> None:
        self.since = 0.0
        self.size = 0
        self._ended: list[Outcome] = []

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, outcome: Outcome, now: float) -> None:
        """One more task has ended."""
        if not self._ended:
            self.since = now
        self._ended.append(outcome)
        self.size += outcome.size

    def drop(self, ranges: Ranges) -> None:
        """Forget the outcomes of these tasks."""
        gone = RangeSet(ranges)
        self._ended = [outcome for outcome in self._ended if outcome.task not in gone]
        self.size = sum(outcome.size for outcome in self._ended)

    def take(self) -> list[Done]:
        """All of them, neighbours joined, in the order of tasks; then there are none."""
        ended, self._ended, self.size = self._ended, [], 0
        ended.sort(key=itemgetter(0))
        runs: list[list[Outcome]] = []
        size = 0
        for outcome in ended:
            if not runs or runs[-1][-1].task + 1 != outcome.task or size >= FULL:
                runs.append([])
                size = 0
            runs[-1].append(outcome)
            size += outcome.size
        return [_joined(run) for run in runs]


def _joined(run: list[Outcome]) -> Done:
    """One Done of neighbours."""
    result = Result(
        run="",
        worker="",
        first=run[0].task,
        count=len(run),
        output=b"".join([outcome.output for outcome in run]),
        ends=struct.pack(f"<{len(run)}I", *accumulate(len(outcome.output) for outcome in run)),
        errors=b"".join([outcome.errors for outcome in run]),
        notes=tuple(outcome.note for outcome in run if outcome.note is not None),
        records=b"".join([outcome.record for outcome in run]),
        accounts=b"".join([outcome.account for outcome in run]),
    )
    return Done(result, sum(outcome.seconds for outcome in run))


def tail_of(errors: bytes) -> str:
    """The end of what a failed task wrote to stderr, as text."""
    return errors[-TAIL:].decode(errors="replace")
