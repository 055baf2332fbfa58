"""The backlog: every record leaves once, in order, in bites of the asked size."""

from __future__ import annotations

import random

import pytest

from pipeline.executor.task_queue import TaskQueue, TaskSlice
from pipeline.model.messages import RecordFormat
from pipeline.model.records import count, list_records


def backlog(*chunks: tuple[int, bytes], recipe: RecordFormat | None = None) -> TaskQueue:
    made = TaskQueue()
    made.record_format = recipe or RecordFormat()
    for first, body in chunks:
        made.add(first, count(body, made.record_format), body)
    return made


def drained(waiting: TaskQueue, most: int = 1, size: int = 1 << 20) -> dict[int, bytes]:
    seen: dict[int, bytes] = {}
    while (taken := waiting.take(most, size)) is not None:
        for number, record in enumerate(list_records(taken.body, waiting.record_format), taken.first):
            assert number not in seen
            seen[number] = record
    assert waiting.task_count == 0
    return seen


def test_empty_backlog_has_nothing() -> None:
    waiting = TaskQueue()
    assert waiting.take(1, 1) is None
    assert waiting.task_count == 0
    assert waiting.clear() == ()


def test_takes_at_most_so_many_records() -> None:
    waiting = backlog((5, b"a\nbb\nccc\n"))
    assert waiting.take(2, 100) == TaskSlice(5, 2, b"a\nbb\n")
    assert waiting.task_count == 1
    assert waiting.take(2, 100) == TaskSlice(7, 1, b"ccc\n")
    assert waiting.take(2, 100) is None


@pytest.mark.parametrize(("size", "expected"), [(0, b"aa\n"), (3, b"aa\n"), (6, b"aa\nbb\n"), (8, b"aa\nbb\n")])
def test_size_bounds_a_bite_but_one_record_always_goes(size: int, expected: bytes) -> None:
    waiting = backlog((0, b"aa\nbb\ncc\n"))
    assert waiting.take(9, size) == TaskSlice(0, len(expected) // 3, expected)


def test_neighbours_are_joined_as_far_as_they_fit() -> None:
    waiting = backlog((0, b"a\n"), (1, b"b\n"), (2, b"c\nd\n"), (9, b"z\n"))
    assert waiting.take(3, 100) == TaskSlice(0, 3, b"a\nb\nc\n")
    assert waiting.take(3, 100) == TaskSlice(3, 1, b"d\n")
    assert waiting.take(3, 100) == TaskSlice(9, 1, b"z\n")


def test_joining_stops_at_the_size() -> None:
    waiting = backlog((0, b"a\n"), (1, b"long record\n"))
    assert waiting.take(9, 5) == TaskSlice(0, 1, b"a\n")
    assert waiting.take(9, 5) == TaskSlice(1, 1, b"long record\n")


def test_blocks_stand_alone_and_are_never_cut() -> None:
    waiting = backlog((0, b"a\nb"), (1, b"c\n\nd"), recipe=RecordFormat(block=True))
    assert waiting.take(9, 1) == TaskSlice(0, 1, b"a\nb")
    assert waiting.take(9, 100) == TaskSlice(1, 1, b"c\n\nd")


def test_what_is_put_back_is_next() -> None:
    waiting = backlog((0, b"a\0b\0"), recipe=RecordFormat(zero=True))
    taken = waiting.take(1, 10)
    assert taken == TaskSlice(0, 1, b"a\0")
    waiting.requeue(TaskSlice(0, 1, b"a\0"))
    assert waiting.task_count == 2
    assert waiting.take(5, 10) == TaskSlice(0, 2, b"a\0b\0")


def test_dropped_tasks_never_leave() -> None:
    body = b"".join(b"%d\n" % number for number in range(10, 20))
    waiting = backlog((10, body), (20, b"20\n21\n"))
    waiting.take(1, 10)
    waiting.discard(((0, 5), (9, 12), (14, 15), (18, 21), (40, 50)))
    assert waiting.task_count == 6
    assert drained(waiting) == {n: b"%d" % n for n in (12, 13, 15, 16, 17, 21)}


def test_release_says_all_that_waited() -> None:
    waiting = backlog((10, b"a\nb\n"), (3, b"c\nd\n"), (12, b"e\n"))
    waiting.take(1, 10)
    assert waiting.clear() == ((3, 5), (11, 13))
    assert waiting.take(1, 1) is None


@pytest.mark.parametrize("seed", range(20))
def test_every_task_leaves_exactly_once(seed: int) -> None:
    rng = random.Random(seed)
    records = [b"%d" % number * rng.randrange(1, 9) for number in range(3000)]
    waiting, at = TaskQueue(), 0
    while at < len(records):
        size = rng.choice((1, 1, 2, 50, 700))
        part = records[at : at + size]
        waiting.add(at, len(part), b"".join(record + b"\n" for record in part))
        at += len(part)
    gone = sorted({rng.randrange(3000) for _ in range(rng.randrange(9))})
    seen: dict[int, bytes] = {}
    waiting.discard(tuple((number, number + 1) for number in gone))
    while (taken := waiting.take(rng.choice((1, 3, 64, 500)), rng.choice((1, 40, 5000)))) is not None:
        assert count(taken.body, waiting.record_format) == taken.count
        if rng.random() < 0.1:
            waiting.requeue(TaskSlice(taken.first, taken.count, taken.body))
            continue
        seen |= dict(enumerate(list_records(taken.body, waiting.record_format), taken.first))
    assert list(seen) == [number for number in range(3000) if number not in set(gone)]
    assert all(seen[number] == records[number] for number in seen)


def test_small_bites_from_a_large_body() -> None:
    body = b"x" * 30 + b"\n"
    assert len(drained(backlog((0, body * 17_000)))) == 17_000
