"""Outcomes of ended tasks that are not reported yet, and their merging into TasksFinished messages.

Invariants:
  - each outcome added is reported once or discarded;
  - neighbours are merged, so that a message carries many short tasks, but never more than its fields can hold.

The executor decides when to report; the buffer only knows the time of the first outcome and the total size.
"""

from __future__ import annotations

import struct
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

from pipeline.model.events import TasksFinished
from pipeline.model.messages import Ranges, Result, TaskFailure
from pipeline.model.option_values import HaltEvent, count_halt_events
from pipeline.model.ranges import RangeSet
from pipeline.model.results import LargeContent, with_content
from pipeline.model.structs import replace

MAX_MERGED_BYTES = 1 << 20  # a message that has reached this size takes no further outcome
STDERR_TAIL_BYTES = 2048  # of a failed task's stderr that its TaskFailure keeps


class TaskOutcome(NamedTuple):
    """How one task ended. `record` is set for a failed task only."""

    task: int
    output: bytes
    stderr: bytes
    failure: TaskFailure | None
    seconds: float
    record: bytes = b""
    metrics: bytes = b""
    large_sizes: tuple[int, ...] = ()
    """Sizes of output and stderr, if these are in `content`."""
    content: LargeContent | None = None

    @property
    def size(self) -> int:
        """About the bytes that it takes in a message."""
        failure_size = len(self.failure.text) + len(self.failure.stderr_tail) if self.failure else 0
        return len(self.output) + len(self.stderr) + len(self.record) + failure_size


class OutcomeBuffer:
    """Outcomes to be reported; `size` is their bytes."""

    def __init__(self) -> None:
        self.first_ended_at = 0.0
        self.size = 0
        self.halt_event: HaltEvent = ""
        self._outcomes: list[TaskOutcome] = []

    def __len__(self) -> int:
        return len(self._outcomes)

    @property
    def event_count(self) -> int:
        """How many of them are halt events."""
        failed_count = sum(outcome.failure is not None for outcome in self._outcomes) if self.halt_event else 0
        return count_halt_events(self.halt_event, len(self._outcomes), failed_count)

    def add(self, outcome: TaskOutcome, now: float) -> None:
        if not self._outcomes:
            self.first_ended_at = now
        self._outcomes.append(outcome)
        self.size += outcome.size

    def discard(self, ranges: Ranges) -> None:
        """Remove the outcomes of these tasks."""
        discarded = RangeSet(ranges)
        self._outcomes = [outcome for outcome in self._outcomes if outcome.task not in discarded]
        self.size = sum(outcome.size for outcome in self._outcomes)

    def flush(self) -> list[TasksFinished]:
        """Remove and return all outcomes in the order of tasks, neighbours merged."""
        outcomes, self._outcomes, self.size = self._outcomes, [], 0
        outcomes.sort(key=itemgetter(0))
        groups: list[list[TaskOutcome]] = []
        size = 0
        for outcome in outcomes:
            is_full = size >= MAX_MERGED_BYTES or outcome.content or (groups and groups[-1][-1].content)
            if not groups or groups[-1][-1].task + 1 != outcome.task or is_full:
                groups.append([])
                size = 0
            groups[-1].append(outcome)
            size += outcome.size
        return [_merge_outcomes(group) for group in groups]


def _merge_outcomes(outcomes: list[TaskOutcome]) -> TasksFinished:
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
    if outcomes[0].content:  # alone in its group
        result = with_content(replace(result, large_sizes=outcomes[0].large_sizes), outcomes[0].content)
    return TasksFinished(result, sum(outcome.seconds for outcome in outcomes))


def stderr_tail(stderr: bytes) -> str:
    """Return the end of a failed task's stderr as text."""
    return stderr[-STDERR_TAIL_BYTES:].decode(errors="replace")
