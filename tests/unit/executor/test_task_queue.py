"""TaskQueue."""

from __future__ import annotations

import random

import pytest

from pipeline.executor.task_queue import TaskQueue, TaskSlice
from pipeline.model.messages import RecordFormat
from pipeline.model.records import count, list_records


def make_queue(*chunks: tuple[int, bytes], record_format: RecordFormat | None = None) -> TaskQueue:
    queue = TaskQueue()
    queue.record_format = record_format or RecordFormat()
    for first, body in chunks:
        queue.add(first, count(body, queue.record_format), body)
    return queue


def drain(queue: TaskQueue, max_count: int = 1, size: int = 1 << 20) -> dict[int, bytes]:
    records_seen: dict[int, bytes] = {}
    while (tasks := queue.take(max_count, size)) is not None:
        for number, record in enumerate(list_records(tasks.body, queue.record_format), tasks.first):
            assert number not in records_seen
            records_seen[number] = record
    assert queue.task_count == 0
    return records_seen


def test_task_queue_empty_take_returns_none() -> None:
    queue = TaskQueue()
    assert queue.take(1, 1) is None
    assert queue.task_count == 0
    assert queue.clear() == ()


def test_task_queue_take_respects_max_count() -> None:
    queue = make_queue((5, b"a\nbb\nccc\n"))
    assert queue.take(2, 100) == TaskSlice(5, 2, b"a\nbb\n")
    assert queue.task_count == 1
    assert queue.take(2, 100) == TaskSlice(7, 1, b"ccc\n")
    assert queue.take(2, 100) is None


@pytest.mark.parametrize(("size", "expected"), [(0, b"aa\n"), (3, b"aa\n"), (6, b"aa\nbb\n"), (8, b"aa\nbb\n")])
def test_task_queue_take_respects_max_bytes_beyond_first(size: int, expected: bytes) -> None:
    queue = make_queue((0, b"aa\nbb\ncc\n"))
    assert queue.take(9, size) == TaskSlice(0, len(expected) // 3, expected)


def test_task_queue_take_joins_neighbours() -> None:
    queue = make_queue((0, b"a\n"), (1, b"b\n"), (2, b"c\nd\n"), (9, b"z\n"))
    assert queue.take(3, 100) == TaskSlice(0, 3, b"a\nb\nc\n")
    assert queue.take(3, 100) == TaskSlice(3, 1, b"d\n")
    assert queue.take(3, 100) == TaskSlice(9, 1, b"z\n")


def test_task_queue_take_stops_joining_at_max_bytes() -> None:
    queue = make_queue((0, b"a\n"), (1, b"long record\n"))
    assert queue.take(9, 5) == TaskSlice(0, 1, b"a\n")
    assert queue.take(9, 5) == TaskSlice(1, 1, b"long record\n")


def test_task_queue_take_never_joins_or_cuts_blocks() -> None:
    queue = make_queue((0, b"a\nb"), (1, b"c\n\nd"), record_format=RecordFormat(block=True))
    assert queue.take(9, 1) == TaskSlice(0, 1, b"a\nb")
    assert queue.take(9, 100) == TaskSlice(1, 1, b"c\n\nd")


def test_task_queue_requeue_puts_tasks_first() -> None:
    queue = make_queue((0, b"a\0b\0"), record_format=RecordFormat(zero=True))
    tasks = queue.take(1, 10)
    assert tasks == TaskSlice(0, 1, b"a\0")
    queue.requeue(TaskSlice(0, 1, b"a\0"))
    assert queue.task_count == 2
    assert queue.take(5, 10) == TaskSlice(0, 2, b"a\0b\0")


def test_task_queue_discard_removes_tasks() -> None:
    body = b"".join(b"%d\n" % number for number in range(10, 20))
    queue = make_queue((10, body), (20, b"20\n21\n"))
    queue.take(1, 10)
    queue.discard(((0, 5), (9, 12), (14, 15), (18, 21), (40, 50)))
    assert queue.task_count == 6
    assert drain(queue) == {n: b"%d" % n for n in (12, 13, 15, 16, 17, 21)}


def test_task_queue_clear_returns_waiting_tasks() -> None:
    queue = make_queue((10, b"a\nb\n"), (3, b"c\nd\n"), (12, b"e\n"))
    queue.take(1, 10)
    assert queue.clear() == ((3, 5), (11, 13))
    assert queue.take(1, 1) is None


@pytest.mark.parametrize("seed", range(20))
def test_task_queue_random_use_returns_each_task_once(seed: int) -> None:
    rng = random.Random(seed)
    records = [b"%d" % number * rng.randrange(1, 9) for number in range(3000)]
    queue, at = TaskQueue(), 0
    while at < len(records):
        size = rng.choice((1, 1, 2, 50, 700))
        part = records[at : at + size]
        queue.add(at, len(part), b"".join(record + b"\n" for record in part))
        at += len(part)
    discarded = sorted({rng.randrange(3000) for _ in range(rng.randrange(9))})
    records_seen: dict[int, bytes] = {}
    queue.discard(tuple((number, number + 1) for number in discarded))
    while (tasks := queue.take(rng.choice((1, 3, 64, 500)), rng.choice((1, 40, 5000)))) is not None:
        assert count(tasks.body, queue.record_format) == tasks.count
        if rng.random() < 0.1:
            queue.requeue(TaskSlice(tasks.first, tasks.count, tasks.body))
            continue
        records_seen |= dict(enumerate(list_records(tasks.body, queue.record_format), tasks.first))
    assert list(records_seen) == [number for number in range(3000) if number not in set(discarded)]
    assert all(records_seen[number] == records[number] for number in records_seen)


def test_task_queue_takes_small_slices_of_a_large_body() -> None:
    body = b"x" * 30 + b"\n"
    assert len(drain(make_queue((0, body * 17_000)))) == 17_000
