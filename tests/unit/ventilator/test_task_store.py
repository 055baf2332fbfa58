"""What can be sent: what came back first, then what was never sent; each record once."""

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
    """Records that say their number: `7` is b"7\\n"."""
    return b"".join(b"%d\n" % task for task in range(first, first + count))


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> RecordRange:
    return RecordRange(first, count, body(first, count), lane, sequence)


def stock_of(*spans: RecordRange, fresh: RecordsRead | None = None) -> TaskStore:
    stock = TaskStore(LINES)
    for each in spans:
        stock.requeue(each)
    if fresh:
        stock.add(fresh)
    return stock


def take(
    stock: TaskStore, most: int, size: int = BIG, fits: Callable[[RecordRange], bool] = lambda _: True
) -> RecordRange | None:
    """What a lane would get next: what came back and fits before what is fresh."""
    back = stock.next_requeued(fits)
    return stock.take_requeued(back, most) if back else stock.take_unsent(most, size)


def rest(stock: TaskStore, most: int = 1000) -> list[RecordRange]:
    """All that is left; it must add up."""
    tasks, size, spans = stock.task_count, stock.size, []
    while (taken := take(stock, most)) is not None:
        spans.append(taken)
    assert (sum(each.count for each in spans), sum(len(each.body) for each in spans)) == (tasks, size)
    assert (stock.task_count, stock.size) == (0, 0)
    return spans


def test_a_span_is_cut_into_the_parts_asked_for() -> None:
    whole = span(8, 5, lane=2, sequence=3)
    assert slice_records(whole, [(8, 13)], LINES) == [whole]
    assert slice_records(whole, ((8, 9), (10, 12)), LINES) == [span(8, 1, 2, 3), span(10, 2, 2, 3)]
    assert slice_records(whole, [(12, 13)], LINES) == [span(12, 1, 2, 3)]
    assert slice_records(whole, [], LINES) == []


def test_records_end_in_nul_when_the_recipe_says_so() -> None:
    assert slice_records(RecordRange(0, 2, b"a\nb\0c\0"), [(1, 2)], RecordFormat(zero=True)) == [
        RecordRange(1, 1, b"c\0")
    ]


def test_fresh_records_are_taken_in_order_at_most_so_many() -> None:
    stock = stock_of(fresh=RecordsRead(0, 12, body(0, 12)))
    assert (stock.task_count, stock.size) == (12, 26)
    assert stock.take_unsent(5, BIG) == span(0, 5)
    assert (stock.task_count, stock.size) == (7, 16)
    assert stock.take_unsent(1, BIG) == span(5, 1)
    assert rest(stock) == [span(6, 6)]


def test_fresh_records_are_taken_about_so_many_bytes_but_one_at_least() -> None:
    assert rest_of_size(8) == [span(0, 4), span(4, 4), span(8, 3), span(11, 1)]
    assert rest_of_size(1) == [span(task, 1) for task in range(12)]


def rest_of_size(size: int) -> list[RecordRange]:
    stock, spans = stock_of(fresh=RecordsRead(0, 12, body(0, 12))), []
    while (taken := stock.take_unsent(1000, size)) is not None:
        spans.append(taken)
    return spans


def test_a_record_larger_than_any_chunk_travels_whole() -> None:
    long = b"x" * 100 + b"\n"
    stock = stock_of(fresh=RecordsRead(4, 2, long + b"y\n"))
    assert stock.take_unsent(10, 5) == RecordRange(4, 1, long)
    assert stock.take_unsent(10, 5) == RecordRange(5, 1, b"y\n")


def test_a_block_is_one_task_whatever_is_in_it() -> None:
    stock = TaskStore(RecordFormat(block=True))
    stock.add(RecordsRead(3, 1, b"a\nb\nc\n"))
    assert stock.take_unsent(10, 1) == RecordRange(3, 1, b"a\nb\nc\n")
    assert stock.take_unsent(10, 1) is None


def test_what_came_back_goes_first_lowest_number_first() -> None:
    stock = stock_of(span(7, 1), span(2, 3), fresh=RecordsRead(9, 1, body(9, 1)))
    assert stock.task_count == 5
    assert rest(stock, most=2) == [span(2, 2), span(4, 1), span(7, 1), span(9, 1)]


def test_what_is_settled_meanwhile_is_not_sent_again() -> None:
    stock = stock_of(span(0, 3), span(5, 5), fresh=RecordsRead(20, 1, body(20, 1)))
    stock.settle(RangeSet(((0, 3), (6, 8))))
    assert rest(stock) == [span(5, 1), span(8, 2), span(20, 1)]


def test_what_somebody_holds_is_handed_over_and_not_sent_again() -> None:
    stock = stock_of(span(0, 3), span(5, 5))
    assert stock.remove_claimed(RangeSet(((1, 2), (4, 6), (8, 30)))) == [span(1, 1), span(5, 1), span(8, 2)]
    assert stock.remove_claimed(RangeSet(((1, 2),))) == []
    assert rest(stock) == [span(0, 1), span(2, 1), span(6, 2)]


def test_what_came_back_is_taken_where_it_fits_and_stays_where_it_does_not() -> None:
    stock = stock_of(span(0, 2), span(5, 3), fresh=RecordsRead(20, 1, body(20, 1)))
    assert take(stock, 2, fits=lambda back: back.first > 0) == span(5, 2)
    assert take(stock, 9, fits=lambda back: back.first > 5) == span(7, 1)
    assert take(stock, 9, fits=lambda _: False) == span(20, 1)
    assert take(stock, 9, fits=lambda _: False) is None
    assert rest(stock) == [span(0, 2)]


def test_a_part_of_what_came_back_leaves_all_that_is_known_of_it_to_the_rest() -> None:
    tried = replace(span(3, 3), attempt=2, due=7.0, avoid_worker="ann")
    stock = stock_of(tried)
    assert take(stock, 1) == replace(span(3, 1), attempt=2, due=7.0, avoid_worker="ann")
    assert rest(stock) == [replace(span(4, 2), attempt=2, due=7.0, avoid_worker="ann")]


def test_what_is_to_be_tried_again_is_taken_out_with_more_tries() -> None:
    stock = stock_of(span(0, 4, lane=1, sequence=2), replace(span(6, 2), attempt=2), span(9, 1))
    assert stock.take_for_retry(AttemptRange(2, 8, 2), 5.0) == [replace(span(2, 2, 1, 2), attempt=2, due=5.0)]
    assert stock.take_for_retry(AttemptRange(2, 8, 2), 6.0) == []
    assert stock.take_for_retry(AttemptRange(7, 8, 3), 6.0) == [replace(span(7, 1), attempt=3, due=6.0)]
    assert rest(stock) == [span(0, 2, 1, 2), replace(span(6, 1), attempt=2), span(9, 1)]


def test_it_knows_when_the_next_of_those_that_wait_is_due() -> None:
    stock = stock_of(span(0, 1))
    assert stock.next_due(0.0) == NEVER
    for task, due in ((3, 9.0), (4, 7.0)):
        stock.requeue(replace(span(task, 1), due=due))
    assert [stock.next_due(now) for now in (0.0, 7.0, 9.0)] == [7.0, 9.0, NEVER]


@pytest.mark.parametrize("most", [1, 3, 64, 65, 500])
def test_no_record_is_lost_however_it_is_taken(most: int) -> None:
    stock = stock_of(fresh=RecordsRead(0, 500, body(0, 500)))
    spans = []
    while (taken := stock.take_unsent(most, 700)) is not None:
        spans.append(taken)
    assert b"".join(each.body for each in spans) == body(0, 500)
    assert [each.first for each in spans] == [0, *(each.end for each in spans[:-1])]
    assert all(each.count == each.body.count(b"\n") <= most for each in spans)
