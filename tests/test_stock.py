"""What can be sent: what came back first, then what was never sent; each record once."""

from __future__ import annotations

import pytest

from pipeline.errands import Records
from pipeline.messages import Recipe
from pipeline.ranges import RangeSet
from pipeline.stock import Span, Stock, cut

LINES = Recipe()
BIG = 1 << 20


def body(first: int, count: int) -> bytes:
    """Records that say their number: `7` is b"7\\n"."""
    return b"".join(b"%d\n" % task for task in range(first, first + count))


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> Span:
    return Span(first, count, body(first, count), lane, sequence)


def stock_of(*spans: Span, fresh: Records | None = None) -> Stock:
    stock = Stock(LINES)
    for each in spans:
        stock.put_back(each)
    if fresh:
        stock.add(fresh)
    return stock


def rest(stock: Stock, most: int = 1000) -> list[Span]:
    """All that is left; it must add up."""
    tasks, size, spans = stock.tasks, stock.size, []
    while (taken := stock.take(most, BIG, fresh=True)) is not None:
        spans.append(taken)
    assert (sum(each.count for each in spans), sum(len(each.body) for each in spans)) == (tasks, size)
    assert (stock.tasks, stock.size, stock.has_fresh) == (0, 0, False)
    return spans


def test_a_span_is_cut_into_the_parts_asked_for() -> None:
    whole = span(8, 5, lane=2, sequence=3)
    assert cut(whole, [(8, 13)], LINES) == [whole]
    assert cut(whole, ((8, 9), (10, 12)), LINES) == [span(8, 1, 2, 3), span(10, 2, 2, 3)]
    assert cut(whole, [(12, 13)], LINES) == [span(12, 1, 2, 3)]
    assert cut(whole, [], LINES) == []


def test_records_end_in_nul_when_the_recipe_says_so() -> None:
    assert cut(Span(0, 2, b"a\nb\0c\0"), [(1, 2)], Recipe(zero=True)) == [Span(1, 1, b"c\0")]


def test_fresh_records_are_taken_in_order_at_most_so_many() -> None:
    stock = stock_of(fresh=Records(0, 12, body(0, 12)))
    assert (stock.tasks, stock.size, stock.has_fresh) == (12, 26, True)
    assert stock.take(5, BIG, fresh=True) == span(0, 5)
    assert (stock.tasks, stock.size) == (7, 16)
    assert stock.take(1, BIG, fresh=True) == span(5, 1)
    assert rest(stock) == [span(6, 6)]


def test_fresh_records_are_taken_about_so_many_bytes_but_one_at_least() -> None:
    assert rest_of_size(8) == [span(0, 4), span(4, 4), span(8, 3), span(11, 1)]
    assert rest_of_size(1) == [span(task, 1) for task in range(12)]


def rest_of_size(size: int) -> list[Span]:
    stock, spans = stock_of(fresh=Records(0, 12, body(0, 12))), []
    while (taken := stock.take(1000, size, fresh=True)) is not None:
        spans.append(taken)
    return spans


def test_a_record_larger_than_any_chunk_travels_whole() -> None:
    long = b"x" * 100 + b"\n"
    stock = stock_of(fresh=Records(4, 2, long + b"y\n"))
    assert stock.take(10, 5, fresh=True) == Span(4, 1, long)
    assert stock.take(10, 5, fresh=True) == Span(5, 1, b"y\n")


def test_a_block_is_one_task_whatever_is_in_it() -> None:
    stock = Stock(Recipe(block=True))
    stock.add(Records(3, 1, b"a\nb\nc\n"))
    assert stock.take(10, 1, fresh=True) == Span(3, 1, b"a\nb\nc\n")
    assert stock.take(10, 1, fresh=True) is None


def test_what_came_back_goes_first_lowest_number_first() -> None:
    stock = stock_of(span(7, 1), span(2, 3), fresh=Records(9, 1, body(9, 1)))
    assert stock.tasks == 5
    assert rest(stock, most=2) == [span(2, 2), span(4, 1), span(7, 1), span(9, 1)]


def test_nothing_fresh_while_nothing_fresh_is_wanted() -> None:
    stock = stock_of(span(0, 1), fresh=Records(9, 1, body(9, 1)))
    assert stock.take(9, BIG, fresh=False) == span(0, 1)
    assert stock.take(9, BIG, fresh=False) is None
    assert stock.has_fresh


def test_what_is_settled_meanwhile_is_not_sent_again() -> None:
    stock = stock_of(span(0, 3), span(5, 5), fresh=Records(20, 1, body(20, 1)))
    stock.settle(RangeSet(((0, 3), (6, 8))))
    assert rest(stock) == [span(5, 1), span(8, 2), span(20, 1)]


def test_what_somebody_holds_is_handed_over_and_not_sent_again() -> None:
    stock = stock_of(span(0, 3), span(5, 5))
    assert stock.adopt(RangeSet(((1, 2), (4, 6), (8, 30)))) == [span(1, 1), span(5, 1), span(8, 2)]
    assert stock.adopt(RangeSet(((1, 2),))) == []
    assert rest(stock) == [span(0, 1), span(2, 1), span(6, 2)]


@pytest.mark.parametrize("most", [1, 3, 64, 65, 500])
def test_no_record_is_lost_however_it_is_taken(most: int) -> None:
    stock = stock_of(fresh=Records(0, 500, body(0, 500)))
    spans = []
    while (taken := stock.take(most, 700, fresh=True)) is not None:
        spans.append(taken)
    assert b"".join(each.body for each in spans) == body(0, 500)
    assert [each.first for each in spans] == [0, *(each.end for each in spans[:-1])]
    assert all(each.count == each.body.count(b"\n") <= most for each in spans)
