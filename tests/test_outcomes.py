"""Joining outcomes: neighbours in one Done, in order, each told once."""

from __future__ import annotations

import struct

from pipeline.executor.limits import MOST_OUTPUT
from pipeline.executor.outcomes import FULL, Outcome, Outcomes
from pipeline.words.errands import Done
from pipeline.words.messages import Result
from pipeline.words.parts import Note


def outcomes(*tasks: int, size: int = 1) -> Outcomes:
    made = Outcomes()
    for task in tasks:
        made.add(Outcome(task, b"%d" % (task % 10) * size, b"", None, 0.5), now=float(task))
    return made


def test_neighbours_are_joined() -> None:
    note = Note(8, "exit", 3, "exit 3", "oh", 2)
    made = Outcomes()
    made.add(Outcome(8, b"", b"oh", note, 0.25, b"8."), now=5.0)
    made.add(Outcome(9, b"nine", b"", None, 0.5), now=6.0)
    made.add(Outcome(7, b"seven", b"hm", None, 1.0), now=7.0)
    assert (len(made), made.since, made.size) == (3, 5.0, 23)
    ends = struct.pack("<3I", 5, 5, 9)
    assert made.take() == [Done(Result("", "", 7, 3, b"sevennine", ends, b"hmoh", (note,), 0, b"8."), 1.75)]
    assert made.take() == []
    assert (len(made), made.size) == (0, 0)


def test_a_gap_parts() -> None:
    results = [done.result for done in outcomes(5, 1, 2, 9, 4).take()]
    assert [(result.first, result.count) for result in results] == [(1, 2), (4, 2), (9, 1)]


def test_a_full_done_takes_no_more() -> None:
    dones = outcomes(0, 1, 2, size=FULL - 1).take()
    assert [(done.result.first, done.result.count) for done in dones] == [(0, 2), (2, 1)]
    assert dones[0].result.ends == struct.pack("<2I", FULL - 1, 2 * FULL - 2)


def test_what_complains_much_and_fails_much_makes_a_done_full_too() -> None:
    made = Outcomes()
    for task in range(4):
        note = Note(task, "exit", 1, "exit 1", "", size=FULL // 2)
        made.add(Outcome(task, b"", b"e" * (FULL // 2), note, 0.0, b"r" * (FULL // 2)), now=0.0)
    assert [(done.result.first, done.result.count) for done in made.take()] == [(0, 1), (1, 1), (2, 1), (3, 1)]


def test_the_ends_of_a_full_done_and_the_largest_task_behind_it_can_be_said() -> None:
    assert (FULL - 1) + MOST_OUTPUT < 1 << 32


def test_dropped_ones_are_not_told() -> None:
    made = outcomes(1, 2, 3, 4)
    made.drop(((0, 2), (3, 4)))
    assert made.size == 2
    assert [(done.result.first, done.result.output) for done in made.take()] == [(2, b"2"), (4, b"4")]


def test_since_is_new_after_each_taking() -> None:
    made = outcomes(3)
    made.take()
    made.add(Outcome(9, b"", b"", None, 0.0), now=9.0)
    assert made.since == 9.0
