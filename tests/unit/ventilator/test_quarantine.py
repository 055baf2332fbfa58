"""Suspects alone: who is drained for them, who gets them, and who is convicted."""

from __future__ import annotations

from pipeline.model.messages import Heartbeat, RecordFormat
from pipeline.model.ranges import RangeSet
from pipeline.ventilator.dispatcher import SuspectIsolation
from pipeline.ventilator.lane import LaneTable, WorkerLane
from pipeline.ventilator.poison import LocalFailures
from pipeline.ventilator.task_store import RecordRange, TaskStore

LIMIT = 2


def scene(*workers: str) -> tuple[SuspectIsolation, TaskStore, LaneTable, LocalFailures]:
    """Task 7 was lost with three workers; these are there now, with room for two chunks each."""
    stock, judged = TaskStore(RecordFormat()), LocalFailures()
    lanes = LaneTable(stock)
    for lost in ("x", "y", "z"):
        lanes.suspects.on_worker_lost(lost, RangeSet([(7, 8)]), is_isolated=False)
    for number, worker in enumerate(workers, start=1):
        lane = WorkerLane(number, Heartbeat(worker, 1, "r", "d", "wc", 1, number, 0, 2, (), (), 0, 0.0, 0), b"", 0.0)
        lane.credit_limit, lane.endpoint = 2, "ipc://here"
        lanes.add(lane)
    stock.requeue(RecordRange(6, 3, b"6\n7\n8\n"))
    return SuspectIsolation(stock, judged, LIMIT), stock, lanes, judged


def test_nobody_is_drained_while_nobody_is_suspect() -> None:
    stock = TaskStore(RecordFormat())
    stock.requeue(RecordRange(6, 1, b"6\n"))
    assert SuspectIsolation(stock, LocalFailures(), LIMIT).select_isolated(LaneTable(stock), 0.0) is None


def test_a_suspect_goes_to_a_worker_that_has_nothing_else_and_one_at_a_time() -> None:
    quarantine, stock, lanes, _ = scene("ann", "bob")
    stock.take_requeued(stock.next_requeued(lambda _: True) or RecordRange(0, 0, b""), 1)
    ann, bob = lanes
    ann.hold(RecordRange(1, 1, b"1\n"))
    assert quarantine.select_isolated(lanes, 0.0) == (bob, RecordRange(7, 1, b"7\n"))
    bob.hold(RecordRange(7, 1, b"7\n"))
    assert (bob.isolation, bob.free_credit(), ann.free_credit()) == ("alone", 0, 2)
    lanes.suspects.on_worker_lost("z", RangeSet([(8, 9)]), is_isolated=False)
    for lost in ("v", "w"):
        lanes.suspects.on_worker_lost(lost, RangeSet([(8, 9)]), is_isolated=False)
    assert quarantine.select_isolated(lanes, 0.0) is None  # 8 waits until 7 has ended
    bob.settle(RangeSet([(7, 8)]), RecordFormat())
    assert quarantine.select_isolated(lanes, 0.0) == (bob, RecordRange(8, 1, b"8\n"))


def test_who_has_the_least_is_drained_and_gets_nothing_more_until_then() -> None:
    quarantine, stock, lanes, _ = scene("ann", "bob")
    stock.take_requeued(stock.next_requeued(lambda _: True) or RecordRange(0, 0, b""), 1)
    ann, bob = lanes
    for lane, tasks in ((ann, (1, 2)), (bob, (3,))):
        for task in tasks:
            lane.hold(RecordRange(task, 1, b"%d\n" % task))
    assert quarantine.select_isolated(lanes, 0.0) is None
    assert (bob.isolation, bob.free_credit(), ann.free_credit()) == ("draining", 0, 2)
    bob.settle(RangeSet([(3, 4)]), RecordFormat())
    assert quarantine.select_isolated(lanes, 0.0) == (bob, RecordRange(7, 1, b"7\n"))


def test_who_waits_for_a_suspect_that_nobody_suspects_any_more_works_on() -> None:
    quarantine, stock, lanes, _ = scene("ann")
    (ann,) = lanes
    ann.hold(RecordRange(1, 1, b"1\n"))
    stock.take_requeued(stock.next_requeued(lambda _: True) or RecordRange(0, 0, b""), 1)
    assert quarantine.select_isolated(lanes, 0.0) is None
    assert (ann.isolation, ann.free_credit()) == ("draining", 0)
    lanes.settle(RangeSet([(7, 8)]))
    assert len(lanes.suspects) == 0
    assert quarantine.select_isolated(lanes, 0.1) is None
    assert ann.free_credit() == 2


def test_the_guilty_is_judged_and_its_neighbours_go_on() -> None:
    quarantine, stock, lanes, judged = scene("ann")
    for lost in ("v", "w"):
        lanes.suspects.on_worker_lost(lost, RangeSet([(7, 8)]), is_isolated=True)
    assert quarantine.select_isolated(lanes, 0.0) is None
    assert 7 in judged
    assert stock.next_requeued(lambda span: span.first == 6) == RecordRange(6, 1, b"6\n")
    assert stock.next_requeued(lambda span: span.first == 8) == RecordRange(8, 1, b"8\n")
    assert stock.next_requeued(lambda span: span.first <= 7 < span.end) is None
