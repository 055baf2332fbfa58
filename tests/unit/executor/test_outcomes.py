"""OutcomeBuffer."""

from __future__ import annotations

import struct

from pipeline.executor.outcomes import MAX_MERGED_BYTES, OutcomeBuffer, TaskOutcome
from pipeline.model.events import TasksFinished
from pipeline.model.messages import Result, TaskFailure


def make_buffer(*tasks: int, size: int = 1) -> OutcomeBuffer:
    buffer = OutcomeBuffer()
    for task in tasks:
        buffer.add(TaskOutcome(task, b"%d" % (task % 10) * size, b"", None, 0.5), now=float(task))
    return buffer


def test_outcome_buffer_flush_merges_neighbours() -> None:
    failure = TaskFailure(8, "exit", 3, "exit 3", "oh", 2)
    buffer = OutcomeBuffer()
    buffer.add(TaskOutcome(8, b"", b"oh", failure, 0.25, b"8."), now=5.0)
    buffer.add(TaskOutcome(9, b"nine", b"", None, 0.5), now=6.0)
    buffer.add(TaskOutcome(7, b"seven", b"hm", None, 1.0), now=7.0)
    assert (len(buffer), buffer.first_ended_at, buffer.size) == (3, 5.0, 23)
    ends = struct.pack("<3I", 5, 5, 9)
    assert buffer.flush() == [
        TasksFinished(Result("", "", 7, 3, b"sevennine", ends, b"hmoh", (failure,), 0, b"8."), 1.75)
    ]
    assert buffer.flush() == []
    assert (len(buffer), buffer.size) == (0, 0)


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
            now=0.0,
        )
    assert [(report.result.first, report.result.count) for report in buffer.flush()] == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_outcome_buffer_discard_removes_outcomes() -> None:
    buffer = make_buffer(1, 2, 3, 4)
    buffer.discard(((0, 2), (3, 4)))
    assert buffer.size == 2
    assert [(report.result.first, report.result.output) for report in buffer.flush()] == [(2, b"2"), (4, b"4")]


def test_outcome_buffer_first_ended_at_restarts_after_flush() -> None:
    buffer = make_buffer(3)
    buffer.flush()
    buffer.add(TaskOutcome(9, b"", b"", None, 0.0), now=9.0)
    assert buffer.first_ended_at == 9.0
