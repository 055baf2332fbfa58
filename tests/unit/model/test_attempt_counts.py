"""Attempt numbers of failed tasks."""

from __future__ import annotations

import random
from itertools import pairwise

from pipeline.model.messages import AttemptRange
from pipeline.model.ranges import AttemptCounts

SOME = (AttemptRange(3, 5, 1), AttemptRange(5, 6, 2), AttemptRange(9, 10, 1))


def test_get_unknown_task_returns_zero() -> None:
    tries = AttemptCounts()
    assert (len(tries), tries.get(7), tries.end, list(tries.tasks())) == (0, 0, 0, [])
    assert tries.split_by_attempt(2, 9) == [AttemptRange(2, 9, 0)]
    tries.set(0, 1 << 60, 0)  # zero is the default, so this stores nothing
    assert len(tries) == 0


def test_split_by_attempt_covers_range_without_gaps() -> None:
    tries = AttemptCounts(SOME)
    assert tries.split_by_attempt(0, 12) == [
        AttemptRange(0, 3, 0), AttemptRange(3, 5, 1), AttemptRange(5, 6, 2), AttemptRange(6, 9, 0), AttemptRange(9,
        10, 1), AttemptRange(10, 12, 0),
    ]  # fmt: skip
    assert tries.split_by_attempt(4, 6) == [AttemptRange(4, 5, 1), AttemptRange(5, 6, 2)]
    assert tries.split_by_attempt(3, 3) == []
    assert (list(tries.tasks()), len(tries), tries.end) == ([3, 4, 5, 9], 4, 10)


def test_set_never_lowers_attempt() -> None:
    tries = AttemptCounts(SOME)
    tries.set(4, 7, 1)
    assert [tries.get(task) for task in range(3, 8)] == [1, 1, 2, 1, 0]
    tries.set(4, 5, 3)
    assert tries.get(4) == 3


def test_find_below_returns_ranges_with_fewer_failures() -> None:
    tries = AttemptCounts(SOME)
    assert tries.find_below(2, 7, 1) == [(2, 3), (6, 7)]
    assert tries.find_below(2, 7, 2) == [(2, 3), (3, 5), (6, 7)]
    assert tries.find_below(2, 7, 0) == []


def test_select_failed_returns_failed_of_given_ranges() -> None:
    tries = AttemptCounts(SOME)
    assert tries.select_failed([(0, 4), (5, 100)]) == (
        AttemptRange(3, 4, 1),
        AttemptRange(5, 6, 2),
        AttemptRange(9, 10, 1),
    )
    assert tries.select_failed([(6, 9)]) == AttemptCounts().select_failed([(0, 9)]) == ()


def test_forget_removes_settled_tasks() -> None:
    tries = AttemptCounts(SOME)
    tries.forget([(0, 4), (5, 8)])
    assert (list(tries.tasks()), tries.get(5), tries.end) == ([4, 9], 0, 10)
    tries.forget([(9, 1 << 60)])
    assert (list(tries.tasks()), tries.end) == ([4], 5)
    tries.clear()
    assert (len(tries), tries.get(4)) == (0, 0)


def test_attempt_counts_agree_with_sorted_dict() -> None:
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
