"""OutcomeBuffer."""

from __future__ import annotations

import struct

import pytest

from pipeline.executor.outcomes import (
    MAX_MERGED_BYTES,
    MAX_MERGED_TASKS,
    MAX_REPORTED_FAILURES,
    REPORT_INTERVAL_SECONDS,
    OutcomeBuffer,
    TaskOutcome,
)
from pipeline.model.events import TasksFinished
from pipeline.model.messages import RecordFormat, Result, TaskFailure
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.model.state_machine import NEVER


def make_buffer(*tasks: int, size: int = 1) -> OutcomeBuffer:
    buffer = OutcomeBuffer()
    for task in tasks:
        buffer.add(TaskOutcome(task, b"%d" % (task % 10) * size, b"", None, 0.5))
    return buffer


def test_outcome_buffer_flush_merges_neighbours() -> None:
    failure = TaskFailure(8, "exit", 3, "exit 3", "", 2)
    buffer = OutcomeBuffer()
    buffer.add(TaskOutcome(8, b"", b"", failure, 0.25, b"8."))
    buffer.add(TaskOutcome(9, b"nine", b"", None, 0.5))
    buffer.add(TaskOutcome(7, b"seven", b"", None, 1.0))
    assert (buffer.task_count, buffer.size) == (3, 17)
    ends = struct.pack("<3I", 5, 5, 9)
    assert buffer.flush() == [TasksFinished(Result("", "", 7, 3, b"sevennine", ends, b"", (failure,), 0, b"8."), 1.75)]
    assert buffer.flush() == []
    assert (buffer.task_count, buffer.size) == (0, 0)


def test_outcome_buffer_flush_never_merges_stderr_with_a_failure() -> None:
    failure = TaskFailure(1, "exit", 3, "exit 3", "", 0)
    buffer = OutcomeBuffer()
    buffer.add(TaskOutcome(0, b"", b"", None, 0.1))
    buffer.add(TaskOutcome(1, b"", b"", failure, 0.1))
    buffer.add(TaskOutcome(2, b"", b"", None, 0.1))
    buffer.add(TaskOutcome(3, b"", b"hm", None, 0.1))
    buffer.add(TaskOutcome(4, b"", b"oh", None, 0.1))
    results = [report.result for report in buffer.flush()]
    assert [(result.count, result.stderr) for result in results] == [(3, b""), (2, b"hmoh")]


def test_outcome_buffer_flush_splits_at_gaps() -> None:
    results = [report.result for report in make_buffer(5, 1, 2, 9, 4).flush()]
    assert [(result.first, result.count) for result in results] == [(1, 2), (4, 2), (9, 1)]


def test_outcome_buffer_flush_splits_full_messages() -> None:
    reports = make_buffer(0, 1, 2, size=MAX_MERGED_BYTES - 1).flush()
    assert [(report.result.first, report.result.count) for report in reports] == [(0, 2), (2, 1)]
    assert reports[0].result.output_ends == struct.pack("<2I", MAX_MERGED_BYTES - 1, 2 * MAX_MERGED_BYTES - 2)


def test_outcome_buffer_size_includes_stderr_and_records() -> None:
    buffer = OutcomeBuffer()
    for task in range(4):
        failure = TaskFailure(task, "exit", 1, "exit 1", "", record_size=MAX_MERGED_BYTES // 2)
        buffer.add(
            TaskOutcome(task, b"", b"e" * (MAX_MERGED_BYTES // 2), failure, 0.0, b"r" * (MAX_MERGED_BYTES // 2)),
        )
    assert [(report.result.first, report.result.count) for report in buffer.flush()] == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_outcome_buffer_discard_removes_outcomes() -> None:
    buffer = make_buffer(1, 2, 3, 4)
    buffer.discard(((0, 2), (3, 4)))
    assert buffer.size == 2
    assert [(report.result.first, report.result.output) for report in buffer.flush()] == [(2, b"2"), (4, b"4")]


def test_outcome_buffer_flush_splits_many_failures_and_tasks() -> None:
    buffer = OutcomeBuffer()
    for task in range(600):
        buffer.add(TaskOutcome(task, b"", b"", TaskFailure(task, "exit", 1, "exit 1", "", 0), 0.0))
    for task in range(600, 2000):
        buffer.add(TaskOutcome(task, b"", b"", None, 0.0))
    results = [report.result for report in buffer.flush()]
    assert sum(result.count for result in results) == 2000
    assert [len(result.failures) for result in results] == [MAX_REPORTED_FAILURES] * 2 + [88, 0]
    assert max(result.count for result in results) == MAX_MERGED_TASKS


def test_outcome_buffer_flush_never_merges_metrics_with_none() -> None:
    buffer = OutcomeBuffer()
    metrics = encode_metrics(TaskMetrics(0.0, 0.0, 0.0, 0.0, 0, 1, 0, b"", b""))
    for task, encoded in enumerate([metrics, metrics, b"", metrics]):
        buffer.add(TaskOutcome(task, b"", b"", None, 0.0, metrics=encoded))
    assert [report.result.count for report in buffer.flush()] == [2, 1, 1]


def make_report(first: int, count: int, seconds: float = 0.01) -> TasksFinished:
    output = b"".join(b"%d\n" % (task % 10) for task in range(first, first + count))
    ends = struct.pack(f"<{count}I", *range(2, 2 * count + 2, 2))
    return TasksFinished(Result("", "", first, count, output, ends, b"", ()), seconds)


def test_outcome_buffer_discard_keeps_the_rest_of_a_report() -> None:
    buffer = OutcomeBuffer()
    buffer.add_report(make_report(0, 4, seconds=1.0))
    buffer.add_report(make_report(4, 2))
    buffer.discard(((1, 2), (4, 6)))
    assert (buffer.task_count, buffer.size) == (3, 6)
    assert [(report.result.first, report.result.output, report.seconds) for report in buffer.flush()] == [
        (0, b"0\n", 0.25),
        (2, b"2\n3\n", 0.5),
    ]


def test_outcome_buffer_reports_many_short_tasks_rarely() -> None:
    buffer, messages = OutcomeBuffer(), []
    for number in range(500):  # a batch of ten tasks at a time
        buffer.add_report(make_report(10 * number, 10))
        messages += buffer.take_due(number / 100, waiting_count=200)
        assert buffer.due_at <= number / 100 + REPORT_INTERVAL_SECONDS or buffer.due_at == NEVER
    messages += buffer.take_due(5.0, waiting_count=0)
    assert sum(report.result.count for report in messages) == 5000
    assert len(messages) <= 5.0 / REPORT_INTERVAL_SECONDS + 2


FAILED = TaskOutcome(1, b"", b"", TaskFailure(1, "exit", 1, "exit 1", "", 0), 0.001)
OK = TaskOutcome(1, b"", b"", None, 0.001)


@pytest.mark.parametrize(
    ("outcome", "record_format", "waiting_count", "delay"),
    [
        (OK, RecordFormat(), 99, REPORT_INTERVAL_SECONDS),
        (OK, RecordFormat(), 0, 0.0),
        (OK, RecordFormat(), 1, 0.0),  # as many have ended as wait: now the worker is to request more
        (OK._replace(seconds=REPORT_INTERVAL_SECONDS), RecordFormat(), 99, 0.0),
        (OK._replace(output=b"x" * MAX_MERGED_BYTES), RecordFormat(), 99, 0.0),
        (FAILED, RecordFormat(), 99, 0.01),
        (OK, RecordFormat(stream_output=True), 99, 0.01),
        (OK, RecordFormat(halt_event="success"), 99, 0.01),
    ],
)
def test_outcome_waits_only_where_it_may(
    outcome: TaskOutcome, record_format: RecordFormat, waiting_count: int, delay: float
) -> None:
    buffer = OutcomeBuffer(urgent_seconds=0.01)
    buffer.record_format = record_format
    buffer.add(OK._replace(task=0))
    assert len(buffer.take_due(100.0, waiting_count)) == 1  # the first one never waits
    assert buffer.due_at == NEVER
    buffer.add(outcome)
    assert len(buffer.take_due(100.0, waiting_count)) == (delay == 0.0)
    assert buffer.due_at == (100.0 + delay if delay else NEVER)
    assert len(buffer.take_due(100.0 + delay, waiting_count)) == (delay > 0.0)


def test_failure_takes_waiting_outcomes_along() -> None:
    buffer = OutcomeBuffer()
    buffer.add(OK._replace(task=0))
    buffer.take_due(100.0, 99)
    buffer.add(OK._replace(task=1))
    assert buffer.take_due(100.01, 99) == []
    buffer.add(FAILED._replace(task=2))
    (report,) = buffer.take_due(100.02, 99)
    assert (report.result.first, report.result.count) == (1, 2)
