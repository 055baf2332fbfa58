"""One lane: what it may be sent, what it holds, whether its worker and its connection are still there; then all."""

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
PULSE = Heartbeat(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=3, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> RecordRange:
    return RecordRange(first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), lane, sequence)


def lane() -> WorkerLane:
    """Lane 3 of ann's, bound, allowed four chunks."""
    made = WorkerLane(3, PULSE, b"peer", 0.0)
    made.endpoint = "ipc://lane"
    made.on_heartbeat(PULSE, b"peer", 0.0)
    return made


def test_credit_is_the_highest_sequence_that_may_be_sent() -> None:
    one = lane()
    assert one.free_credit() == 4
    assert one.assign(span(0, 2), 1.0) == span(0, 2, lane=3, sequence=1)
    assert one.assign(span(2, 1), 1.0) == span(2, 1, lane=3, sequence=2)
    assert one.free_credit() == 2
    one.on_heartbeat(PULSE, b"peer", 1.5)  # the same again changes nothing
    assert one.free_credit() == 2
    one.on_heartbeat(replace(PULSE, credit_limit=1), b"peer", 2.0)  # what was sent is sent
    assert one.free_credit() == 0
    one.on_heartbeat(replace(PULSE, last_sequence=2, credit_limit=5), b"peer", 3.0)
    assert one.free_credit() == 3


def test_of_another_lane_only_the_difference_counts() -> None:
    one = lane()
    one.on_heartbeat(replace(PULSE, lane=2, last_sequence=70, credit_limit=75), b"peer", 0.0)
    assert one.free_credit() == 5
    one.on_heartbeat(replace(PULSE, lane=2, last_sequence=70, credit_limit=60), b"peer", 0.0)
    assert one.free_credit() == 0


def test_no_room_before_it_is_bound_nor_with_too_much_in_flight() -> None:
    one = lane()
    one.endpoint = ""
    assert one.free_credit() == 0
    one.endpoint = "ipc://lane"
    assert one.free_credit() == 4
    one.hold(
        RecordRange(0, 1, b"x" * MAX_IN_FLIGHT_BYTES)
    )  # in its hands, not on the way: that is no reason to starve it
    assert one.free_credit() == 4
    one.assign(RecordRange(1, 1, b"x" * MAX_IN_FLIGHT_BYTES), 1.0)
    assert one.free_credit() == 0
    one.on_heartbeat(replace(PULSE, last_sequence=1, credit_limit=6), b"peer", 2.0)
    assert one.free_credit() == 5


def test_no_room_for_more_chunks_than_a_pulse_can_name() -> None:
    one = lane()
    one.on_heartbeat(replace(PULSE, credit_limit=2 * MAX_ASSIGNED_CHUNKS), b"peer", 0.0)
    for task in range(0, 2 * MAX_ASSIGNED_CHUNKS - 2, 2):
        one.hold(span(task, 1))
    assert one.free_credit() == 1


def test_what_was_seen_to_pass_and_is_not_held_goes_out_again() -> None:
    one = lane()
    for first in (0, 10, 20):
        one.assign(span(first, 4), 1.0)
    pulse = replace(PULSE, last_sequence=2, unfinished=((1, 2), (10, 12)), unacked=((12, 14),))
    assert one.reconcile(pulse, LINES, AttemptCounts()) == [span(0, 1, 3, 1), span(2, 2, 3, 1)]
    assert list(one.assigned_ranges.values()) == [span(10, 4, 3, 2), span(20, 4, 3, 3), span(1, 1, 3, 1)]
    assert (one.claims.ranges(), one.unacked.ranges()) == (((1, 2), (10, 14)), ((12, 14),))
    assert one.size == len(span(10, 4).body + span(20, 4).body + span(1, 1).body)
    assert one.reconcile(pulse, LINES, AttemptCounts()) == []


def test_what_a_former_lane_carried_is_judged_by_a_pulse_that_knows_the_newer_one() -> None:
    one = lane()
    one.assign(span(0, 1), 1.0)
    one.rebind(5)
    one.endpoint = "ipc://again"
    one.assign(span(1, 1), 2.0)
    assert one.reconcile(replace(PULSE, lane=3, last_sequence=0), LINES, AttemptCounts()) == []
    assert one.reconcile(replace(PULSE, lane=5, last_sequence=0), LINES, AttemptCounts()) == [span(0, 1, 3, 1)]
    assert one.reconcile(replace(PULSE, lane=5, last_sequence=1), LINES, AttemptCounts()) == [span(1, 1, 5, 1)]


def test_what_its_worker_holds_of_an_earlier_try_it_does_not_hold() -> None:
    one, tries = lane(), AttemptCounts([AttemptRange(1, 3, 1)])
    pulse = replace(PULSE, unfinished=((0, 2),), unacked=((2, 4),))
    assert valid_claims(pulse, AttemptCounts()).ranges() == ((0, 4),)
    assert valid_claims(pulse, tries).ranges() == ((0, 1), (3, 4))
    assert valid_claims(replace(pulse, attempts=(AttemptRange(2, 3, 1),)), tries).ranges() == ((0, 1), (2, 4))
    one.assign(replace(span(1, 1), attempt=1), 1.0)
    assert one.reconcile(replace(pulse, last_sequence=1), LINES, tries) == [replace(span(1, 1, 3, 1), attempt=1)]


def test_what_failed_goes_out_again_with_more_tries_and_rather_to_another() -> None:
    one = lane()
    one.assign(span(0, 4), 1.0)
    one.assign(replace(span(7, 1), attempt=2), 1.0)
    one.reconcile(replace(PULSE, last_sequence=2, unfinished=((0, 4), (7, 8))), LINES, AttemptCounts())
    assert one.take_for_retry(AttemptRange(1, 8, 2), LINES, due=5.0) == [
        replace(span(1, 3), attempt=2, due=5.0, avoid_worker="ann")
    ]
    assert list(one.assigned_ranges.values()) == [replace(span(7, 1, 3, 2), attempt=2), span(0, 1, 3, 1)]
    assert one.claims.ranges() == ((0, 1),)  # until a pulse says that it holds the next try
    assert one.size == len(b"7\n0\n")


def test_what_goes_out_is_of_its_lane_and_waits_for_nobody_any_more() -> None:
    back = replace(span(5, 1, lane=1, sequence=9), attempt=2, due=7.0, avoid_worker="bob")
    assert lane().assign(back, 8.0) == replace(span(5, 1, lane=3, sequence=1), attempt=2)


def test_unfinished_is_what_it_was_given_and_is_not_known_to_have_ended() -> None:
    one = lane()
    one.assign(span(0, 4), 1.0)
    assert one.unfinished().ranges() == ((0, 4),)
    one.reconcile(replace(PULSE, last_sequence=1, unfinished=((2, 4),), unacked=((0, 2),)), LINES, AttemptCounts())
    one.assign(span(8, 1), 2.0)
    assert one.unfinished().ranges() == ((2, 4), (8, 9))


def test_who_has_one_suspect_alone_gets_nothing_else_until_that_has_gone() -> None:
    one = lane()
    one.isolation = "draining"
    assert (one.free_credit(), one.allowance()) == (0, 4)
    one.assign(span(0, 1), 1.0)
    one.isolation = "alone"
    assert (one.free_credit(), one.allowance()) == (0, 3)
    one.settle(RangeSet([(0, 1)]), LINES)
    assert (one.free_credit(), one.isolation) == (3, "")


def test_what_is_settled_is_forgotten() -> None:
    one = lane()
    one.assign(span(0, 4), 1.0)
    one.settle(RangeSet(((0, 1), (2, 3))), LINES)
    assert list(one.assigned_ranges.values()) == [span(1, 1, 3, 1), span(3, 1, 3, 1)]
    one.settle(RangeSet(((0, 9),)), LINES)
    assert (one.assigned_ranges, one.size) == ({}, 0)


def test_chunks_grow_fourfold_per_measurement_towards_so_much_work() -> None:
    one, sizes = lane(), []
    for done in (1, 1, 5, 21, 100, 200, 300):
        one.on_heartbeat(replace(PULSE, done_count=done, seconds_per_task=CHUNK_WORK_SECONDS / 300), b"peer", 0.0)
        sizes.append(one.chunk_tasks)
    assert sizes == [MAX_CHUNK_GROWTH, MAX_CHUNK_GROWTH, 16, 64, 256, 300, 300]
    one.on_heartbeat(replace(PULSE, done_count=301, seconds_per_task=2.0), b"peer", 0.0)
    assert one.chunk_tasks == 1


def test_a_chunk_is_a_fair_share_of_what_is_at_hand() -> None:
    one = lane()
    one.chunk_tasks = 10
    assert [chunk_task_count(one, at_hand, 4, None) for at_hand in (0, 3, 5, 40, 1000)] == [1, 1, 2, 10, 10]
    assert chunk_task_count(one, 1000, 0, None) == 10
    assert chunk_task_count(one, 1, 4, 7) == 7


def test_a_lane_that_swallows_chunks_while_pulses_come_is_overdue() -> None:
    one = lane()
    assert not one.is_stalled(1000.0)
    one.assign(span(0, 1), 10.0)
    assert not one.is_stalled(20.0)  # no pulse since: perhaps the worker is frozen
    one.on_heartbeat(PULSE, b"peer", 12.0)
    assert not one.is_stalled(10.0 + STALL_SECONDS)
    assert one.is_stalled(10.1 + STALL_SECONDS)
    one.on_heartbeat(replace(PULSE, last_sequence=1), b"peer", 14.0)
    assert not one.is_stalled(1000.0)


def test_a_large_chunk_has_more_time() -> None:
    one = lane()
    one.assign(RecordRange(0, 1, b"x" * 4_000_000), 10.0)
    one.on_heartbeat(PULSE, b"peer", 12.0)
    assert not one.is_stalled(16.9)
    assert one.is_stalled(17.1)


def test_each_repair_in_a_row_doubles_the_time_until_something_is_seen() -> None:
    one = lane()
    one.rebind(4)
    assert (one.number, one.endpoint, one.sequence) == (4, "", 0)
    one.endpoint = "ipc://again"
    one.assign(span(0, 1), 10.0)
    one.on_heartbeat(replace(PULSE, lane=4), b"peer", 12.0)
    assert not one.is_stalled(15.9)
    assert one.is_stalled(16.1)
    one.on_heartbeat(replace(PULSE, lane=4, last_sequence=1), b"peer", 17.0)
    one.assign(span(1, 1), 20.0)
    one.on_heartbeat(replace(PULSE, lane=4, last_sequence=1), b"peer", 22.0)
    assert one.is_stalled(23.1)


def test_silence_is_loss_and_unreachability_is_suspicion() -> None:
    one = lane()
    assert not one.is_silent(10.0, 10.0)
    assert one.is_silent(10.1, 10.0)
    one.unreachable_since = 1.0
    assert not one.is_silent(1.0 + UNREACHABLE_SECONDS, 10.0)
    assert one.is_silent(1.1 + UNREACHABLE_SECONDS, 10.0)
    one.on_heartbeat(PULSE, b"new", 3.0)
    assert (one.peer, one.unreachable_since) == (b"new", NEVER)
    assert not one.is_silent(13.0, 10.0)


def both() -> tuple[TaskStore, LaneTable, WorkerLane, WorkerLane]:
    """A stock, and all lanes: ann's, then bob's."""
    stock = TaskStore(LINES)
    lanes = LaneTable(stock)
    ann, bob = lane(), WorkerLane(4, replace(PULSE, worker="bob", lane=4), b"bob", 0.0)
    lanes.add(ann)
    lanes.add(bob)
    return stock, lanes, ann, bob


def back(stock: TaskStore) -> list[RecordRange]:
    """All that would be sent again."""
    spans = []
    while (taken := stock.next_requeued(lambda _: True)) is not None:
        spans.append(stock.take_requeued(taken, taken.count))
    return spans


def test_each_worker_has_its_lane() -> None:
    _, lanes, ann, bob = both()
    assert (list(lanes), len(lanes)) == ([ann, bob], 2)
    assert (lanes.get("ann"), lanes.get("bob"), lanes.get("eve")) == (ann, bob, None)
    for one in lanes:  # they may be closed while one looks through them
        lanes.close(one, 0.0)
    assert (list(lanes), len(lanes), lanes.get("ann")) == ([], 0, None)


def test_their_size_is_all_that_workers_hold() -> None:
    _, lanes, ann, bob = both()
    assert lanes.size == 0
    ann.assign(span(0, 2), 1.0)
    bob.assign(span(10, 1), 1.0)
    assert lanes.size == len(b"0\n1\n10\n")
    lanes.settle(RangeSet(((1, 11),)))
    assert lanes.size == len(b"0\n")


def test_all_lanes_forget_what_is_settled() -> None:
    _, lanes, ann, bob = both()
    ann.assign(span(0, 4), 1.0)
    bob.assign(span(4, 2), 1.0)
    lanes.settle(RangeSet(((0, 3), (5, 6))))
    assert (list(ann.assigned_ranges.values()), list(bob.assigned_ranges.values())) == (
        [span(3, 1, 3, 1)],
        [span(4, 1, 4, 1)],
    )


def test_claimed_is_what_any_worker_says_it_holds() -> None:
    _, lanes, ann, bob = both()
    assert lanes.claimed_tasks().ranges() == ()
    lanes.reconcile(ann, replace(PULSE, unfinished=((0, 2),), unacked=((7, 8),)))
    lanes.reconcile(bob, replace(PULSE, lane=4, unfinished=((2, 3),)))
    assert lanes.claimed_tasks().ranges() == ((0, 3), (7, 8))
    lanes.close(ann, 0.0)
    assert lanes.claimed_tasks().ranges() == ((2, 3),)


def test_who_goes_gives_back_all_but_what_others_hold() -> None:
    stock, lanes, ann, bob = both()
    ann.assign(span(0, 4), 1.0)
    lanes.reconcile(bob, replace(PULSE, lane=4, unfinished=((1, 2),)))
    lanes.close(ann, 0.0)
    assert list(bob.assigned_ranges.values()) == [span(1, 1)]
    assert back(stock) == [span(0, 1, 3, 1), span(2, 2, 3, 1)]


def test_what_a_pulse_does_not_hold_goes_back_and_what_it_does_is_not_sent_to_others() -> None:
    stock, lanes, ann, _ = both()
    ann.assign(span(0, 3), 1.0)
    stock.requeue(span(8, 2))
    lanes.reconcile(ann, replace(PULSE, last_sequence=1, unfinished=((1, 2), (8, 9))))
    assert list(ann.assigned_ranges.values()) == [span(1, 1, 3, 1), span(8, 1)]
    assert back(stock) == [span(0, 1, 3, 1), span(2, 1, 3, 1), span(9, 1)]


def test_what_is_adopted_is_of_no_lane_so_that_the_next_pulse_judges_it() -> None:
    stock, lanes, ann, _ = both()
    stock.requeue(span(5, 1, lane=9, sequence=70))
    ann.claims.add(5, 6)
    lanes.claim(ann)
    assert (list(ann.assigned_ranges.values()), back(stock)) == ([span(5, 1)], [])
    lanes.reconcile(ann, PULSE)
    assert (list(ann.assigned_ranges.values()), back(stock)) == ([], [span(5, 1)])


def test_what_a_lane_loses_goes_to_another_that_holds_it_and_not_to_itself() -> None:
    stock, lanes, ann, bob = both()
    ann.claims.add(0, 2)
    bob.claims.add(1, 2)
    lanes.requeue(ann, [span(0, 3)])
    assert (list(ann.assigned_ranges.values()), list(bob.assigned_ranges.values())) == ([], [span(1, 1)])
    assert back(stock) == [span(0, 1), span(2, 1)]


def test_all_that_anybody_has_of_an_earlier_try_goes_back() -> None:
    stock, lanes, ann, bob = both()
    ann.assign(span(0, 2), 1.0)
    bob.assign(span(4, 2), 1.0)
    stock.requeue(span(8, 2))
    lanes.retry(AttemptRange(1, 5, 1), 5.0)
    lanes.retry(AttemptRange(8, 9, 1), 6.0)
    assert (list(ann.assigned_ranges.values()), list(bob.assigned_ranges.values())) == (
        [span(0, 1, 3, 1)],
        [span(5, 1, 4, 1)],
    )
    assert back(stock) == [
        replace(span(1, 1), attempt=1, due=5.0, avoid_worker="ann"), replace(span(4, 1), attempt=1, due=5.0,
        avoid_worker="bob"),
        replace(span(8, 1), attempt=1, due=6.0), span(9, 1),
    ]  # fmt: skip


def test_what_is_adopted_keeps_its_tries() -> None:
    stock, lanes, ann, _ = both()
    stock.attempts.set(5, 6, 1)
    stock.requeue(replace(span(5, 1), attempt=1))
    lanes.reconcile(ann, replace(PULSE, unfinished=((5, 6),)))  # of the try before: nobody's
    assert (list(ann.assigned_ranges.values()), lanes.claimed_tasks().ranges()) == ([], ())
    lanes.reconcile(ann, replace(PULSE, unfinished=((5, 6),), attempts=(AttemptRange(5, 6, 1),)))
    assert (list(ann.assigned_ranges.values()), back(stock)) == ([replace(span(5, 1), attempt=1)], [])


def test_who_is_lost_makes_suspects_of_what_it_had_not_finished_until_it_comes_back() -> None:
    _, lanes, ann, bob = both()
    ann.assign(span(0, 3), 1.0)
    lanes.reconcile(ann, replace(PULSE, last_sequence=1, unfinished=((1, 3),), unacked=((0, 1),)))
    lanes.suspect(ann)
    assert [lanes.suspects.loss_count(task) for task in range(4)] == [0, 1, 1, 0]
    lanes.settle(RangeSet([(2, 3)]))
    assert [lanes.suspects.loss_count(task) for task in range(4)] == [0, 1, 0, 0]
    bob.assign(span(1, 1), 2.0)
    bob.isolation = "alone"
    lanes.suspect(bob)
    assert (lanes.suspects.loss_count(1), lanes.suspects.poison_tasks(1)) == (2, [1])
    lanes.add(WorkerLane(7, replace(PULSE, worker="bob"), b"bob", 3.0))
    assert (lanes.suspects.loss_count(1), lanes.suspects.poison_tasks(1)) == (1, [])


def test_what_one_had_who_leaves_because_the_run_is_over_goes_out_again_only_if_acks_go_on() -> None:
    stock, lanes, ann, _ = both()
    ann.assign(span(0, 2), 1.0)
    lanes.parked_at = 2.0
    lanes.close(ann, NEVER)
    lanes.resume_parked(1.9)
    assert stock.next_due(9.0) == NEVER
    assert [part.due for part in (stock.next_requeued(lambda _: True),) if part] == [NEVER]
    lanes.resume_parked(2.0)
    assert [part.due for part in (stock.next_requeued(lambda _: True),) if part] == [0.0]
