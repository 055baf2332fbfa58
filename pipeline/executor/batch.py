"""Batches in flight to one warm process and what was reported of them.

A batch: consecutive tasks in an arena, given to one warm child, and what has been told of them.

It promises that each of its tasks is told at most once, that nobody hears of the unwanted, and that what was neither
told nor unwanted can be cut off and given to others. Indexes count from its first task. It never talks to the child.

What is on the plate of one warm child: its batches, the running one first.

It finds the task that runs through the arenas, without the child's help, and takes off the plate what is not started,
not wanted, or was running when the child died. It never talks to the child.
"""

from __future__ import annotations

import signal
import struct
import time
from itertools import pairwise

from pipeline.executor.child_channel import SharedBatch
from pipeline.executor.outcomes import stderr_tail
from pipeline.executor.task_queue import TaskSlice
from pipeline.model.events import TasksFinished
from pipeline.model.messages import FailureKind, RecordFormat, Result, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.records import end_offset
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.model.state_machine import NEVER
from pipeline.model.structs import replace

EMPTY_OUTPUT_END = struct.pack("<I", 0)
MAX_REPORTED_FAILURES = 256
"""Notes in a Done at most, so that its header stays small."""


class Batch:
    """One batch. `count` is its tasks without those cut off; `seconds` its run time once the child is through."""

    def __init__(
        self, shared_batch: SharedBatch, records: TaskSlice, record_format: RecordFormat, call: str = "", slot: int = 1
    ) -> None:
        self.shared_batch = shared_batch
        self.count = records.count
        self.check_at = NEVER
        self.last_running: int | None = None
        """The task that ran at the last look, if there was one."""
        self.seconds: float | None = None
        self.resource_usage = 0.0, 0  # seconds of CPU, and bytes of memory, where they are wanted
        self._call, self._slot = call, slot
        self.is_released = False
        """What is not run of it after all is to be given back, not put back."""
        self.discarded = RangeSet()
        self.failures: dict[int, tuple[FailureKind, str, str]] = {}
        """What happened, in a line, and its traceback, for each failed task that has not been told."""
        self._records, self._record_format = records, record_format
        self._record_position = 0, 0
        """A task's index and where its record starts in the body."""
        self._started_at = NEVER
        self._reported_count = 0
        self._reported_seconds = 0.0
        shared_batch.write_batch(records.count, records.body)

    def start(self, now: float, check_at: float) -> None:
        """It is the batch's turn, if it has not been so for long; to be looked at if it still runs at `look`."""
        if self._started_at == NEVER:
            self._started_at, self.check_at = now, check_at

    @property
    def first(self) -> int:
        """The number of its first task."""
        return self._records.first

    @property
    def reported_count(self) -> int:
        """How many of its tasks are told, or passed over as unwanted."""
        return self._reported_count

    def finished_count(self) -> int:
        """How many of its tasks have ended: the index of the one that runs, or would be next."""
        return min(self.shared_batch.finished_count(), self.count)

    def take_finished(self, high: int, now: float) -> list[TasksFinished]:
        """What is new of the tasks up to `high`, which has been reached: each run of wanted neighbours once."""
        low = self._reported_count
        if low >= high or (self._record_format.collect_metrics and self.seconds is None):
            return []
        passed = max(self._reported_seconds, now - self._started_at) if self.seconds is None else self.seconds
        spent = max(0.0, passed - self._reported_seconds)
        self._reported_count, self._reported_seconds = high, passed
        wanted = self.discarded.gaps(self.first + low, self.first + high)
        parts = [
            part for start, stop in wanted for part in self._split_by_failures(start - self.first, stop - self.first)
        ]
        return [self._build_report(start, stop, spent / len(parts), now) for start, stop in parts]

    def fail_task(self, task_index: int, wait_status: int) -> list[TasksFinished]:
        """The child died of wait status `status` while task `at` ran: the verdict on it, if anybody wants it."""
        task = self.first + task_index
        self._reported_count = task_index + 1
        now, record = time.monotonic(), self.record(task_index)
        account = self._task_metrics(record, max(0.0, now - self._started_at), 0, now)
        return (
            []
            if task in self.discarded
            else [failed_result(failure_from_status(task, wait_status), record, accounts=account)]
        )

    def describe_call(self, task_index: int) -> bytes:
        """Task `at` as a call, for a person."""
        return f"{self._call}({self.record(task_index).decode(errors='backslashreplace')!r})".encode(errors="replace")

    def _task_metrics(self, record: bytes, seconds: float, stderr_size: int, now: float) -> bytes:
        """Of its only task, if the sink wants one."""
        if not self._record_format.collect_metrics:
            return b""
        began, queued = (
            time.time() - (now - self._started_at),
            max(0.0, self._started_at - self._records.chunk_info.received_at),
        )
        return encode_metrics(
            TaskMetrics(
                began, queued, seconds, *self.resource_usage, self._slot, stderr_size, self.describe_call(0), record
            )
        )

    def record(self, task_index: int) -> bytes:
        """The record of task `at`, without its terminator. Quick when asked in the order of tasks."""
        body, recipe = self._records.body, self._record_format
        if recipe.block:
            return body
        index, start = self._record_position if task_index >= self._record_position[0] else (0, 0)
        start = end_offset(body, task_index - index, recipe, start)
        self._record_position = task_index, start
        return body[start : end_offset(body, 1, recipe, start) - 1]

    def split_off(self, task_index: int) -> list[TaskSlice]:
        """Take the tasks from index `at` on out of the batch; the records of those that are wanted."""
        rest: list[TaskSlice] = []
        if task_index < self.count:
            body, recipe = self._records.body, self._record_format
            number, start = self.first + task_index, end_offset(body, task_index, recipe)
            for low, high in self.discarded.gaps(number, self.first + self.count):
                start = end_offset(body, low - number, recipe, start)
                number, end = high, end_offset(body, high - low, recipe, start)
                rest.append(TaskSlice(low, high - low, body[start:end], self._records.chunk_info))
                start = end
            self.count = task_index
        return rest

    def _split_by_failures(self, low: int, high: int) -> list[tuple[int, int]]:
        """The tasks `low` to `high`, cut where a Done would have too many notes."""
        failed = sorted(at for at in self.failures if low <= at < high)
        return list(pairwise([low, *failed[MAX_REPORTED_FAILURES::MAX_REPORTED_FAILURES], high]))

    def _build_report(self, low: int, high: int, seconds: float, now: float) -> TasksFinished:
        """The Done of the finished tasks `low` to `high`."""
        notes, stories, records = [], [], []
        for at in sorted(at for at in self.failures if low <= at < high):
            kind, line, told = self.failures.pop(at)
            story, record = _encode_text(told), self.record(at)
            code = int(kind == "exception")
            notes.append(
                TaskFailure(self.first + at, kind, code, _encode_text(line).decode(), stderr_tail(story), len(record))
            )
            stories.append(story)
            records.append(record)
        output, ends = self.shared_batch.read_outputs(low, high)
        errors, found = b"".join(stories), b"".join(records)
        account = self._task_metrics(self.record(low), seconds, len(errors), now) if high == low + 1 else b""
        first, count = self.first + low, high - low
        return TasksFinished(
            Result("", "", first, count, output, ends, errors, tuple(notes), 0, found, account), seconds
        )


def failed_result(
    task_failure: TaskFailure, record: bytes, seconds: float = 0.0, accounts: bytes = b""
) -> TasksFinished:
    """The Done of a task that ended with its child."""
    notes = (replace(task_failure, record_size=len(record)),)
    return TasksFinished(
        Result("", "", task_failure.task, 1, b"", EMPTY_OUTPUT_END, b"", notes, 0, record, accounts), seconds
    )


def failure_from_status(task: int, wait_status: int) -> TaskFailure:
    """What a child's wait status says about the task that it ran."""
    number, code = wait_status & 0x7F, wait_status >> 8
    if not number:
        return TaskFailure(task, "lost", code, f"exited with {code}", "", 0)
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    return TaskFailure(task, "signal", number, f"killed by {name}", "", 0)


def _encode_text(text: str) -> bytes:
    """The text in bytes that any decoder takes: a lone surrogate is spelled out."""
    return text.encode("utf-8", "backslashreplace")


class InFlightBatches:
    """The batches of one child."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._timed_out: tuple[int, bytes] | None = None
        """The task that ran too long, with its record, until its child has ended."""

    def running_task(self) -> int:
        """The number of the task that runs, or would be next; -1 if there is none."""
        for batch in self.batches:
            at = batch.finished_count()
            if at < batch.count and batch.seconds is None:
                return batch.first + at
        return -1

    def reclaim_unstarted(self) -> list[TaskSlice]:
        """Stop the child behind its present task; the records of all that it will not start."""
        # halt, then look: the child publishes a task before it looks at the halt for the next one
        for batch in self.batches:
            batch.shared_batch.stop_after_current()
        rest, running = [], False
        for batch in self.batches:
            at = 0 if running else batch.finished_count() + 1
            running = running or at <= batch.count
            rest += batch.split_off(at)
        return rest

    def discard(self, ranges: RangeSet) -> bool:
        """Nobody wants to hear of these tasks; whether it had any of them."""
        for batch in self.batches:
            batch.discarded.update(ranges.intersection(batch.first, batch.first + batch.count))
        if self._timed_out and self._timed_out[0] in ranges:
            self._timed_out = None
        return any(len(batch.discarded) for batch in self.batches)

    def mark_timed_out(self, task: int) -> None:
        """This task, which runs, has run too long: whatever it still does, nobody hears of it but the verdict."""
        batch = next(batch for batch in self.batches if batch.first <= task < batch.first + batch.count)
        self._timed_out = task, batch.record(task - batch.first)
        batch.discarded.add(task, task + 1)

    def fail_running(self, wait_status: int) -> list[TasksFinished]:
        """The child died of wait status `status`: the verdict on the task that it ran, if anybody wants it."""
        task = self.running_task()
        for batch in self.batches:
            if batch.seconds is None and batch.first <= task < batch.first + batch.count:
                return batch.fail_task(task - batch.first, wait_status)
        return []

    def timeout_result(self, task_failure: TaskFailure, seconds: float) -> list[TasksFinished]:
        """The verdict on the task that was sentenced, if anybody wants it still."""
        return (
            [failed_result(task_failure, self._timed_out[1], seconds)]
            if self._timed_out and self._timed_out[0] == task_failure.task
            else []
        )

    def clear(self) -> list[TaskSlice]:
        """Take all off; the records of what was not told."""
        rest = [records for batch in self.batches for records in batch.split_off(batch.reported_count)]
        self.batches.clear()
        return rest
