"""How often tasks have failed: only those that have, and never less often than before."""

from __future__ import annotations

import random
from itertools import pairwise

from pipeline.words.parts import Tried
from pipeline.words.tries import Tries

SOME = (Tried(3, 5, 1), Tried(5, 6, 2), Tried(9, 10, 1))


def test_all_that_nobody_told_of_have_failed_never() -> None:
    tries = Tries()
    assert (len(tries), tries.of(7), tries.end, list(tries.tasks())) == (0, 0, 0, [])
    assert tries.runs(2, 9) == [Tried(2, 9, 0)]
    tries.set(0, 1 << 60, 0)  # never tried is what everybody is: this costs nothing
    assert len(tries) == 0


def test_runs_are_cut_where_the_number_changes_and_leave_no_gap() -> None:
    tries = Tries(SOME)
    assert tries.runs(0, 12) == [
        Tried(0, 3, 0), Tried(3, 5, 1), Tried(5, 6, 2), Tried(6, 9, 0), Tried(9, 10, 1), Tried(10, 12, 0),
    ]  # fmt: skip
    assert tries.runs(4, 6) == [Tried(4, 5, 1), Tried(5, 6, 2)]
    assert tries.runs(3, 3) == []
    assert (list(tries.tasks()), len(tries), tries.end) == ([3, 4, 5, 9], 4, 10)


def test_tries_are_never_taken_back() -> None:
    tries = Tries(SOME)
    tries.set(4, 7, 1)
    assert [tries.of(task) for task in range(3, 8)] == [1, 1, 2, 1, 0]
    tries.set(4, 5, 3)
    assert tries.of(4) == 3


def test_who_has_failed_less_often_than_that() -> None:
    tries = Tries(SOME)
    assert tries.fewer(2, 7, 1) == [(2, 3), (6, 7)]
    assert tries.fewer(2, 7, 2) == [(2, 3), (3, 5), (6, 7)]
    assert tries.fewer(2, 7, 0) == []


def test_among_some_tasks_those_that_have_failed() -> None:
    tries = Tries(SOME)
    assert tries.among([(0, 4), (5, 100)]) == (Tried(3, 4, 1), Tried(5, 6, 2), Tried(9, 10, 1))
    assert tries.among([(6, 9)]) == Tries().among([(0, 9)]) == ()


def test_what_is_settled_is_forgotten() -> None:
    tries = Tries(SOME)
    tries.forget([(0, 4), (5, 8)])
    assert (list(tries.tasks()), tries.of(5), tries.end) == ([4, 9], 0, 10)
    tries.forget([(9, 1 << 60)])
    assert (list(tries.tasks()), tries.end) == ([4], 5)
    tries.clear()
    assert (len(tries), tries.of(4)) == (0, 0)


def test_it_is_a_dict_that_knows_its_order() -> None:
    rng, tries, plain = random.Random(3), Tries(), dict[int, int]()
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
        runs = tries.runs(0, 64)
        assert [run.tries for run in runs for _ in range(run.low, run.high)] == [plain.get(at, 0) for at in range(64)]
        assert all(one.high == other.low for one, other in pairwise(runs))
