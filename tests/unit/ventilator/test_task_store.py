"""Unsent and requeued records: each is taken once, requeued ones first."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.model.events import RecordsRead
from pipeline.model.messages import AttemptRange, RecordFormat
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import NEVER
from pipeline.model.structs import replace
from pipeline.ventilator.task_store import RecordRange, TaskStore, slice_records

LINES = RecordFormat()
BIG = 1 << 20


def body(first: int, count: int) -> bytes:
    """Make records that contain their number: task 7 is b"7\\n"."""
    return b"".join(b"%d\n" % task for task in range(first, first + count))


def make_span(first: int, count: int, lane: int = 0, sequence: int = 0) -> RecordRange:
    return RecordRange(first, count, body(first, count), lane, sequence)


def make_store(*spans: RecordRange, unsent: RecordsRead | None = None) -> TaskStore:
    store = TaskStore(LINES)
    for span in spans:
        store.requeue(span)
    if unsent:
        store.add(unsent)
    return store


def take(
    store: TaskStore, max_tasks: int, size: int = BIG, is_eligible: Callable[[RecordRange], bool] = lambda _: True
) -> RecordRange | None:
    """Take the next records of a chunk."""
    requeued = store.next_requeued(is_eligible)
    return store.take_requeued(requeued, max_tasks) if requeued else store.take_unsent(max_tasks, size)


def drain(store: TaskStore, max_tasks: int = 1000) -> list[RecordRange]:
    """Take all records, and check that the counters agree."""
    tasks, size, spans = store.task_count, store.size, []
    while (part := take(store, max_tasks)) is not None:
        spans.append(part)
    assert (sum(span.count for span in spans), sum(len(span.body) for span in spans)) == (tasks, size)
    assert (store.task_count, store.size) == (0, 0)
    return spans


def test_slice_records_returns_requested_parts() -> None:
    records = make_span(8, 5, lane=2, sequence=3)
    assert slice_records(records, [(8, 13)], LINES) == [records]
    assert slice_records(records, ((8, 9), (10, 12)), LINES) == [make_span(8, 1, 2, 3), make_span(10, 2, 2, 3)]
    assert slice_records(records, [(12, 13)], LINES) == [make_span(12, 1, 2, 3)]
    assert slice_records(records, [], LINES) == []


def test_slice_records_with_zero_format_splits_at_nul() -> None:
    assert slice_records(RecordRange(0, 2, b"a\nb\0c\0"), [(1, 2)], RecordFormat(zero=True)) == [
        RecordRange(1, 1, b"c\0")
    ]


def test_take_unsent_keeps_order_and_task_limit() -> None:
    store = make_store(unsent=RecordsRead(0, 12, body(0, 12)))
    assert (store.task_count, store.size) == (12, 26)
    assert store.take_unsent(5, BIG) == make_span(0, 5)
    assert (store.task_count, store.size) == (7, 16)
    assert store.take_unsent(1, BIG) == make_span(5, 1)
    assert drain(store) == [make_span(6, 6)]


def test_take_unsent_keeps_byte_limit_but_takes_one() -> None:
    assert drain_by_size(8) == [make_span(0, 4), make_span(4, 4), make_span(8, 3), make_span(11, 1)]
    assert drain_by_size(1) == [make_span(task, 1) for task in range(12)]


def drain_by_size(size: int) -> list[RecordRange]:
    store, spans = make_store(unsent=RecordsRead(0, 12, body(0, 12))), []
    while (part := store.take_unsent(1000, size)) is not None:
        spans.append(part)
    return spans


def test_take_unsent_keeps_large_record_whole() -> None:
    long_record = b"x" * 100 + b"\n"
    store = make_store(unsent=RecordsRead(4, 2, long_record + b"y\n"))
    assert store.take_unsent(10, 5) == RecordRange(4, 1, long_record)
    assert store.take_unsent(10, 5) == RecordRange(5, 1, b"y\n")


def test_take_unsent_keeps_block_whole() -> None:
    store = TaskStore(RecordFormat(block=True))
    store.add(RecordsRead(3, 1, b"a\nb\nc\n"))
    assert store.take_unsent(10, 1) == RecordRange(3, 1, b"a\nb\nc\n")
    assert store.take_unsent(10, 1) is None


def test_requeued_records_come_first_in_order() -> None:
    store = make_store(make_span(7, 1), make_span(2, 3), unsent=RecordsRead(9, 1, body(9, 1)))
    assert store.task_count == 5
    assert drain(store, max_tasks=2) == [make_span(2, 2), make_span(4, 1), make_span(7, 1), make_span(9, 1)]


def test_settled_records_are_not_requeued() -> None:
    store = make_store(make_span(0, 3), make_span(5, 5), unsent=RecordsRead(20, 1, body(20, 1)))
    store.settle(RangeSet(((0, 3), (6, 8))))
    assert drain(store) == [make_span(5, 1), make_span(8, 2), make_span(20, 1)]


def test_remove_claimed_returns_claimed_records() -> None:
    store = make_store(make_span(0, 3), make_span(5, 5))
    assert store.remove_claimed(RangeSet(((1, 2), (4, 6), (8, 30)))) == [
        make_span(1, 1),
        make_span(5, 1),
        make_span(8, 2),
    ]
    assert store.remove_claimed(RangeSet(((1, 2),))) == []
    assert drain(store) == [make_span(0, 1), make_span(2, 1), make_span(6, 2)]


def test_take_requeued_skips_ineligible_records() -> None:
    store = make_store(make_span(0, 2), make_span(5, 3), unsent=RecordsRead(20, 1, body(20, 1)))
    assert take(store, 2, is_eligible=lambda requeued: requeued.first > 0) == make_span(5, 2)
    assert take(store, 9, is_eligible=lambda requeued: requeued.first > 5) == make_span(7, 1)
    assert take(store, 9, is_eligible=lambda _: False) == make_span(20, 1)
    assert take(store, 9, is_eligible=lambda _: False) is None
    assert drain(store) == [make_span(0, 2)]


def test_take_requeued_part_keeps_fields_of_the_rest() -> None:
    failed = replace(make_span(3, 3), attempt=2, due=7.0, avoid_worker="ann")
    store = make_store(failed)
    assert take(store, 1) == replace(make_span(3, 1), attempt=2, due=7.0, avoid_worker="ann")
    assert drain(store) == [replace(make_span(4, 2), attempt=2, due=7.0, avoid_worker="ann")]


def test_take_for_retry_returns_later_attempt() -> None:
    store = make_store(make_span(0, 4, lane=1, sequence=2), replace(make_span(6, 2), attempt=2), make_span(9, 1))
    assert store.take_for_retry(AttemptRange(2, 8, 2), 5.0) == [replace(make_span(2, 2, 1, 2), attempt=2, due=5.0)]
    assert store.take_for_retry(AttemptRange(2, 8, 2), 6.0) == []
    assert store.take_for_retry(AttemptRange(7, 8, 3), 6.0) == [replace(make_span(7, 1), attempt=3, due=6.0)]
    assert drain(store) == [make_span(0, 2, 1, 2), replace(make_span(6, 1), attempt=2), make_span(9, 1)]


def test_next_due_is_earliest_delay() -> None:
    store = make_store(make_span(0, 1))
    assert store.next_due(0.0) == NEVER
    for task, due in ((3, 9.0), (4, 7.0)):
        store.requeue(replace(make_span(task, 1), due=due))
    assert [store.next_due(now) for now in (0.0, 7.0, 9.0)] == [7.0, 9.0, NEVER]


@pytest.mark.parametrize("max_tasks", [1, 3, 64, 65, 500])
def test_take_unsent_loses_no_record(max_tasks: int) -> None:
    store = make_store(unsent=RecordsRead(0, 500, body(0, 500)))
    spans = []
    while (part := store.take_unsent(max_tasks, 700)) is not None:
        spans.append(part)
    assert b"".join(span.body for span in spans) == body(0, 500)
    assert [span.first for span in spans] == [0, *(span.end for span in spans[:-1])]
    assert all(span.count == span.body.count(b"\n") <= max_tasks for span in spans)
