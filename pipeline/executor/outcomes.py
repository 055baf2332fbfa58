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

from pipeline.model.events import TasksFinished
from pipeline.model.messages import Ranges, Result, TaskFailure
from pipeline.model.ranges import RangeSet

MAX_MERGED_BYTES = 1 << 20
"""Bytes after which a Done takes no more."""
STDERR_TAIL_BYTES = 2048
"""Bytes of a failed task's stderr that its note keeps."""


class TaskOutcome(NamedTuple):
    """How one task ended; without a note, well. With one, `record` is the task itself."""

    task: int
    output: bytes
    stderr: bytes
    failure: TaskFailure | None
    seconds: float
    record: bytes = b""
    metrics: bytes = b""

    @property
    def size(self) -> int:
        """Bytes that it fills in a Done, about."""
        told = len(self.failure.text) + len(self.failure.stderr_tail) if self.failure else 0
        return len(self.output) + len(self.stderr) + len(self.record) + told


class OutcomeBuffer:
    """The ended tasks. `since` is the time at which the first of them ended, `size` their bytes."""

    def __init__(self) -> None:
        self.first_ended_at = 0.0
        self.size = 0
        self._ended: list[TaskOutcome] = []

    def __len__(self) -> int:
        return len(self._ended)

    def add(self, outcome: TaskOutcome, now: float) -> None:
        """One more task has ended."""
        if not self._ended:
            self.first_ended_at = now
        self._ended.append(outcome)
        self.size += outcome.size

    def discard(self, ranges: Ranges) -> None:
        """Forget the outcomes of these tasks."""
        gone = RangeSet(ranges)
        self._ended = [outcome for outcome in self._ended if outcome.task not in gone]
        self.size = sum(outcome.size for outcome in self._ended)

    def flush(self) -> list[TasksFinished]:
        """All of them, neighbours joined, in the order of tasks; then there are none."""
        ended, self._ended, self.size = self._ended, [], 0
        ended.sort(key=itemgetter(0))
        runs: list[list[TaskOutcome]] = []
        size = 0
        for outcome in ended:
            if not runs or runs[-1][-1].task + 1 != outcome.task or size >= MAX_MERGED_BYTES:
                runs.append([])
                size = 0
            runs[-1].append(outcome)
            size += outcome.size
        return [_merge_outcomes(run) for run in runs]


def _merge_outcomes(outcomes: list[TaskOutcome]) -> TasksFinished:
    """One Done of neighbours."""
    result = Result(
        run="",
        worker="",
        first=outcomes[0].task,
        count=len(outcomes),
        output=b"".join([outcome.output for outcome in outcomes]),
        output_ends=struct.pack(f"<{len(outcomes)}I", *accumulate(len(outcome.output) for outcome in outcomes)),
        stderr=b"".join([outcome.stderr for outcome in outcomes]),
        failures=tuple(outcome.failure for outcome in outcomes if outcome.failure is not None),
        failed_records=b"".join([outcome.record for outcome in outcomes]),
        metrics=b"".join([outcome.metrics for outcome in outcomes]),
    )
    return TasksFinished(result, sum(outcome.seconds for outcome in outcomes))


def stderr_tail(stderr: bytes) -> str:
    """The end of what a failed task wrote to stderr, as text."""
    return stderr[-STDERR_TAIL_BYTES:].decode(errors="replace")
