"""Suspects alone: who is drained for them, who gets them, and who is convicted."""

from __future__ import annotations

from pipeline.ventilator.judged import Judged
from pipeline.ventilator.lanes import Lane, Lanes
from pipeline.ventilator.quarantine import Quarantine
from pipeline.ventilator.stock import Span, Stock
from pipeline.words.messages import Pulse
from pipeline.words.parts import Recipe
from pipeline.words.ranges import RangeSet

LIMIT = 2


def scene(*workers: str) -> tuple[Quarantine, Stock, Lanes, Judged]:
    """Task 7 was lost with three workers; these are there now, with room for two chunks each."""
    stock, judged = Stock(Recipe()), Judged()
    lanes = Lanes(stock)
    for lost in ("x", "y", "z"):
        lanes.suspects.lost(lost, RangeSet([(7, 8)]), alone=False)
    for number, worker in enumerate(workers, start=1):
        lane = Lane(number, Pulse(worker, 1, "r", "d", "wc", 1, number, 0, 2, (), (), 0, 0.0, 0), b"", 0.0)
        lane.allowed, lane.at = 2, "ipc://here"
        lanes.add(lane)
    stock.put_back(Span(6, 3, b"6\n7\n8\n"))
    return Quarantine(stock, judged, LIMIT), stock, lanes, judged


def test_nobody_is_drained_while_nobody_is_suspect() -> None:
    stock = Stock(Recipe())
    stock.put_back(Span(6, 1, b"6\n"))
    assert Quarantine(stock, Judged(), LIMIT).next(Lanes(stock), 0.0) is None


def test_a_suspect_goes_to_a_worker_that_has_nothing_else_and_one_at_a_time() -> None:
    quarantine, stock, lanes, _ = scene("ann", "bob")
    stock.take_back(stock.next_back(lambda _: True) or Span(0, 0, b""), 1)
    ann, bob = lanes
    ann.hold(Span(1, 1, b"1\n"))
    assert quarantine.next(lanes, 0.0) == (bob, Span(7, 1, b"7\n"))
    bob.hold(Span(7, 1, b"7\n"))
    assert (bob.solo, bob.room(), ann.room()) == ("alone", 0, 2)
    lanes.suspects.lost("z", RangeSet([(8, 9)]), alone=False)
    for lost in ("v", "w"):
        lanes.suspects.lost(lost, RangeSet([(8, 9)]), alone=False)
    assert quarantine.next(lanes, 0.0) is None  # 8 waits until 7 has ended
    bob.settle(RangeSet([(7, 8)]), Recipe())
    assert quarantine.next(lanes, 0.0) == (bob, Span(8, 1, b"8\n"))


def test_who_has_the_least_is_drained_and_gets_nothing_more_until_then() -> None:
    quarantine, stock, lanes, _ = scene("ann", "bob")
    stock.take_back(stock.next_back(lambda _: True) or Span(0, 0, b""), 1)
    ann, bob = lanes
    for lane, tasks in ((ann, (1, 2)), (bob, (3,))):
        for task in tasks:
            lane.hold(Span(task, 1, b"%d\n" % task))
    assert quarantine.next(lanes, 0.0) is None
    assert (bob.solo, bob.room(), ann.room()) == ("draining", 0, 2)
    bob.settle(RangeSet([(3, 4)]), Recipe())
    assert quarantine.next(lanes, 0.0) == (bob, Span(7, 1, b"7\n"))


def test_who_waits_for_a_suspect_that_nobody_suspects_any_more_works_on() -> None:
    quarantine, stock, lanes, _ = scene("ann")
    (ann,) = lanes
    ann.hold(Span(1, 1, b"1\n"))
    stock.take_back(stock.next_back(lambda _: True) or Span(0, 0, b""), 1)
    assert quarantine.next(lanes, 0.0) is None
    assert (ann.solo, ann.room()) == ("draining", 0)
    lanes.settle(RangeSet([(7, 8)]))
    assert len(lanes.suspects) == 0
    assert quarantine.next(lanes, 0.1) is None
    assert ann.room() == 2


def test_the_guilty_is_judged_and_its_neighbours_go_on() -> None:
    quarantine, stock, lanes, judged = scene("ann")
    for lost in ("v", "w"):
        lanes.suspects.lost(lost, RangeSet([(7, 8)]), alone=True)
    assert quarantine.next(lanes, 0.0) is None
    assert 7 in judged
    assert stock.next_back(lambda span: span.first == 6) == Span(6, 1, b"6\n")
    assert stock.next_back(lambda span: span.first == 8) == Span(8, 1, b"8\n")
    assert stock.next_back(lambda span: span.first <= 7 < span.end) is None
