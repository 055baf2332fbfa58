"""Reports of ended tasks: when they are due, and their merging into few messages.

Invariants:
  - each outcome added is reported once or discarded;
  - neighbours are merged, so that a message carries many short tasks, but never more than its fields can hold;
  - a report waits for REPORT_INTERVAL_SECONDS at most, and for nothing while no task waits to start.

The module reads no clock.
"""

from __future__ import annotations

import struct
from operator import attrgetter
from typing import NamedTuple

from pipeline.model.events import TasksFinished
from pipeline.model.messages import Ranges, RecordFormat, Result, TaskFailure
from pipeline.model.option_values import count_halt_events
from pipeline.model.ranges import RangeSet
from pipeline.model.results import LargeContent, merge_results, slice_result, with_content
from pipeline.model.state_machine import NEVER

REPORT_INTERVAL_SECONDS = 0.05
"""Time between two reports while more tasks wait to start. It is half of what the protocol allows, since tasks of a
batch have ended before they are added here. And a worker that receives no report for twice as long releases tasks."""
MAX_MERGED_BYTES = 1 << 20  # a message that has reached this size takes no further outcome
MAX_MERGED_TASKS = 1024  # more would save nothing
MAX_REPORTED_FAILURES = 256  # in one message, so that its header stays small
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


class OutcomeBuffer:
    """Reports of tasks that have ended, until they are due. `task_count` and `size` are their tasks and bytes.

    Messages cost time in three stations, so reports wait for others while more tasks wait to start. They wait for half
    of the tasks at most, so that the worker can request more before its slots are idle. Reports of long tasks do not
    wait; those of failures, which may run again or end the run, wait for `urgent_seconds` at most.
    """

    def __init__(self, urgent_seconds: float = 0.0) -> None:
        self.record_format = RecordFormat()
        self.task_count = self.size = 0
        self.due_at = NEVER
        self._urgent_seconds = urgent_seconds
        self._reports: list[TasksFinished] = []
        self._last_report_time = 0.0

    @property
    def event_count(self) -> int:
        """How many of the tasks ended with the halt event."""
        event, results = self.record_format.halt_event, [report.result for report in self._reports]
        return sum(count_halt_events(event, result.count, len(result.failures)) for result in results) if event else 0

    def add(self, outcome: TaskOutcome) -> None:
        self.add_report(_make_report(outcome))

    def add_report(self, report: TasksFinished) -> None:
        self._reports.append(report)
        self.task_count += report.result.count
        self.size += _result_size(report.result)
        wait_seconds = REPORT_INTERVAL_SECONDS
        if report.result.failures or self.record_format.halt_event or self.record_format.stream_output:
            wait_seconds = self._urgent_seconds
        if report.seconds >= REPORT_INTERVAL_SECONDS:  # the first of its tasks may have ended so long ago
            wait_seconds = 0.0
        self.due_at = min(self.due_at, self._last_report_time + wait_seconds)

    def discard(self, ranges: Ranges) -> None:
        """Remove these tasks."""
        discarded, reports = RangeSet(ranges), self._clear()
        for report in reports:
            result = report.result
            for part in slice_result(result, discarded.gaps(result.first, result.first + result.count)):
                self.add_report(TasksFinished(part, report.seconds * part.count / result.count))

    def take_due(self, now: float, waiting_count: int) -> list[TasksFinished]:
        """Remove and return all reports if they are due, while so many tasks wait to start."""
        is_full = self.task_count >= MAX_MERGED_TASKS or self.size >= MAX_MERGED_BYTES
        if not self._reports or not (is_full or self.task_count >= waiting_count or now >= self.due_at):
            return []
        self._last_report_time = now
        return self.flush()

    def flush(self) -> list[TasksFinished]:
        """Remove and return all reports in the order of tasks, neighbours merged."""
        groups: list[list[TasksFinished]] = []
        end = count = size = failure_count = stderr_size = 0
        for report in sorted(self._clear(), key=_first_task):
            result = report.result
            is_full = size >= MAX_MERGED_BYTES or count + result.count > MAX_MERGED_TASKS
            is_full = is_full or failure_count + len(result.failures) > MAX_REPORTED_FAILURES
            is_next = groups and end == result.first and bool(groups[-1][0].result.metrics) == bool(result.metrics)
            has_failures, has_stderr = failure_count or result.failures, stderr_size or result.stderr
            # without metrics, the sink could not tell whose stderr it is if it retries the failed ones
            is_full = is_full or bool(has_failures and has_stderr and not result.metrics)
            if is_full or result.large_sizes or not is_next:
                groups.append([])
                count = size = failure_count = stderr_size = 0
            groups[-1].append(report)
            end, count, size = result.first + result.count, count + result.count, size + _result_size(result)
            failure_count, stderr_size = failure_count + len(result.failures), stderr_size + len(result.stderr)
        return [_merge_reports(group) for group in groups]

    def _clear(self) -> list[TasksFinished]:
        reports, self._reports = self._reports, []
        self.task_count = self.size = 0
        self.due_at = NEVER
        return reports


_first_task = attrgetter("result.first")


def _make_report(outcome: TaskOutcome) -> TasksFinished:
    result = Result(
        run="",
        worker="",
        first=outcome.task,
        count=1,
        output=outcome.output,
        output_ends=struct.pack("<I", len(outcome.output)),
        stderr=outcome.stderr,
        failures=() if outcome.failure is None else (outcome.failure,),
        failed_records=outcome.record,
        metrics=outcome.metrics,
        large_sizes=outcome.large_sizes,
    )
    if outcome.content:
        result = with_content(result, outcome.content)
    return TasksFinished(result, outcome.seconds)


def _merge_reports(reports: list[TasksFinished]) -> TasksFinished:
    result = merge_results([report.result for report in reports])
    return TasksFinished(result, sum(report.seconds for report in reports))


def _result_size(result: Result) -> int:
    """Return about the bytes that it takes in a message; a large result is in a message alone."""
    if result.large_sizes:
        return MAX_MERGED_BYTES
    failure_size = sum(len(failure.text) + len(failure.stderr_tail) for failure in result.failures)
    return len(result.output) + len(result.stderr) + len(result.failed_records) + failure_size


def stderr_tail(stderr: bytes) -> str:
    """Return the end of a failed task's stderr as text."""
    return stderr[-STDERR_TAIL_BYTES:].decode(errors="replace")
