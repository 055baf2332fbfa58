"""How often tasks have failed: only those that have, and never less often than before."""

from __future__ import annotations

import random
from itertools import pairwise

from pipeline.model.messages import AttemptRange
from pipeline.model.ranges import AttemptCounts

SOME = (AttemptRange(3, 5, 1), AttemptRange(5, 6, 2), AttemptRange(9, 10, 1))


def test_all_that_nobody_told_of_have_failed_never() -> None:
    tries = AttemptCounts()
    assert (len(tries), tries.get(7), tries.end, list(tries.tasks())) == (0, 0, 0, [])
    assert tries.split_by_attempt(2, 9) == [AttemptRange(2, 9, 0)]
    tries.set(0, 1 << 60, 0)  # never tried is what everybody is: this costs nothing
    assert len(tries) == 0


def test_runs_are_cut_where_the_number_changes_and_leave_no_gap() -> None:
    tries = AttemptCounts(SOME)
    assert tries.split_by_attempt(0, 12) == [
        AttemptRange(0, 3, 0), AttemptRange(3, 5, 1), AttemptRange(5, 6, 2), AttemptRange(6, 9, 0), AttemptRange(9,
        10, 1), AttemptRange(10, 12, 0),
    ]  # fmt: skip
    assert tries.split_by_attempt(4, 6) == [AttemptRange(4, 5, 1), AttemptRange(5, 6, 2)]
    assert tries.split_by_attempt(3, 3) == []
    assert (list(tries.tasks()), len(tries), tries.end) == ([3, 4, 5, 9], 4, 10)


def test_tries_are_never_taken_back() -> None:
    tries = AttemptCounts(SOME)
    tries.set(4, 7, 1)
    assert [tries.get(task) for task in range(3, 8)] == [1, 1, 2, 1, 0]
    tries.set(4, 5, 3)
    assert tries.get(4) == 3


def test_who_has_failed_less_often_than_that() -> None:
    tries = AttemptCounts(SOME)
    assert tries.find_below(2, 7, 1) == [(2, 3), (6, 7)]
    assert tries.find_below(2, 7, 2) == [(2, 3), (3, 5), (6, 7)]
    assert tries.find_below(2, 7, 0) == []


def test_among_some_tasks_those_that_have_failed() -> None:
    tries = AttemptCounts(SOME)
    assert tries.select_failed([(0, 4), (5, 100)]) == (
        AttemptRange(3, 4, 1),
        AttemptRange(5, 6, 2),
        AttemptRange(9, 10, 1),
    )
    assert tries.select_failed([(6, 9)]) == AttemptCounts().select_failed([(0, 9)]) == ()


def test_what_is_settled_is_forgotten() -> None:
    tries = AttemptCounts(SOME)
    tries.forget([(0, 4), (5, 8)])
    assert (list(tries.tasks()), tries.get(5), tries.end) == ([4, 9], 0, 10)
    tries.forget([(9, 1 << 60)])
    assert (list(tries.tasks()), tries.end) == ([4], 5)
    tries.clear()
    assert (len(tries), tries.get(4)) == (0, 0)


def test_it_is_a_dict_that_knows_its_order() -> None:
    rng, tries, plain = random.Random(3), AttemptCounts(), dict[int, int]()
    for _ in range(2000):
        low, number = rng.randrange(60), rng.randrange(4)
        high = low + rng.randrange(4)
        if rng.random() < 0.3:
            tries.forget([(low, high)])
            plain = {task: count for task, count in plain.items() if not low <= task < high}
        elif number:
            tries.set(low, high, number)
            plain |= {task: max(number, plain.get(task, 0)) for task in range(low, high)}
        assert list(tries.tasks()) == sorted(plain)
        runs = tries.split_by_attempt(0, 64)
        assert [run.attempt for run in runs for _ in range(run.low, run.high)] == [plain.get(at, 0) for at in range(64)]
        assert all(one.high == other.low for one, other in pairwise(runs))
