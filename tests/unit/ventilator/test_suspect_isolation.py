"""Suspects that run alone on a drained worker."""

from __future__ import annotations

from pipeline.model.messages import Heartbeat, RecordFormat, Result
from pipeline.model.ranges import RangeSet
from pipeline.ventilator.dispatcher import SuspectIsolation
from pipeline.ventilator.lane import LaneTable, WorkerLane
from pipeline.ventilator.poison import LocalFailures
from pipeline.ventilator.task_store import RecordRange, TaskStore

CRASH_LIMIT = 2


def make_isolation(*workers: str) -> tuple[SuspectIsolation, TaskStore, LaneTable, LocalFailures]:
    """Make a scene where task 7 was lost with three workers; the given ones have credit for two chunks each."""
    store, failures = TaskStore(RecordFormat()), LocalFailures()
    lanes = LaneTable(store)
    for lost_worker in ("x", "y", "z"):
        lanes.suspects.on_worker_lost(lost_worker, RangeSet([(7, 8)]), is_isolated=False)
    for number, worker in enumerate(workers, start=1):
        lane = WorkerLane(number, Heartbeat(worker, 1, "r", "d", "wc", 1, number, 0, 2, (), (), 0, 0.0, 0), b"", 0.0)
        lane.credit_limit, lane.endpoint = 2, "ipc://here"
        lanes.add(lane)
    store.requeue(RecordRange(6, 3, b"6\n7\n8\n"))
    return SuspectIsolation(store, failures, CRASH_LIMIT), store, lanes, failures


def test_isolation_without_suspects_drains_no_worker() -> None:
    store = TaskStore(RecordFormat())
    store.requeue(RecordRange(6, 1, b"6\n"))
    assert SuspectIsolation(store, LocalFailures(), CRASH_LIMIT).select_isolated(LaneTable(store), 0.0) is None


def test_suspects_run_alone_one_at_a_time() -> None:
    isolation, store, lanes, _ = make_isolation("ann", "bob")
    store.take_requeued(store.next_requeued(lambda _: True) or RecordRange(0, 0, b""), 1)
    ann, bob = lanes
    ann.hold(RecordRange(1, 1, b"1\n"))
    assert isolation.select_isolated(lanes, 0.0) == (bob, RecordRange(7, 1, b"7\n"))
    bob.hold(RecordRange(7, 1, b"7\n"))
    assert (bob.isolation, bob.free_credit(), ann.free_credit()) == ("alone", 0, 2)
    lanes.suspects.on_worker_lost("z", RangeSet([(8, 9)]), is_isolated=False)
    for lost_worker in ("v", "w"):
        lanes.suspects.on_worker_lost(lost_worker, RangeSet([(8, 9)]), is_isolated=False)
    assert isolation.select_isolated(lanes, 0.0) is None  # 8 waits until 7 has finished
    bob.settle(RangeSet([(7, 8)]), RecordFormat())
    assert isolation.select_isolated(lanes, 0.0) == (bob, RecordRange(8, 1, b"8\n"))


def test_worker_with_fewest_tasks_is_drained() -> None:
    isolation, store, lanes, _ = make_isolation("ann", "bob")
    store.take_requeued(store.next_requeued(lambda _: True) or RecordRange(0, 0, b""), 1)
    ann, bob = lanes
    for lane, tasks in ((ann, (1, 2)), (bob, (3,))):
        for task in tasks:
            lane.hold(RecordRange(task, 1, b"%d\n" % task))
    assert isolation.select_isolated(lanes, 0.0) is None
    assert (bob.isolation, bob.free_credit(), ann.free_credit()) == ("draining", 0, 2)
    bob.settle(RangeSet([(3, 4)]), RecordFormat())
    assert isolation.select_isolated(lanes, 0.0) == (bob, RecordRange(7, 1, b"7\n"))


def test_drained_worker_resumes_without_suspects() -> None:
    isolation, store, lanes, _ = make_isolation("ann")
    (ann,) = lanes
    ann.hold(RecordRange(1, 1, b"1\n"))
    store.take_requeued(store.next_requeued(lambda _: True) or RecordRange(0, 0, b""), 1)
    assert isolation.select_isolated(lanes, 0.0) is None
    assert (ann.isolation, ann.free_credit()) == ("draining", 0)
    lanes.settle(RangeSet([(7, 8)]))
    assert len(lanes.suspects) == 0
    assert isolation.select_isolated(lanes, 0.1) is None
    assert ann.free_credit() == 2


def test_poison_task_fails_and_neighbours_are_requeued() -> None:
    isolation, store, lanes, failures = make_isolation("ann")
    for lost_worker in ("v", "w"):
        lanes.suspects.on_worker_lost(lost_worker, RangeSet([(7, 8)]), is_isolated=True)
    assert isolation.select_isolated(lanes, 0.0) is None
    assert [send.message.first for send in failures.resend("r") if isinstance(send.message, Result)] == [7]
    assert store.next_requeued(lambda span: span.first == 6) == RecordRange(6, 1, b"6\n")
    assert store.next_requeued(lambda span: span.first == 8) == RecordRange(8, 1, b"8\n")
    assert store.next_requeued(lambda span: span.first <= 7 < span.end) is None
