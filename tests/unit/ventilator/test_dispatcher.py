"""From the source to the lanes."""

from __future__ import annotations

import pytest

from pipeline.model.events import ReadRequest, RecordsRead
from pipeline.model.messages import Chunk, FailureKind, Heartbeat, RecordFormat, Result, RetryRange, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import VENTILATOR, Port, Send
from pipeline.model.state_machine import LaneAddress as LanePort
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

WANT = [Send(Port.SOURCE, ReadRequest(READ_BLOCK_BYTES))]
PULSE = Heartbeat(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=2,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip


def body(first: int, count: int) -> bytes:
    return b"".join(b"%d\n" % task for task in range(first, first + count))


def chunk(lane: int, sequence: int, first: int, count: int = 1, tries: int = 0) -> Send:
    return Send(LanePort(lane), Chunk("r", lane, sequence, first, count, body(first, count), tries))


def scene(chunk: int | None = None, window: int = 1 << 20, most: int | None = None) -> tuple[Dispatcher, LaneTable]:
    """With ann on lane 1 and bob on lane 2, each of whom may be sent two chunks; two losses alone convict."""
    feeding = Dispatcher(RecordFormat(), window, chunk, most, crash_limit=2)
    lanes = LaneTable(feeding.task_store)
    for number, name in enumerate(("ann", "bob"), start=1):
        join(lanes, number, name)
    return feeding, lanes


def join(lanes: LaneTable, number: int, name: str) -> WorkerLane:
    """A worker comes, and its lane is bound."""
    pulse = replace(PULSE, worker=name)
    lane = WorkerLane(number, pulse, b"peer", 0.0)
    lane.endpoint = f"ipc://{number}"
    lane.on_heartbeat(pulse, b"peer", 0.0)
    lanes.add(lane)
    return lane


def lose(lanes: LaneTable, name: str) -> None:
    """It falls silent."""
    lane = lanes.get(name)
    assert lane
    lanes.suspect(lane)
    lanes.close(lane, 0.0)


def pulsed(lanes: LaneTable, pulse: Heartbeat) -> None:
    """The worker says so, and is believed."""
    lane = lanes.get(pulse.worker)
    assert lane
    lane.on_heartbeat(pulse, b"peer", 1.0)
    lanes.reconcile(lane, pulse)


def test_it_reads_when_it_has_nothing_and_asks_once() -> None:
    feeding, lanes = scene()
    assert feeding.dispatch("r", lanes, 0.0) == WANT
    assert feeding.dispatch("r", lanes, 0.0) == []
    feeding.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), *WANT]


def test_lanes_are_fed_in_turn_and_no_more_than_they_asked_for() -> None:
    feeding, lanes = scene()
    feeding.on_records(RecordsRead(0, 9, body(0, 9)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 1), chunk(1, 2, 2), chunk(2, 2, 3), *WANT]
    assert feeding.dispatch("r", lanes, 0.0) == []
    pulsed(lanes, replace(PULSE, worker="bob", lane=2, last_sequence=2, credit_limit=3, unfinished=((1, 4),)))
    assert feeding.dispatch("r", lanes, 1.0) == [chunk(2, 3, 4)]


def test_the_size_of_a_chunk_can_be_fixed() -> None:
    feeding, lanes = scene(chunk=3)
    feeding.on_records(RecordsRead(0, 7, body(0, 7)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0, 3), chunk(2, 1, 3, 3), chunk(1, 2, 6, 1), *WANT]


def test_nothing_is_read_past_the_window() -> None:
    feeding, lanes = scene(window=4)
    feeding.on_records(RecordsRead(0, 2, body(0, 2)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 1)]  # 4 bytes are on the way
    feeding.settle(RangeSet(((1, 2),)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == WANT


def test_past_the_window_it_reads_on_to_what_is_needed() -> None:
    feeding, lanes = scene(window=4)
    feeding.on_records(RecordsRead(0, 3, body(0, 3)), lanes, 4)
    assert feeding.prefetch(lanes) == WANT
    feeding.on_records(RecordsRead(3, 1, body(3, 1)), lanes, 4)
    assert feeding.prefetch(lanes) == []


def test_it_reads_on_while_little_is_at_hand_and_keeps_the_order() -> None:
    feeding, lanes = scene(chunk=3)
    feeding.spill_full = True
    feeding.on_records(RecordsRead(0, 2, body(0, 2)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == WANT
    feeding.on_records(RecordsRead(2, 2, body(2, 2)), lanes)
    feeding.spill_full = False
    sends = feeding.dispatch("r", lanes, 0.0)
    assert sends == [chunk(1, 1, 0, 2), chunk(2, 1, 2, 2), *WANT]
    feeding.on_records(RecordsRead(4, 1, b"x" * PREFETCH_BYTES + b"\n"), lanes)
    feeding.spill_full = True
    assert feeding.dispatch("r", lanes, 0.0) == []


def test_after_the_end_nothing_is_read() -> None:
    feeding, lanes = scene()
    feeding.on_end_of_input()
    assert feeding.dispatch("r", lanes, 0.0) == []


@pytest.mark.parametrize("why", ["full", "ranges"])
def test_what_must_go_out_again_goes_even_when_nothing_new_may(why: str) -> None:
    feeding, lanes = scene()
    feeding.on_records(RecordsRead(0, 9, body(0, 9)), lanes)
    if why == "full":
        feeding.spill_full = True
    else:
        feeding.settled.update((at, at + 1) for at in range(100, 100 + 2 * MAX_RANGES, 2))
    assert feeding.dispatch("r", lanes, 0.0) == WANT
    feeding.task_store.requeue(RecordRange(20, 1, body(20, 1)))
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 20)]


def test_what_is_settled_or_held_already_is_read_but_not_sent() -> None:
    feeding, lanes = scene()
    pulsed(lanes, replace(PULSE, worker="bob", lane=2, unfinished=((3, 4),)))
    feeding.settle(RangeSet(((0, 2),)), lanes)
    feeding.on_records(RecordsRead(0, 6, body(0, 6)), lanes)
    bob = lanes.get("bob")
    assert bob
    assert [(span.first, span.body) for span in bob.assigned_ranges.values()] == [(3, b"3\n")]
    assert feeding.dispatch("r", lanes, 1.0) == [chunk(1, 1, 2), chunk(2, 1, 4), chunk(1, 2, 5), *WANT]


def test_what_is_settled_is_not_sent_again() -> None:
    feeding, lanes = scene()
    feeding.on_records(RecordsRead(0, 2, body(0, 2)), lanes)
    feeding.dispatch("r", lanes, 0.0)
    for lane in lanes:
        lanes.close(lane, 0.0)
    feeding.settle(RangeSet(((0, 1),)), lanes)
    assert (feeding.task_store.task_count, feeding.task_store.size) == (1, 2)


# --- another try


def test_what_failed_goes_out_again_when_it_is_due_and_to_another_worker() -> None:
    feeding, lanes = scene()
    feeding.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), *WANT]
    feeding.retry((RetryRange(0, 1, 1, 5.0),), lanes, 1.0)
    assert feeding.dispatch("r", lanes, 5.9) == []
    assert feeding.task_store.next_due(5.9) == 6.0
    assert feeding.dispatch("r", lanes, 6.0) == [chunk(2, 1, 0, tries=1)]


def test_the_same_wish_again_changes_nothing_and_a_later_try_counts_anew() -> None:
    feeding, lanes = scene()
    feeding.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    feeding.dispatch("r", lanes, 0.0)
    for now in (1.0, 2.0, 3.0):
        feeding.retry((RetryRange(0, 1, 1, 0.0),), lanes, now)
        assert feeding.dispatch("r", lanes, now) == ([chunk(2, 1, 0, tries=1)] if now == 1.0 else [])
    feeding.retry((RetryRange(0, 1, 2, 0.0),), lanes, 4.0)
    assert feeding.dispatch("r", lanes, 4.0) == [chunk(1, 2, 0, tries=2)]  # it is bob who is avoided now


def test_the_worker_where_it_failed_gets_it_when_there_is_no_other_or_none_has_had_room_for_a_while() -> None:
    for others, wait in ((0, 0.0), (1, AVOID_WORKER_SECONDS)):
        feeding, lanes = scene()
        feeding.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
        feeding.dispatch("r", lanes, 0.0)
        if others:
            pulsed(lanes, replace(PULSE, worker="bob", lane=2, credit_limit=0))
        else:
            lose(lanes, "bob")
        feeding.retry((RetryRange(0, 1, 1, 0.0),), lanes, 1.0)
        assert [feeding.dispatch("r", lanes, 1.0 + wait - 0.1)] * others == [[]] * others
        assert feeding.dispatch("r", lanes, 1.0 + wait) == [chunk(1, 2, 0, tries=1)]


def test_what_is_read_again_goes_out_with_the_tries_it_has_had() -> None:
    feeding, lanes = scene(chunk=9)
    feeding.retry((RetryRange(1, 2, 2, 7.0),), lanes, 0.0)  # this life has not read it yet
    feeding.on_records(RecordsRead(0, 3, body(0, 3)), lanes)
    sends = feeding.dispatch("r", lanes, 1.0)
    assert sends == [chunk(1, 1, 0), chunk(2, 1, 1, tries=2), chunk(1, 2, 2), *WANT]


def test_too_many_retries_are_a_reason_to_send_nothing_new_until_they_are_settled() -> None:
    feeding, lanes = scene()
    feeding.on_records(RecordsRead(0, 1, body(0, 1)), lanes)
    feeding.retry((RetryRange(100, 100 + MAX_RANGES, 1, 0.0),), lanes, 0.0)
    assert feeding.dispatch("r", lanes, 0.0) == WANT
    feeding.settle(RangeSet([(100, 100 + MAX_RANGES)]), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0)]


# --- suspects


def tried_by(workers: int) -> tuple[Dispatcher, LaneTable]:
    """So many workers were lost with tasks 0 to 3; ann, on the next lane, is there."""
    feeding, lanes = scene(chunk=4)
    for name in ("ann", "bob"):
        lose(lanes, name)
    feeding.on_records(RecordsRead(0, 4, body(0, 4)), lanes)
    feeding.on_end_of_input()
    for number in range(workers):
        join(lanes, 3 + number, f"w{number}")
        for send in feeding.dispatch("r", lanes, 0.0):
            assert isinstance(send.message, Chunk)
        lose(lanes, f"w{number}")
    join(lanes, 9, "ann")
    return feeding, lanes


def test_who_was_lost_with_one_worker_goes_out_again_as_before_and_with_two_singly() -> None:
    feeding, lanes = tried_by(1)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(9, 1, 0, 4)]
    feeding, lanes = tried_by(2)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(9, 1, 0), chunk(9, 2, 1)]


def test_a_chunk_does_not_mix_suspects_with_others() -> None:
    feeding, lanes = scene(chunk=9)
    feeding.task_store.requeue(RecordRange(0, 5, body(0, 5)))
    feeding.on_end_of_input()
    lanes.suspects.on_worker_lost("eve", RangeSet([(2, 4)]), is_isolated=False)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0, 2), chunk(2, 1, 2, 2), chunk(1, 2, 4)]


def alone(*tasks: int) -> tuple[Dispatcher, LaneTable]:
    """These have taken three workers along; two more wait to be sent again."""
    feeding, lanes = scene()
    feeding.on_end_of_input()
    for task in (*tasks, 7, 8):
        feeding.task_store.requeue(RecordRange(task, 1, body(task, 1)))
    for name in ("x", "y", "z"):
        lanes.suspects.on_worker_lost(name, RangeSet((task, task + 1) for task in tasks), is_isolated=False)
    return feeding, lanes


def test_who_was_lost_with_three_goes_alone_to_a_worker_that_has_nothing_else() -> None:
    feeding, lanes = alone(0, 1)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 7), chunk(2, 2, 8)]
    assert feeding.dispatch("r", lanes, 0.1) == []  # one at a time
    feeding.settle(RangeSet([(0, 1), (7, 9)]), lanes)
    assert feeding.dispatch("r", lanes, 0.2) == [chunk(1, 2, 1)]


def test_a_worker_that_has_something_is_given_nothing_more_until_it_can_have_one_alone() -> None:
    feeding, lanes = alone(0)
    for name, first in (("ann", 20), ("bob", 30)):
        lane = lanes.get(name)
        assert lane
        for task in range(first, first + (1 if name == "bob" else 2)):
            lane.hold(RecordRange(task, 1, body(task, 1)))
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 7), chunk(1, 2, 8)]  # bob has the least, and waits
    feeding.settle(RangeSet([(30, 31)]), lanes)
    assert feeding.dispatch("r", lanes, 0.1) == [chunk(2, 1, 0)]


def test_who_waited_to_be_alone_works_on_when_the_suspect_is_settled() -> None:
    feeding, lanes = alone(0)
    for lane in lanes:
        lane.hold(RecordRange(20 + lane.number, 1, body(20 + lane.number, 1)))
    feeding.dispatch("r", lanes, 0.0)
    ann = lanes.get("ann")
    assert ann
    assert (ann.isolation, ann.free_credit()) == ("draining", 0)
    feeding.settle(RangeSet([(0, 1)]), lanes)
    feeding.task_store.requeue(RecordRange(9, 1, body(9, 1)))
    lanes.suspects.on_worker_lost("eve", RangeSet([(50, 51)]), is_isolated=False)
    feeding.dispatch("r", lanes, 0.1)
    assert ann.isolation == ""


def judged(task: int, kind: FailureKind, text: str, record: bytes, tries: int = 0) -> Send:
    note = TaskFailure(task, kind, 0, text, "", record_size=len(record))
    return Send(Port.RESULTS, Result("r", VENTILATOR, task, 1, b"", bytes(4), b"", (note,), tries, record))


def test_who_takes_so_many_workers_along_alone_is_sent_to_none_any_more() -> None:
    feeding, lanes = alone(0)
    assert feeding.dispatch("r", lanes, 0.0)[0] == chunk(1, 1, 0)
    lose(lanes, "ann")
    feeding.settle(RangeSet([(7, 9)]), lanes)
    pulsed(lanes, replace(PULSE, worker="bob", lane=2, last_sequence=2, credit_limit=4))
    assert feeding.dispatch("r", lanes, 0.5) == [chunk(2, 3, 0)]
    lose(lanes, "bob")
    join(lanes, 3, "cid")
    text = "2 workers were lost while it ran there alone"
    assert feeding.dispatch("r", lanes, 1.0) == [judged(0, "poison", text, b"0")]
    assert feeding.dispatch("r", lanes, 2.0) == []
    assert feeding.local_failures.resend("r") == [judged(0, "poison", text, b"0")]


def test_its_neighbours_are_not_convicted_with_it() -> None:
    feeding, lanes = scene(chunk=9)
    feeding.on_end_of_input()
    feeding.task_store.requeue(RecordRange(0, 3, body(0, 3)))
    for name in ("x", "y"):
        lanes.suspects.on_worker_lost(name, RangeSet([(1, 2)]), is_isolated=True)
    sends = feeding.dispatch("r", lanes, 0.0)
    assert sends[0] == judged(1, "poison", "2 workers were lost while it ran there alone", b"1")
    assert sends[1:] == [chunk(1, 1, 0), chunk(2, 1, 2)]


# --- too large


def test_what_is_too_large_is_sent_to_nobody() -> None:
    feeding, lanes = scene(most=2)
    feeding.on_records(RecordsRead(98, 4, body(98, 4)), lanes)
    text = "a task of 3 bytes is more than --max-task-bytes"
    assert feeding.dispatch("r", lanes, 0.0) == [
        judged(100, "size", text, b"100"), judged(101, "size", text, b"101"), chunk(1, 1, 98), chunk(2, 1, 99), *WANT,
    ]  # fmt: skip
    feeding.settle(RangeSet([(100, 101)]), lanes)
    assert feeding.local_failures.resend("r") == [judged(101, "size", text, b"101")]


def test_what_is_too_large_and_settled_is_judged_no_more() -> None:
    feeding, lanes = scene(most=2)
    feeding.settle(RangeSet([(0, 101)]), lanes)
    feeding.on_records(RecordsRead(98, 4, body(98, 4)), lanes)
    assert [send.message.first for send in feeding.dispatch("r", lanes, 0.0) if isinstance(send.message, Result)] == [
        101
    ]


def test_what_was_read_and_turns_out_to_have_failed_in_a_former_life_goes_out_in_its_next_try() -> None:
    feeding, lanes = scene(chunk=9)
    feeding.on_end_of_input()
    feeding.on_records(RecordsRead(0, 3, body(0, 3)), lanes)
    feeding.retry((RetryRange(1, 2, 1, 0.0),), lanes, 0.0)
    sent = [send.message for send in feeding.dispatch("r", lanes, 0.0)]
    assert [(word.first, word.count, word.attempt) for word in sent if isinstance(word, Chunk)] == [
        (0, 1, 0), (1, 1, 1), (2, 1, 0),
    ]  # fmt: skip
