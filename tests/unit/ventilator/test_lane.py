"""Credit, assigned tasks and timeouts of one lane; then the table of all lanes."""

from __future__ import annotations

from pipeline.model.messages import AttemptRange, Heartbeat, RecordFormat
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.state_machine import NEVER
from pipeline.model.structs import replace
from pipeline.ventilator.lane import (
    CHUNK_WORK_SECONDS,
    MAX_ASSIGNED_CHUNKS,
    MAX_CHUNK_GROWTH,
    MAX_IN_FLIGHT_BYTES,
    STALL_SECONDS,
    UNREACHABLE_SECONDS,
    LaneTable,
    WorkerLane,
    chunk_task_count,
    valid_claims,
)
from pipeline.ventilator.task_store import RecordRange, TaskStore

LINES = RecordFormat()
HEARTBEAT = Heartbeat(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=3, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> RecordRange:
    return RecordRange(first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), lane, sequence)


def make_lane() -> WorkerLane:
    """Make the bound lane 3 of ann with credit for four chunks."""
    lane = WorkerLane(3, HEARTBEAT, b"peer", 0.0)
    lane.endpoint = "ipc://lane"
    lane.on_heartbeat(HEARTBEAT, b"peer", 0.0)
    return lane


def test_free_credit_is_limit_minus_sequence() -> None:
    lane = make_lane()
    assert lane.free_credit() == 4
    assert lane.assign(span(0, 2), 1.0) == span(0, 2, lane=3, sequence=1)
    assert lane.assign(span(2, 1), 1.0) == span(2, 1, lane=3, sequence=2)
    assert lane.free_credit() == 2
    lane.on_heartbeat(HEARTBEAT, b"peer", 1.5)  # a repeated heartbeat changes nothing
    assert lane.free_credit() == 2
    lane.on_heartbeat(replace(HEARTBEAT, credit_limit=1), b"peer", 2.0)  # below what was sent already
    assert lane.free_credit() == 0
    lane.on_heartbeat(replace(HEARTBEAT, last_sequence=2, credit_limit=5), b"peer", 3.0)
    assert lane.free_credit() == 3


def test_credit_of_former_lane_counts_by_difference() -> None:
    lane = make_lane()
    lane.on_heartbeat(replace(HEARTBEAT, lane=2, last_sequence=70, credit_limit=75), b"peer", 0.0)
    assert lane.free_credit() == 5
    lane.on_heartbeat(replace(HEARTBEAT, lane=2, last_sequence=70, credit_limit=60), b"peer", 0.0)
    assert lane.free_credit() == 0


def test_lane_unbound_or_with_full_flight_has_no_credit() -> None:
    lane = make_lane()
    lane.endpoint = ""
    assert lane.free_credit() == 0
    lane.endpoint = "ipc://lane"
    assert lane.free_credit() == 4
    lane.hold(RecordRange(0, 1, b"x" * MAX_IN_FLIGHT_BYTES))  # held tasks are not in flight
    assert lane.free_credit() == 4
    lane.assign(RecordRange(1, 1, b"x" * MAX_IN_FLIGHT_BYTES), 1.0)
    assert lane.free_credit() == 0
    lane.on_heartbeat(replace(HEARTBEAT, last_sequence=1, credit_limit=6), b"peer", 2.0)
    assert lane.free_credit() == 5


def test_free_credit_is_limited_by_assigned_chunks() -> None:
    lane = make_lane()
    lane.on_heartbeat(replace(HEARTBEAT, credit_limit=2 * MAX_ASSIGNED_CHUNKS), b"peer", 0.0)
    for task in range(0, 2 * MAX_ASSIGNED_CHUNKS - 2, 2):
        lane.hold(span(task, 1))
    assert lane.free_credit() == 1


def test_reconcile_returns_seen_tasks_that_are_not_held() -> None:
    lane = make_lane()
    for first in (0, 10, 20):
        lane.assign(span(first, 4), 1.0)
    heartbeat = replace(HEARTBEAT, last_sequence=2, unfinished=((1, 2), (10, 12)), unacked=((12, 14),))
    assert lane.reconcile(heartbeat, LINES, AttemptCounts()) == [span(0, 1, 3, 1), span(2, 2, 3, 1)]
    assert list(lane.assigned_ranges.values()) == [span(10, 4, 3, 2), span(20, 4, 3, 3), span(1, 1, 3, 1)]
    assert (lane.claims.ranges(), lane.unacked.ranges()) == (((1, 2), (10, 14)), ((12, 14),))
    assert lane.size == len(span(10, 4).body + span(20, 4).body + span(1, 1).body)
    assert lane.reconcile(heartbeat, LINES, AttemptCounts()) == []


def test_reconcile_former_lane_needs_newer_heartbeat() -> None:
    lane = make_lane()
    lane.assign(span(0, 1), 1.0)
    lane.rebind(5)
    lane.endpoint = "ipc://again"
    lane.assign(span(1, 1), 2.0)
    assert lane.reconcile(replace(HEARTBEAT, lane=3, last_sequence=0), LINES, AttemptCounts()) == []
    assert lane.reconcile(replace(HEARTBEAT, lane=5, last_sequence=0), LINES, AttemptCounts()) == [span(0, 1, 3, 1)]
    assert lane.reconcile(replace(HEARTBEAT, lane=5, last_sequence=1), LINES, AttemptCounts()) == [span(1, 1, 5, 1)]


def test_claims_of_failed_attempt_are_invalid() -> None:
    lane, attempt = make_lane(), AttemptCounts([AttemptRange(1, 3, 1)])
    heartbeat = replace(HEARTBEAT, unfinished=((0, 2),), unacked=((2, 4),))
    assert valid_claims(heartbeat, AttemptCounts()).ranges() == ((0, 4),)
    assert valid_claims(heartbeat, attempt).ranges() == ((0, 1), (3, 4))
    assert valid_claims(replace(heartbeat, attempts=(AttemptRange(2, 3, 1),)), attempt).ranges() == ((0, 1), (2, 4))
    lane.assign(replace(span(1, 1), attempt=1), 1.0)
    assert lane.reconcile(replace(heartbeat, last_sequence=1), LINES, attempt) == [replace(span(1, 1, 3, 1), attempt=1)]


def test_take_for_retry_avoids_the_same_worker() -> None:
    lane = make_lane()
    lane.assign(span(0, 4), 1.0)
    lane.assign(replace(span(7, 1), attempt=2), 1.0)
    lane.reconcile(replace(HEARTBEAT, last_sequence=2, unfinished=((0, 4), (7, 8))), LINES, AttemptCounts())
    assert lane.take_for_retry(AttemptRange(1, 8, 2), LINES, due=5.0) == [
        replace(span(1, 3), attempt=2, due=5.0, avoid_worker="ann")
    ]
    assert list(lane.assigned_ranges.values()) == [replace(span(7, 1, 3, 2), attempt=2), span(0, 1, 3, 1)]
    assert lane.claims.ranges() == ((0, 1),)  # until a heartbeat claims the later attempt
    assert lane.size == len(b"7\n0\n")


def test_assign_sets_lane_and_clears_delay() -> None:
    drain = replace(span(5, 1, lane=1, sequence=9), attempt=2, due=7.0, avoid_worker="bob")
    assert make_lane().assign(drain, 8.0) == replace(span(5, 1, lane=3, sequence=1), attempt=2)


def test_unfinished_excludes_finished_tasks() -> None:
    lane = make_lane()
    lane.assign(span(0, 4), 1.0)
    assert lane.unfinished().ranges() == ((0, 4),)
    lane.reconcile(replace(HEARTBEAT, last_sequence=1, unfinished=((2, 4),), unacked=((0, 2),)), LINES, AttemptCounts())
    lane.assign(span(8, 1), 2.0)
    assert lane.unfinished().ranges() == ((2, 4), (8, 9))


def test_isolated_lane_has_no_credit_until_task_is_gone() -> None:
    lane = make_lane()
    lane.isolation = "draining"
    assert (lane.free_credit(), lane.allowance()) == (0, 4)
    lane.assign(span(0, 1), 1.0)
    lane.isolation = "alone"
    assert (lane.free_credit(), lane.allowance()) == (0, 3)
    lane.settle(RangeSet([(0, 1)]), LINES)
    assert (lane.free_credit(), lane.isolation) == (3, "")


def test_lane_settle_removes_records() -> None:
    lane = make_lane()
    lane.assign(span(0, 4), 1.0)
    lane.settle(RangeSet(((0, 1), (2, 3))), LINES)
    assert list(lane.assigned_ranges.values()) == [span(1, 1, 3, 1), span(3, 1, 3, 1)]
    lane.settle(RangeSet(((0, 9),)), LINES)
    assert (lane.assigned_ranges, lane.size) == ({}, 0)


def test_chunk_tasks_grow_fourfold_per_measurement() -> None:
    lane, sizes = make_lane(), []
    for done in (1, 1, 5, 21, 100, 200, 300):
        lane.on_heartbeat(replace(HEARTBEAT, done_count=done, seconds_per_task=CHUNK_WORK_SECONDS / 300), b"peer", 0.0)
        sizes.append(lane.chunk_tasks)
    assert sizes == [MAX_CHUNK_GROWTH, MAX_CHUNK_GROWTH, 16, 64, 256, 300, 300]
    lane.on_heartbeat(replace(HEARTBEAT, done_count=301, seconds_per_task=2.0), b"peer", 0.0)
    assert lane.chunk_tasks == 1


def test_chunk_task_count_is_a_fair_share() -> None:
    lane = make_lane()
    lane.chunk_tasks = 10
    assert [chunk_task_count(lane, at_hand, 4, None) for at_hand in (0, 3, 5, 40, 1000)] == [1, 1, 2, 10, 10]
    assert chunk_task_count(lane, 1000, 0, None) == 10
    assert chunk_task_count(lane, 1, 4, 7) == 7


def test_lane_with_heartbeats_but_no_progress_is_stalled() -> None:
    lane = make_lane()
    assert not lane.is_stalled(1000.0)
    lane.assign(span(0, 1), 10.0)
    assert not lane.is_stalled(20.0)  # no heartbeat since: the worker may be frozen
    lane.on_heartbeat(HEARTBEAT, b"peer", 12.0)
    assert not lane.is_stalled(10.0 + STALL_SECONDS)
    assert lane.is_stalled(10.1 + STALL_SECONDS)
    lane.on_heartbeat(replace(HEARTBEAT, last_sequence=1), b"peer", 14.0)
    assert not lane.is_stalled(1000.0)


def test_large_chunk_stalls_later() -> None:
    lane = make_lane()
    lane.assign(RecordRange(0, 1, b"x" * 4_000_000), 10.0)
    lane.on_heartbeat(HEARTBEAT, b"peer", 12.0)
    assert not lane.is_stalled(16.9)
    assert lane.is_stalled(17.1)


def test_rebind_doubles_stall_time_until_progress() -> None:
    lane = make_lane()
    lane.rebind(4)
    assert (lane.number, lane.endpoint, lane.sequence) == (4, "", 0)
    lane.endpoint = "ipc://again"
    lane.assign(span(0, 1), 10.0)
    lane.on_heartbeat(replace(HEARTBEAT, lane=4), b"peer", 12.0)
    assert not lane.is_stalled(15.9)
    assert lane.is_stalled(16.1)
    lane.on_heartbeat(replace(HEARTBEAT, lane=4, last_sequence=1), b"peer", 17.0)
    lane.assign(span(1, 1), 20.0)
    lane.on_heartbeat(replace(HEARTBEAT, lane=4, last_sequence=1), b"peer", 22.0)
    assert lane.is_stalled(23.1)


def test_silent_or_unreachable_worker_counts_as_lost() -> None:
    lane = make_lane()
    assert not lane.is_silent(10.0, 10.0)
    assert lane.is_silent(10.1, 10.0)
    lane.unreachable_since = 1.0
    assert not lane.is_silent(1.0 + UNREACHABLE_SECONDS, 10.0)
    assert lane.is_silent(1.1 + UNREACHABLE_SECONDS, 10.0)
    lane.on_heartbeat(HEARTBEAT, b"new", 3.0)
    assert (lane.peer, lane.unreachable_since) == (b"new", NEVER)
    assert not lane.is_silent(13.0, 10.0)


def make_lanes() -> tuple[TaskStore, LaneTable, WorkerLane, WorkerLane]:
    """Make a task store and the lanes of ann and bob."""
    store = TaskStore(LINES)
    lanes = LaneTable(store)
    ann, bob = make_lane(), WorkerLane(4, replace(HEARTBEAT, worker="bob", lane=4), b"bob", 0.0)
    lanes.add(ann)
    lanes.add(bob)
    return store, lanes, ann, bob


def drain(store: TaskStore) -> list[RecordRange]:
    """Take all requeued records."""
    spans = []
    while (requeued := store.next_requeued(lambda _: True)) is not None:
        spans.append(store.take_requeued(requeued, requeued.count))
    return spans


def test_lane_table_has_one_lane_per_worker() -> None:
    _, lanes, ann, bob = make_lanes()
    assert (list(lanes), len(lanes)) == ([ann, bob], 2)
    assert (lanes.get("ann"), lanes.get("bob"), lanes.get("eve")) == (ann, bob, None)
    for lane in lanes:  # lanes may be closed during iteration
        lanes.close(lane, 0.0)
    assert (list(lanes), len(lanes), lanes.get("ann")) == ([], 0, None)


def test_lane_table_size_sums_held_records() -> None:
    _, lanes, ann, bob = make_lanes()
    assert lanes.size == 0
    ann.assign(span(0, 2), 1.0)
    bob.assign(span(10, 1), 1.0)
    assert lanes.size == len(b"0\n1\n10\n")
    lanes.settle(RangeSet(((1, 11),)))
    assert lanes.size == len(b"0\n")


def test_lane_table_settle_removes_records_everywhere() -> None:
    _, lanes, ann, bob = make_lanes()
    ann.assign(span(0, 4), 1.0)
    bob.assign(span(4, 2), 1.0)
    lanes.settle(RangeSet(((0, 3), (5, 6))))
    assert (list(ann.assigned_ranges.values()), list(bob.assigned_ranges.values())) == (
        [span(3, 1, 3, 1)],
        [span(4, 1, 4, 1)],
    )


def test_claimed_tasks_joins_all_workers() -> None:
    _, lanes, ann, bob = make_lanes()
    assert lanes.claimed_tasks().ranges() == ()
    lanes.reconcile(ann, replace(HEARTBEAT, unfinished=((0, 2),), unacked=((7, 8),)))
    lanes.reconcile(bob, replace(HEARTBEAT, lane=4, unfinished=((2, 3),)))
    assert lanes.claimed_tasks().ranges() == ((0, 3), (7, 8))
    lanes.close(ann, 0.0)
    assert lanes.claimed_tasks().ranges() == ((2, 3),)


def test_closed_lane_requeues_except_claims_of_others() -> None:
    store, lanes, ann, bob = make_lanes()
    ann.assign(span(0, 4), 1.0)
    lanes.reconcile(bob, replace(HEARTBEAT, lane=4, unfinished=((1, 2),)))
    lanes.close(ann, 0.0)
    assert list(bob.assigned_ranges.values()) == [span(1, 1)]
    assert drain(store) == [span(0, 1, 3, 1), span(2, 2, 3, 1)]


def test_reconcile_requeues_missing_and_keeps_claims() -> None:
    store, lanes, ann, _ = make_lanes()
    ann.assign(span(0, 3), 1.0)
    store.requeue(span(8, 2))
    lanes.reconcile(ann, replace(HEARTBEAT, last_sequence=1, unfinished=((1, 2), (8, 9))))
    assert list(ann.assigned_ranges.values()) == [span(1, 1, 3, 1), span(8, 1)]
    assert drain(store) == [span(0, 1, 3, 1), span(2, 1, 3, 1), span(9, 1)]


def test_claimed_records_are_judged_by_next_heartbeat() -> None:
    store, lanes, ann, _ = make_lanes()
    store.requeue(span(5, 1, lane=9, sequence=70))
    ann.claims.add(5, 6)
    lanes.claim(ann)
    assert (list(ann.assigned_ranges.values()), drain(store)) == ([span(5, 1)], [])
    lanes.reconcile(ann, HEARTBEAT)
    assert (list(ann.assigned_ranges.values()), drain(store)) == ([], [span(5, 1)])


def test_requeue_gives_tasks_to_another_claimant() -> None:
    store, lanes, ann, bob = make_lanes()
    ann.claims.add(0, 2)
    bob.claims.add(1, 2)
    lanes.requeue(ann, [span(0, 3)])
    assert (list(ann.assigned_ranges.values()), list(bob.assigned_ranges.values())) == ([], [span(1, 1)])
    assert drain(store) == [span(0, 1), span(2, 1)]


def test_retry_requeues_earlier_attempts_everywhere() -> None:
    store, lanes, ann, bob = make_lanes()
    ann.assign(span(0, 2), 1.0)
    bob.assign(span(4, 2), 1.0)
    store.requeue(span(8, 2))
    lanes.retry(AttemptRange(1, 5, 1), 5.0)
    lanes.retry(AttemptRange(8, 9, 1), 6.0)
    assert (list(ann.assigned_ranges.values()), list(bob.assigned_ranges.values())) == (
        [span(0, 1, 3, 1)],
        [span(5, 1, 4, 1)],
    )
    assert drain(store) == [
        replace(span(1, 1), attempt=1, due=5.0, avoid_worker="ann"), replace(span(4, 1), attempt=1, due=5.0,
        avoid_worker="bob"),
        replace(span(8, 1), attempt=1, due=6.0), span(9, 1),
    ]  # fmt: skip


def test_claimed_records_keep_their_attempt() -> None:
    store, lanes, ann, _ = make_lanes()
    store.attempts.set(5, 6, 1)
    store.requeue(replace(span(5, 1), attempt=1))
    lanes.reconcile(ann, replace(HEARTBEAT, unfinished=((5, 6),)))  # of the earlier attempt: invalid
    assert (list(ann.assigned_ranges.values()), lanes.claimed_tasks().ranges()) == ([], ())
    lanes.reconcile(ann, replace(HEARTBEAT, unfinished=((5, 6),), attempts=(AttemptRange(5, 6, 1),)))
    assert (list(ann.assigned_ranges.values()), drain(store)) == ([replace(span(5, 1), attempt=1)], [])


def test_lost_worker_makes_suspects_until_it_returns() -> None:
    _, lanes, ann, bob = make_lanes()
    ann.assign(span(0, 3), 1.0)
    lanes.reconcile(ann, replace(HEARTBEAT, last_sequence=1, unfinished=((1, 3),), unacked=((0, 1),)))
    lanes.suspect(ann)
    assert [lanes.suspects.loss_count(task) for task in range(4)] == [0, 1, 1, 0]
    lanes.settle(RangeSet([(2, 3)]))
    assert [lanes.suspects.loss_count(task) for task in range(4)] == [0, 1, 0, 0]
    bob.assign(span(1, 1), 2.0)
    bob.isolation = "alone"
    lanes.suspect(bob)
    assert (lanes.suspects.loss_count(1), lanes.suspects.poison_tasks(1)) == (2, [1])
    lanes.add(WorkerLane(7, replace(HEARTBEAT, worker="bob"), b"bob", 3.0))
    assert (lanes.suspects.loss_count(1), lanes.suspects.poison_tasks(1)) == (1, [])


def test_parked_tasks_are_due_only_if_acks_continue() -> None:
    store, lanes, ann, _ = make_lanes()
    ann.assign(span(0, 2), 1.0)
    lanes.parked_at = 2.0
    lanes.close(ann, NEVER)
    lanes.resume_parked(1.9)
    assert store.next_due(9.0) == NEVER
    assert [part.due for part in (store.next_requeued(lambda _: True),) if part] == [NEVER]
    lanes.resume_parked(2.0)
    assert [part.due for part in (store.next_requeued(lambda _: True),) if part] == [0.0]
