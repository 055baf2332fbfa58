"""The desk: who gets a lane, who is refused, who is lost, and all that is said on the way."""

from __future__ import annotations

import pytest

from pipeline.model.events import CloseLane, LaneOpened, OpenLane, PeerRejected, Waiting, WorkerLost
from pipeline.model.messages import Goodbye, Heartbeat, Kill, RecordFormat, Registration
from pipeline.model.state_machine import PeerAddress, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.lane import WorkerLane
from pipeline.ventilator.task_store import RecordRange, TaskStore
from pipeline.ventilator.worker_registry import WorkerRegistry

WORD = Registration("r", "run", "", RecordFormat(), 0, "", "ipc://sink", "ipc://control", 1.0, 10.0)
ANN = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
BOB = replace(ANN, worker="bob")


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> RecordRange:
    return RecordRange(first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), lane, sequence)


@pytest.fixture
def stock() -> TaskStore:
    return TaskStore(RecordFormat())


@pytest.fixture
def desk(stock: TaskStore) -> WorkerRegistry:
    """A desk where ann has lane 1 and bob lane 2."""
    made = WorkerRegistry(stock, WORD, 0.0, peer_timeout=600.0)
    for number, pulse in enumerate((ANN, BOB), start=1):
        assert made.on_heartbeat(pulse.worker.encode(), pulse, is_ack_current=True, now=0.0) == [
            Send(Port.LANES, OpenLane(number))
        ]
        assert made.on_lane_opened(LaneOpened(number, f"ipc://{number}")) == [welcome(pulse.worker, number)]
    return made


def welcome(worker: str, lane: int, word: Registration = WORD) -> Send:
    return Send(PeerAddress(worker.encode()), replace(word, lane=lane, lane_endpoint=f"ipc://{lane}"))


def lane_of(desk: WorkerRegistry, worker: str) -> WorkerLane:
    """The lane of a worker that has one."""
    lane = desk.lanes.get(worker)
    assert lane
    return lane


def back(stock: TaskStore) -> list[RecordRange]:
    """All that would be sent again."""
    spans = []
    while (taken := stock.next_requeued(lambda _: True)) is not None:
        spans.append(stock.take_requeued(taken, taken.count))
    return spans


def test_a_welcome_is_said_only_to_who_does_not_know_it(desk: WorkerRegistry) -> None:
    knows = replace(ANN, run="r", lane=1)
    assert desk.on_heartbeat(b"ann", knows, is_ack_current=True, now=1.0) == []
    assert desk.on_heartbeat(b"ann", replace(knows, lane=0), is_ack_current=True, now=1.0) == [welcome("ann", 1)]
    assert desk.on_heartbeat(b"ann", replace(knows, run="old"), is_ack_current=True, now=1.0) == [welcome("ann", 1)]
    assert desk.send_registrations() == [welcome("ann", 1), welcome("bob", 2)]


def test_who_calls_before_there_is_a_run_is_answered_when_there_is_one(stock: TaskStore) -> None:
    desk = WorkerRegistry(stock, replace(WORD, run=""), 0.0, peer_timeout=600.0)
    for _ in range(2):
        assert desk.on_heartbeat(b"ann", ANN, is_ack_current=True, now=1.0) == []
    assert desk.on_heartbeat(b"bob", BOB, is_ack_current=True, now=2.0) == []
    assert (len(desk.lanes), desk.expire_silent(100.0)) == (0, [])
    assert desk.on_heartbeat(b"cid", replace(ANN, worker="cid"), is_ack_current=True, now=100.0) == []
    assert desk.on_heartbeat(b"bob", BOB, is_ack_current=True, now=100.0) == []
    assert desk.on_heartbeat(b"dan", replace(ANN, worker="dan"), is_ack_current=True, now=100.0) == []
    assert desk.on_goodbye(Goodbye("dan"), 1.0) == []
    # ann has been silent for longer than the liveness, and dan has left
    assert desk.start_run("r", RecordFormat(), 101.0) == [Send(Port.LANES, OpenLane(1)), Send(Port.LANES, OpenLane(2))]
    assert desk.on_lane_opened(LaneOpened(1, "ipc://1")) == [welcome("bob", 1)]  # it was the first to call


def test_it_says_that_no_worker_comes(stock: TaskStore) -> None:
    desk = WorkerRegistry(stock, WORD, 0.0, peer_timeout=600.0)
    assert desk.expire_silent(1.9) == []
    assert desk.expire_silent(2.0) == [Send(Port.USER, Waiting("worker"))]
    assert desk.expire_silent(2.1) == []
    assert desk.on_heartbeat(b"ann", ANN, is_ack_current=True, now=3.0) == [
        Send(Port.USER, Waiting("worker", active=False)), Send(Port.LANES, OpenLane(1)),
    ]  # fmt: skip


def test_nothing_is_said_of_a_lane_before_it_is_bound(stock: TaskStore) -> None:
    desk = WorkerRegistry(stock, WORD, 0.0, peer_timeout=600.0)
    desk.on_heartbeat(b"ann", ANN, is_ack_current=True, now=0.0)
    assert desk.on_heartbeat(b"ann", ANN, is_ack_current=True, now=0.1) == []
    assert desk.send_registrations() == []


def test_a_lane_that_nobody_wants_any_more_is_shut(desk: WorkerRegistry) -> None:
    assert desk.on_lane_opened(LaneOpened(77, "ipc://77")) == [Send(Port.LANES, CloseLane(77))]


def test_a_worker_with_another_command_is_refused_by_name(desk: WorkerRegistry) -> None:
    reason = "it would run 'rm', this run is 'wc'"
    eve = replace(ANN, worker="eve", digest="e", command="rm")
    assert desk.on_heartbeat(b"eve", eve, is_ack_current=True, now=1.0) == [
        Send(PeerAddress(b"eve"), replace(WORD, state="refused", reason=reason)),
        Send(Port.USER, PeerRejected("eve", reason)),
    ]
    assert desk.lanes.get("eve") is None


def test_the_command_of_a_run_that_goes_on_is_the_one_it_began_with(stock: TaskStore) -> None:
    desk = WorkerRegistry(stock, WORD, 0.0, peer_timeout=600.0)
    desk.command_check.set_command("", "")
    desk.command_check.set_command("d", "wc")
    eve = replace(ANN, worker="eve", digest="e", command="rm")
    reason = "it would run 'rm', this run is 'wc'"
    assert Send(Port.USER, PeerRejected("eve", reason)) in desk.on_heartbeat(b"eve", eve, is_ack_current=True, now=1.0)
    assert Send(Port.LANES, OpenLane(1)) in desk.on_heartbeat(b"ann", ANN, is_ack_current=True, now=1.0)


def test_what_a_worker_does_not_hold_any_more_goes_back(desk: WorkerRegistry, stock: TaskStore) -> None:
    lane_of(desk, "ann").assign(span(0, 4), 1.0)
    pulse = replace(ANN, run="r", lane=1, last_sequence=1, unfinished=((0, 1), (3, 4)))
    assert (
        desk.on_heartbeat(b"ann", pulse, is_ack_current=False, now=2.0) == []
    )  # its Ack is newer than ours: who knows
    assert back(stock) == []
    assert desk.on_heartbeat(b"ann", pulse, is_ack_current=True, now=2.0) == []
    assert back(stock) == [span(1, 2, 1, 1)]
    assert desk.lanes.claimed_tasks().ranges() == ((0, 1), (3, 4))


def test_what_a_worker_of_another_run_holds_says_nothing(desk: WorkerRegistry, stock: TaskStore) -> None:
    lane_of(desk, "ann").assign(span(0, 4), 1.0)
    stock.requeue(span(8, 1))
    old = replace(ANN, run="old", lane=1, last_sequence=9, unfinished=((8, 9),))
    assert desk.on_heartbeat(b"ann", old, is_ack_current=True, now=2.0) == [welcome("ann", 1)]
    assert list(lane_of(desk, "ann").assigned_ranges.values()) == [span(0, 4, 1, 1)]
    assert back(stock) == [span(8, 1)]


def test_who_leaves_gives_back_all_but_what_others_hold(desk: WorkerRegistry, stock: TaskStore) -> None:
    desk.on_heartbeat(b"bob", replace(BOB, run="r", lane=2, unfinished=((1, 2),)), is_ack_current=True, now=1.0)
    lane_of(desk, "ann").assign(span(0, 4), 1.0)
    assert desk.on_goodbye(Goodbye("ann"), 1.0) == [Send(Port.LANES, CloseLane(1))]
    assert desk.on_goodbye(Goodbye("ann"), 1.0) == []
    assert back(stock) == [span(0, 1, 1, 1), span(2, 2, 1, 1)]
    assert list(lane_of(desk, "bob").assigned_ranges.values()) == [span(1, 1)]


def test_silence_loses_a_worker(desk: WorkerRegistry, stock: TaskStore) -> None:
    lane_of(desk, "ann").assign(span(0, 4), 1.0)
    desk.on_heartbeat(b"bob", replace(BOB, run="r", lane=2), is_ack_current=True, now=5.0)
    assert desk.expire_silent(7.9) == []
    assert desk.expire_silent(10.0) == [Send(Port.USER, Waiting("worker"))]
    assert desk.expire_silent(10.1) == [Send(Port.LANES, CloseLane(1)), Send(Port.USER, WorkerLost("ann", 4))]
    assert back(stock) == [span(0, 4, 1, 1)]
    assert [lane.worker for lane in desk.lanes] == ["bob"]


def test_only_who_is_lost_makes_suspects_of_what_it_held(desk: WorkerRegistry) -> None:
    lane_of(desk, "ann").assign(span(0, 2), 1.0)
    lane_of(desk, "bob").assign(span(4, 2), 1.0)
    desk.on_goodbye(Goodbye("bob"), 1.0)
    desk.expire_silent(10.1)
    assert [desk.lanes.suspects.loss_count(task) for task in range(6)] == [1, 1, 0, 0, 0, 0]
    desk.on_heartbeat(b"ann", replace(ANN, run="r", lane=1), is_ack_current=True, now=11.0)
    assert len(desk.lanes.suspects) == 0


def test_who_cannot_be_reached_is_lost_sooner_unless_it_calls_again(desk: WorkerRegistry) -> None:
    desk.on_peer_unreachable(b"ann", 1.0)
    desk.on_peer_unreachable(b"ann", 2.5)  # said again, it counts from the first time
    desk.on_peer_unreachable(b"bob", 1.0)
    assert desk.expire_silent(2.9) == []
    desk.on_heartbeat(b"bob's new", replace(BOB, run="r", lane=2), is_ack_current=True, now=2.9)
    desk.on_peer_unreachable(b"bob", 2.95)
    assert desk.expire_silent(3.1) == [Send(Port.LANES, CloseLane(1)), Send(Port.USER, WorkerLost("ann", 0))]
    assert desk.expire_silent(5.8) == []


def test_a_lane_that_swallows_chunks_is_replaced(desk: WorkerRegistry, stock: TaskStore) -> None:
    lane_of(desk, "ann").assign(span(0, 1), 1.0)
    knows = replace(ANN, run="r", lane=1)
    desk.on_heartbeat(b"ann", knows, is_ack_current=True, now=4.5)
    assert desk.expire_silent(4.6) == [Send(Port.LANES, CloseLane(1)), Send(Port.LANES, OpenLane(3))]
    assert desk.on_lane_opened(LaneOpened(3, "ipc://3")) == [welcome("ann", 3)]
    assert desk.on_heartbeat(b"ann", knows, is_ack_current=True, now=4.7) == [welcome("ann", 3)]
    assert back(stock) == []
    assert desk.on_heartbeat(b"ann", replace(knows, lane=3), is_ack_current=True, now=4.8) == []
    assert back(stock) == [span(0, 1, 1, 1)]


def test_what_a_returning_worker_holds_is_adopted_and_its_lane_is_newer(desk: WorkerRegistry, stock: TaskStore) -> None:
    stock.requeue(span(5, 3))
    eve = replace(
        ANN, worker="eve", run="r", lane=7, last_sequence=20, credit_limit=22, unfinished=((5, 6),), unacked=((7, 8),)
    )
    assert desk.on_heartbeat(b"eve", eve, is_ack_current=True, now=1.0) == [Send(Port.LANES, OpenLane(8))]
    assert list(lane_of(desk, "eve").assigned_ranges.values()) == [span(5, 1), span(7, 1)]
    assert back(stock) == [span(6, 1)]
    desk.on_lane_opened(LaneOpened(8, "ipc://8"))
    assert lane_of(desk, "eve").free_credit() == 2


def test_when_it_is_over_everybody_is_told_and_nobody_gets_a_lane(desk: WorkerRegistry) -> None:
    over = replace(WORD, state="over", reason="pipe kill")
    assert desk.end_run(Kill("r", "now", "pipe kill", 0)) == [welcome("ann", 1, over), welcome("bob", 2, over)]
    eve = replace(ANN, worker="eve")
    assert desk.on_heartbeat(b"eve", eve, is_ack_current=True, now=1.0) == [Send(PeerAddress(b"eve"), over)]
    assert desk.lanes.get("eve") is None
