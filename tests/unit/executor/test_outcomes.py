"""Joining outcomes: neighbours in one Done, in order, each told once."""

from __future__ import annotations

import struct

from pipeline.executor.limits import MAX_OUTPUT_BYTES
from pipeline.executor.outcomes import MAX_MERGED_BYTES, OutcomeBuffer, TaskOutcome
from pipeline.model.events import TasksFinished
from pipeline.model.messages import Result, TaskFailure


def outcomes(*tasks: int, size: int = 1) -> OutcomeBuffer:
    made = OutcomeBuffer()
    for task in tasks:
        made.add(TaskOutcome(task, b"%d" % (task % 10) * size, b"", None, 0.5), now=float(task))
    return made


def test_neighbours_are_joined() -> None:
    note = TaskFailure(8, "exit", 3, "exit 3", "oh", 2)
    made = OutcomeBuffer()
    made.add(TaskOutcome(8, b"", b"oh", note, 0.25, b"8."), now=5.0)
    made.add(TaskOutcome(9, b"nine", b"", None, 0.5), now=6.0)
    made.add(TaskOutcome(7, b"seven", b"hm", None, 1.0), now=7.0)
    assert (len(made), made.first_ended_at, made.size) == (3, 5.0, 23)
    ends = struct.pack("<3I", 5, 5, 9)
    assert made.flush() == [TasksFinished(Result("", "", 7, 3, b"sevennine", ends, b"hmoh", (note,), 0, b"8."), 1.75)]
    assert made.flush() == []
    assert (len(made), made.size) == (0, 0)


def test_a_gap_parts() -> None:
    results = [done.result for done in outcomes(5, 1, 2, 9, 4).flush()]
    assert [(result.first, result.count) for result in results] == [(1, 2), (4, 2), (9, 1)]


def test_a_full_done_takes_no_more() -> None:
    dones = outcomes(0, 1, 2, size=MAX_MERGED_BYTES - 1).flush()
    assert [(done.result.first, done.result.count) for done in dones] == [(0, 2), (2, 1)]
    assert dones[0].result.output_ends == struct.pack("<2I", MAX_MERGED_BYTES - 1, 2 * MAX_MERGED_BYTES - 2)


def test_what_complains_much_and_fails_much_makes_a_done_full_too() -> None:
    made = OutcomeBuffer()
    for task in range(4):
        note = TaskFailure(task, "exit", 1, "exit 1", "", record_size=MAX_MERGED_BYTES // 2)
        made.add(
            TaskOutcome(task, b"", b"e" * (MAX_MERGED_BYTES // 2), note, 0.0, b"r" * (MAX_MERGED_BYTES // 2)), now=0.0
        )
    assert [(done.result.first, done.result.count) for done in made.flush()] == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_the_ends_of_a_full_done_and_the_largest_task_behind_it_can_be_said() -> None:
    assert (MAX_MERGED_BYTES - 1) + MAX_OUTPUT_BYTES < 1 << 32


def test_dropped_ones_are_not_told() -> None:
    made = outcomes(1, 2, 3, 4)
    made.discard(((0, 2), (3, 4)))
    assert made.size == 2
    assert [(done.result.first, done.result.output) for done in made.flush()] == [(2, b"2"), (4, b"4")]


def test_since_is_new_after_each_taking() -> None:
    made = outcomes(3)
    made.flush()
    made.add(TaskOutcome(9, b"", b"", None, 0.0), now=9.0)
    assert made.first_ended_at == 9.0
