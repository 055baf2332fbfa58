"""One batch: consecutive tasks given to a warm process through shared memory, and what was reported of them.

Invariants:
  - each task is reported at most once, and a discarded one never;
  - a task that is neither reported nor discarded can be split off and given to another process.

Indexes count from the first task of the batch. The module sends nothing to the process.
"""

from __future__ import annotations

import struct
import time
from itertools import pairwise

from pipeline.executor.child_channel import SharedBatch
from pipeline.executor.outcomes import MAX_REPORTED_FAILURES, stderr_tail
from pipeline.executor.task_process import signal_name
from pipeline.executor.task_queue import TaskSlice
from pipeline.model.events import TasksFinished
from pipeline.model.messages import FailureKind, RecordFormat, Result, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.records import end_offset
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.model.state_machine import NEVER
from pipeline.model.structs import replace

EMPTY_OUTPUT_END = struct.pack("<I", 0)


class Batch:
    """Tasks of one warm process. `count` excludes split-off tasks; `seconds` is set once the process has finished."""

    def __init__(
        self, shared_batch: SharedBatch, records: TaskSlice, record_format: RecordFormat, call: str = "", slot: int = 1
    ) -> None:
        self.shared_batch = shared_batch
        self.count = records.count
        self.reported_count = 0
        """Tasks at the start of the batch that are reported, or skipped because they are discarded."""
        self.check_at = NEVER
        self.last_running: int | None = None
        """The task that ran at the last check, if there was a check."""
        self.seconds: float | None = None
        self.resource_usage = 0.0, 0  # CPU seconds and bytes of memory, if metrics are collected
        self.is_released = False
        """Whether tasks that do not run after all are given back to the ventilator instead of requeued."""
        self.closes_gate = False
        """Whether its process closes the halt gate at an outcome that may end the run."""
        self.discarded = RangeSet()
        self.failures: dict[int, tuple[FailureKind, str, str]] = {}
        """Kind, error line and traceback of failed tasks that are not reported yet, by index."""
        self._call, self._slot = call, slot
        self._records, self._record_format = records, record_format
        self._record_position = 0, 0
        """Index of a task and the offset of its record: where the next search starts."""
        self._started_at = NEVER
        self._reported_seconds = 0.0
        shared_batch.write_batch(records.count, records.body)

    @property
    def first(self) -> int:
        return self._records.first

    def start(self, now: float, check_at: float) -> None:
        """Record that the process has reached this batch, unless it is recorded already."""
        if self._started_at == NEVER:
            self._started_at, self.check_at = now, check_at

    def finished_count(self) -> int:
        """Return how many tasks have ended: the index of the running or next one."""
        return min(self.shared_batch.finished_count(), self.count)

    def take_finished(self, end: int, now: float) -> list[TasksFinished]:
        """Report the tasks before index `end`, which have finished: one message for each run of wanted neighbours."""
        start = self.reported_count
        if start >= end or (self._record_format.collect_metrics and self.seconds is None):
            return []
        total = max(self._reported_seconds, now - self._started_at) if self.seconds is None else self.seconds
        seconds = max(0.0, total - self._reported_seconds)
        self.reported_count, self._reported_seconds = end, total
        wanted = self.discarded.gaps(self.first + start, self.first + end)
        parts = [part for low, high in wanted for part in self._split_by_failures(low - self.first, high - self.first)]
        return [self._build_report(low, high, seconds / len(parts), now) for low, high in parts]

    def fail_task(self, index: int, wait_status: int) -> list[TasksFinished]:
        """Report the task during which the process died, unless it is discarded."""
        task = self.first + index
        self.reported_count = index + 1
        now, record = time.monotonic(), self.record(index)
        metrics = self._task_metrics(record, max(0.0, now - self._started_at), 0, now)
        if task in self.discarded:
            return []
        return [failed_result(failure_from_status(task, wait_status), record, metrics=metrics)]

    def split_off(self, index: int) -> list[TaskSlice]:
        """Remove the tasks from this index on; return those that are not discarded."""
        rest: list[TaskSlice] = []
        if index < self.count:
            body, record_format = self._records.body, self._record_format
            task, start = self.first + index, end_offset(body, index, record_format)
            for low, high in self.discarded.gaps(task, self.first + self.count):
                start = end_offset(body, low - task, record_format, start)
                task, end = high, end_offset(body, high - low, record_format, start)
                rest.append(TaskSlice(low, high - low, body[start:end], self._records.chunk_info))
                start = end
            self.count = index
        return rest

    def record(self, index: int) -> bytes:
        """Return a record without its terminator. It is quick when called in the order of tasks."""
        body, record_format = self._records.body, self._record_format
        if record_format.block:
            return body
        known_index, start = self._record_position if index >= self._record_position[0] else (0, 0)
        start = end_offset(body, index - known_index, record_format, start)
        self._record_position = index, start
        return body[start : end_offset(body, 1, record_format, start) - 1]

    def describe_call(self, index: int) -> bytes:
        """Return the task as a call, for users."""
        return f"{self._call}({self.record(index).decode(errors='backslashreplace')!r})".encode(errors="replace")

    def _task_metrics(self, record: bytes, seconds: float, stderr_size: int, now: float) -> bytes:
        """Return the encoded metrics of the only task; empty if they are not collected."""
        if not self._record_format.collect_metrics:
            return b""
        started_at = time.time() - (now - self._started_at)
        queued_seconds = max(0.0, self._started_at - self._records.chunk_info.received_at)
        usage = seconds, *self.resource_usage
        return encode_metrics(
            TaskMetrics(started_at, queued_seconds, *usage, self._slot, stderr_size, self.describe_call(0), record)
        )

    def _split_by_failures(self, low: int, high: int) -> list[tuple[int, int]]:
        """Split the range of indexes where one message would contain too many failures."""
        failed = sorted(index for index in self.failures if low <= index < high)
        return list(pairwise([low, *failed[MAX_REPORTED_FAILURES::MAX_REPORTED_FAILURES], high]))

    def _build_report(self, low: int, high: int, seconds: float, now: float) -> TasksFinished:
        failures, tracebacks, records = [], [], []
        for index in sorted(index for index in self.failures if low <= index < high):
            kind, line, trace = self.failures.pop(index)
            stderr, record, text = _encode_text(trace), self.record(index), _encode_text(line).decode()
            code = int(kind == "exception")
            failures.append(TaskFailure(self.first + index, kind, code, text, stderr_tail(stderr), len(record)))
            tracebacks.append(stderr)
            records.append(record)
        output, ends = self.shared_batch.read_outputs(low, high)
        stderr, failed_records = b"".join(tracebacks), b"".join(records)
        metrics = self._task_metrics(self.record(low), seconds, len(stderr), now) if high == low + 1 else b""
        first, count = self.first + low, high - low
        result = Result("", "", first, count, output, ends, stderr, tuple(failures), 0, failed_records, metrics)
        return TasksFinished(result, seconds)


def failed_result(failure: TaskFailure, record: bytes, seconds: float = 0.0, metrics: bytes = b"") -> TasksFinished:
    """Return the report of a task that ended with its process."""
    failures = (replace(failure, record_size=len(record)),)
    result = Result("", "", failure.task, 1, b"", EMPTY_OUTPUT_END, b"", failures, 0, record, metrics)
    return TasksFinished(result, seconds)


def failure_from_status(task: int, wait_status: int) -> TaskFailure:
    """Return the failure of a task whose process ended with this wait status."""
    number, code = wait_status & 0x7F, wait_status >> 8
    if not number:
        return TaskFailure(task, "lost", code, f"exited with {code}", "", 0)
    return TaskFailure(task, "signal", number, f"killed by {signal_name(number)}", "", 0)


def _encode_text(text: str) -> bytes:
    """Encode the text so that any decoder accepts it: a lone surrogate is escaped."""
    return text.encode("utf-8", "backslashreplace")
