"""Reading ahead, assigning chunks to lanes, isolating suspects."""

from __future__ import annotations

import pytest

from pipeline.model.events import ReadRequest, RecordsRead
from pipeline.model.messages import Chunk, FailureKind, Heartbeat, RecordFormat, Result, RetryRange, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import VENTILATOR, LaneAddress, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.dispatcher import (
    AVOID_WORKER_SECONDS,
    MAX_RANGES,
    PREFETCH_BYTES,
    READ_BLOCK_BYTES,
    Dispatcher,
)
from pipeline.ventilator.lane import LaneTable, WorkerLane
from pipeline.ventilator.task_store import RecordRange

READ_REQUESTS = [Send(Port.SOURCE, ReadRequest(READ_BLOCK_BYTES))]
HEARTBEAT = Heartbeat(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=2,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip


def body(first: int, count: int) -> bytes:
    return b"".join(b"%d\n" % task for task in range(first, first + count))


def chunk(lane: int, sequence: int, first: int, count: int = 1, attempt: int = 0) -> Send:
    return Send(LaneAddress(lane), Chunk("r", lane, sequence, first, count, body(first, count), attempt))


def make_dispatcher(
    chunk: int | None = None, window: int = 1 << 20, max_task_bytes: int | None = None
) -> tuple[Dispatcher, LaneTable]:
    """Make one with ann on lane 1 and bob on lane 2, who have credit for two chunks each; the crash limit is 2."""
    dispatcher = Dispatcher(RecordFormat(), window, chunk, max_task_bytes, crash_limit=2)
    lanes = LaneTable(dispatcher.task_store)
    for number, name in enumerate(("ann", "bob"), start=1):
        add_worker(lanes, number, name)
    return dispatcher, lanes


def add_worker(lanes: LaneTable, number: int, name: str) -> WorkerLane:
    """Add a worker with a bound lane."""
    heartbeat = replace(HEARTBEAT, worker=name)
    lane = WorkerLane(number, heartbeat, b"peer", 0.0)
    lane.endpoint = f"ipc://{number}"
    lane.on_heartbeat(heartbeat, b"peer", 0.0)
    lanes.add(lane)
    return lane


def lose_worker(lanes: LaneTable, name: str) -> None:
    """Remove a worker as lost."""
    lane = lanes.get(name)
    assert lane
    lanes.suspect(lane)
    lanes.close(lane, 0.0)


def apply_heartbeat(lanes: LaneTable, heartbeat: Heartbeat) -> None:
    """Apply and reconcile a heartbeat."""
    lane = lanes.get(heartbeat.worker)
    assert lane
    lane.on_heartbeat(heartbeat, b"peer", 1.0)
    lanes.reconcile(lane, heartbeat)


def test_dispatcher_without_records_requests_them_once() -> None:
    dispatcher, lanes = make_dispatcher()
    assert dispatcher.dispatch("r", lanes, 0.0) == READ_REQUESTS
    assert dispatcher.dispatch("r", lanes, 0.0) == []
    dispatcher.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), *READ_REQUESTS]


def test_dispatch_takes_lanes_in_turn_up_to_their_credit() -> None:
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_records(RecordsRead(0, 9, body(0, 9)), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == [
        chunk(1, 1, 0),
        chunk(2, 1, 1),
        chunk(1, 2, 2),
        chunk(2, 2, 3),
        *READ_REQUESTS,
    ]
    assert dispatcher.dispatch("r", lanes, 0.0) == []
    apply_heartbeat(
        lanes, replace(HEARTBEAT, worker="bob", lane=2, last_sequence=2, credit_limit=3, unfinished=((1, 4),))
    )
    assert dispatcher.dispatch("r", lanes, 1.0) == [chunk(2, 3, 4)]


def test_dispatch_that_needs_total_reads_all_that_fits_in_the_window_first() -> None:
    dispatcher, lanes = make_dispatcher(window=2 * PREFETCH_BYTES)
    dispatcher.needs_total = True
    assert dispatcher.is_starved
    for _ in range(2):
        assert dispatcher.dispatch("r", lanes, 0.0) == READ_REQUESTS
        dispatcher.on_records(RecordsRead(0, 1, b"x" * PREFETCH_BYTES + b"\n"), lanes)
    assert {send.to for send in dispatcher.dispatch("r", lanes, 0.0)} == {LaneAddress(1), LaneAddress(2)}
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    dispatcher.on_end_of_input()
    dispatcher.needs_total = True
    assert dispatcher.dispatch("r", lanes, 0.0) == []
    dispatcher.needs_total = False
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0)]


def test_dispatch_with_chunk_option_uses_that_size() -> None:
    dispatcher, lanes = make_dispatcher(chunk=3)
    dispatcher.on_records(RecordsRead(0, 7, body(0, 7)), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == [
        chunk(1, 1, 0, 3),
        chunk(2, 1, 3, 3),
        chunk(1, 2, 6, 1),
        *READ_REQUESTS,
    ]


def test_full_window_requests_no_records() -> None:
    dispatcher, lanes = make_dispatcher(window=4)
    dispatcher.on_records(RecordsRead(0, 2, body(0, 2)), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 1)]  # 4 bytes are in flight
    dispatcher.settle(RangeSet(((1, 2),)), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == READ_REQUESTS


def test_full_window_still_requests_needed_records() -> None:
    dispatcher, lanes = make_dispatcher(window=4)
    dispatcher.on_records(RecordsRead(0, 3, body(0, 3)), lanes, 4)
    assert dispatcher.prefetch(lanes) == [Send(Port.SOURCE, ReadRequest(1))]
    dispatcher.on_records(RecordsRead(3, 1, body(3, 1)), lanes, 4)
    assert dispatcher.prefetch(lanes) == []


def test_low_stock_requests_records_and_keeps_order() -> None:
    dispatcher, lanes = make_dispatcher(chunk=3)
    dispatcher.spill_full = True
    dispatcher.on_records(RecordsRead(0, 2, body(0, 2)), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == READ_REQUESTS
    dispatcher.on_records(RecordsRead(2, 2, body(2, 2)), lanes)
    dispatcher.spill_full = False
    sends = dispatcher.dispatch("r", lanes, 0.0)
    assert sends == [chunk(1, 1, 0, 2), chunk(2, 1, 2, 2), *READ_REQUESTS]
    dispatcher.on_records(RecordsRead(4, 1, b"x" * PREFETCH_BYTES + b"\n"), lanes)
    dispatcher.spill_full = True
    assert dispatcher.dispatch("r", lanes, 0.0) == []


def test_end_of_input_requests_no_records() -> None:
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_end_of_input()
    assert dispatcher.dispatch("r", lanes, 0.0) == []


@pytest.mark.parametrize("reason", ["spill", "ranges"])
def test_requeued_tasks_are_sent_when_unsent_must_wait(reason: str) -> None:
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_records(RecordsRead(0, 9, body(0, 9)), lanes)
    if reason == "spill":
        dispatcher.spill_full = True
    else:
        dispatcher.settled.update((at, at + 1) for at in range(100, 100 + 2 * MAX_RANGES, 2))
    assert dispatcher.dispatch("r", lanes, 0.0) == READ_REQUESTS
    dispatcher.task_store.requeue(RecordRange(20, 1, body(20, 1)))
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 20)]


def test_settled_or_claimed_records_are_not_sent() -> None:
    dispatcher, lanes = make_dispatcher()
    apply_heartbeat(lanes, replace(HEARTBEAT, worker="bob", lane=2, unfinished=((3, 4),)))
    dispatcher.settle(RangeSet(((0, 2),)), lanes)
    dispatcher.on_records(RecordsRead(0, 6, body(0, 6)), lanes)
    bob = lanes.get("bob")
    assert bob
    assert [(span.first, span.body) for span in bob.assigned_ranges.values()] == [(3, b"3\n")]
    assert dispatcher.dispatch("r", lanes, 1.0) == [chunk(1, 1, 2), chunk(2, 1, 4), chunk(1, 2, 5), *READ_REQUESTS]


def test_settled_tasks_are_not_requeued() -> None:
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_records(RecordsRead(0, 2, body(0, 2)), lanes)
    dispatcher.dispatch("r", lanes, 0.0)
    for lane in lanes:
        lanes.close(lane, 0.0)
    dispatcher.settle(RangeSet(((0, 1),)), lanes)
    assert (dispatcher.task_store.task_count, dispatcher.task_store.size) == (1, 2)


# --- retries


def test_retry_is_sent_when_due_to_another_worker() -> None:
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), *READ_REQUESTS]
    dispatcher.retry((RetryRange(0, 1, 1, 5.0),), lanes, 1.0)
    assert dispatcher.dispatch("r", lanes, 5.9) == []
    assert dispatcher.task_store.next_due(5.9) == 6.0
    assert dispatcher.dispatch("r", lanes, 6.0) == [chunk(2, 1, 0, attempt=1)]


def test_repeated_retry_is_ignored_later_attempt_is_sent() -> None:
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    dispatcher.dispatch("r", lanes, 0.0)
    for now in (1.0, 2.0, 3.0):
        dispatcher.retry((RetryRange(0, 1, 1, 0.0),), lanes, now)
        assert dispatcher.dispatch("r", lanes, now) == ([chunk(2, 1, 0, attempt=1)] if now == 1.0 else [])
    dispatcher.retry((RetryRange(0, 1, 2, 0.0),), lanes, 4.0)
    assert dispatcher.dispatch("r", lanes, 4.0) == [chunk(1, 2, 0, attempt=2)]  # bob is avoided now


def test_retry_goes_to_same_worker_without_another() -> None:
    for other_workers, delay in ((0, 0.0), (1, AVOID_WORKER_SECONDS)):
        dispatcher, lanes = make_dispatcher()
        dispatcher.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
        dispatcher.dispatch("r", lanes, 0.0)
        if other_workers:
            apply_heartbeat(lanes, replace(HEARTBEAT, worker="bob", lane=2, credit_limit=0))
        else:
            lose_worker(lanes, "bob")
        dispatcher.retry((RetryRange(0, 1, 1, 0.0),), lanes, 1.0)
        assert [dispatcher.dispatch("r", lanes, 1.0 + delay - 0.1)] * other_workers == [[]] * other_workers
        assert dispatcher.dispatch("r", lanes, 1.0 + delay) == [chunk(1, 2, 0, attempt=1)]


def test_retried_task_read_later_gets_its_attempt() -> None:
    dispatcher, lanes = make_dispatcher(chunk=9)
    dispatcher.retry((RetryRange(1, 2, 2, 7.0),), lanes, 0.0)  # not read yet
    dispatcher.on_records(RecordsRead(0, 3, body(0, 3)), lanes)
    sends = dispatcher.dispatch("r", lanes, 1.0)
    assert sends == [chunk(1, 1, 0), chunk(2, 1, 1, attempt=2), chunk(1, 2, 2), *READ_REQUESTS]


def test_too_many_retries_pause_unsent_tasks() -> None:
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    dispatcher.retry((RetryRange(100, 100 + MAX_RANGES, 1, 0.0),), lanes, 0.0)
    assert dispatcher.dispatch("r", lanes, 0.0) == READ_REQUESTS
    dispatcher.settle(RangeSet([(100, 100 + MAX_RANGES)]), lanes)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0)]


# --- suspects


def dispatcher_after_losses(workers: int) -> tuple[Dispatcher, LaneTable]:
    """Make one after the loss of some workers with tasks 0 to 3; ann is present, on lane 9."""
    dispatcher, lanes = make_dispatcher(chunk=4)
    for name in ("ann", "bob"):
        lose_worker(lanes, name)
    dispatcher.on_records(RecordsRead(0, 4, body(0, 4)), lanes)
    dispatcher.on_end_of_input()
    for number in range(workers):
        add_worker(lanes, 3 + number, f"w{number}")
        for send in dispatcher.dispatch("r", lanes, 0.0):
            assert isinstance(send.message, Chunk)
        lose_worker(lanes, f"w{number}")
    add_worker(lanes, 9, "ann")
    return dispatcher, lanes


def test_tasks_of_two_losses_are_sent_singly() -> None:
    dispatcher, lanes = dispatcher_after_losses(1)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(9, 1, 0, 4)]
    dispatcher, lanes = dispatcher_after_losses(2)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(9, 1, 0), chunk(9, 2, 1)]


def test_chunk_does_not_mix_suspects_with_others() -> None:
    dispatcher, lanes = make_dispatcher(chunk=9)
    dispatcher.task_store.requeue(RecordRange(0, 5, body(0, 5)))
    dispatcher.on_end_of_input()
    lanes.suspects.on_worker_lost("eve", RangeSet([(2, 4)]), is_isolated=False)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0, 2), chunk(2, 1, 2, 2), chunk(1, 2, 4)]


def dispatcher_with_suspects(*tasks: int) -> tuple[Dispatcher, LaneTable]:
    """Make one where three workers were lost with these tasks; tasks 7 and 8 are requeued, too."""
    dispatcher, lanes = make_dispatcher()
    dispatcher.on_end_of_input()
    for task in (*tasks, 7, 8):
        dispatcher.task_store.requeue(RecordRange(task, 1, body(task, 1)))
    for name in ("x", "y", "z"):
        lanes.suspects.on_worker_lost(name, RangeSet((task, task + 1) for task in tasks), is_isolated=False)
    return dispatcher, lanes


def test_task_of_three_losses_runs_alone_on_idle_worker() -> None:
    dispatcher, lanes = dispatcher_with_suspects(0, 1)
    assert dispatcher.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 7), chunk(2, 2, 8)]
    assert dispatcher.dispatch("r", lanes, 0.1) == []  # one at a time
    dispatcher.settle(RangeSet([(0, 1), (7, 9)]), lanes)
    assert dispatcher.dispatch("r", lanes, 0.2) == [chunk(1, 2, 1)]


def test_busy_worker_is_drained_before_isolation() -> None:
    dispatcher, lanes = dispatcher_with_suspects(0)
    for name, first in (("ann", 20), ("bob", 30)):
        lane = lanes.get(name)
        assert lane
        for task in range(first, first + (1 if name == "bob" else 2)):
            lane.hold(RecordRange(task, 1, body(task, 1)))
    assert dispatcher.dispatch("r", lanes, 0.0) == [
        chunk(1, 1, 7),
        chunk(1, 2, 8),
    ]  # bob has the fewest tasks, and is drained
    dispatcher.settle(RangeSet([(30, 31)]), lanes)
    assert dispatcher.dispatch("r", lanes, 0.1) == [chunk(2, 1, 0)]


def test_draining_worker_resumes_if_suspect_is_settled() -> None:
    dispatcher, lanes = dispatcher_with_suspects(0)
    for lane in lanes:
        lane.hold(RecordRange(20 + lane.number, 1, body(20 + lane.number, 1)))
    dispatcher.dispatch("r", lanes, 0.0)
    ann = lanes.get("ann")
    assert ann
    assert (ann.isolation, ann.free_credit()) == ("draining", 0)
    dispatcher.settle(RangeSet([(0, 1)]), lanes)
    dispatcher.task_store.requeue(RecordRange(9, 1, body(9, 1)))
    lanes.suspects.on_worker_lost("eve", RangeSet([(50, 51)]), is_isolated=False)
    dispatcher.dispatch("r", lanes, 0.1)
    assert ann.isolation == ""


def failed_result(task: int, kind: FailureKind, text: str, record: bytes, attempt: int = 0) -> Send:
    failure = TaskFailure(task, kind, 0, text, "", record_size=len(record))
    return Send(Port.RESULTS, Result("r", VENTILATOR, task, 1, b"", bytes(4), b"", (failure,), attempt, record))


def test_poison_task_fails_after_crash_limit() -> None:
    dispatcher, lanes = dispatcher_with_suspects(0)
    assert dispatcher.dispatch("r", lanes, 0.0)[0] == chunk(1, 1, 0)
    lose_worker(lanes, "ann")
    dispatcher.settle(RangeSet([(7, 9)]), lanes)
    apply_heartbeat(lanes, replace(HEARTBEAT, worker="bob", lane=2, last_sequence=2, credit_limit=4))
    assert dispatcher.dispatch("r", lanes, 0.5) == [chunk(2, 3, 0)]
    lose_worker(lanes, "bob")
    add_worker(lanes, 3, "cid")
    text = "crashed 2 workers while running alone (poison task)"
    assert dispatcher.dispatch("r", lanes, 1.0) == [failed_result(0, "poison", text, b"0")]
    assert dispatcher.dispatch("r", lanes, 2.0) == []
    assert dispatcher.local_failures.resend("r") == [failed_result(0, "poison", text, b"0")]


def test_poison_task_does_not_fail_its_neighbours() -> None:
    dispatcher, lanes = make_dispatcher(chunk=9)
    dispatcher.on_end_of_input()
    dispatcher.task_store.requeue(RecordRange(0, 3, body(0, 3)))
    for name in ("x", "y"):
        lanes.suspects.on_worker_lost(name, RangeSet([(1, 2)]), is_isolated=True)
    sends = dispatcher.dispatch("r", lanes, 0.0)
    assert sends[0] == failed_result(1, "poison", "crashed 2 workers while running alone (poison task)", b"1")
    assert sends[1:] == [chunk(1, 1, 0), chunk(2, 1, 2)]


# --- too large


def test_too_large_tasks_fail_without_a_worker() -> None:
    dispatcher, lanes = make_dispatcher(max_task_bytes=2)
    dispatcher.on_records(RecordsRead(98, 4, body(98, 4)), lanes)
    text = "task size 3 bytes exceeds --max-task-bytes"
    assert dispatcher.dispatch("r", lanes, 0.0) == [
        failed_result(100, "size", text, b"100"),
        failed_result(101, "size", text, b"101"),
        chunk(1, 1, 98),
        chunk(2, 1, 99),
        *READ_REQUESTS,
    ]
    dispatcher.settle(RangeSet([(100, 101)]), lanes)
    assert dispatcher.local_failures.resend("r") == [failed_result(101, "size", text, b"101")]


def test_too_large_task_already_settled_is_not_failed() -> None:
    dispatcher, lanes = make_dispatcher(max_task_bytes=2)
    dispatcher.settle(RangeSet([(0, 101)]), lanes)
    dispatcher.on_records(RecordsRead(98, 4, body(98, 4)), lanes)
    assert [
        send.message.first for send in dispatcher.dispatch("r", lanes, 0.0) if isinstance(send.message, Result)
    ] == [101]


def test_unsent_task_retried_before_is_sent_with_attempt() -> None:
    dispatcher, lanes = make_dispatcher(chunk=9)
    dispatcher.on_end_of_input()
    dispatcher.on_records(RecordsRead(0, 3, body(0, 3)), lanes)
    dispatcher.retry((RetryRange(1, 2, 1, 0.0),), lanes, 0.0)
    messages = [send.message for send in dispatcher.dispatch("r", lanes, 0.0)]
    assert [(message.first, message.count, message.attempt) for message in messages if isinstance(message, Chunk)] == [
        (0, 1, 0), (1, 1, 1), (2, 1, 0),
    ]  # fmt: skip
