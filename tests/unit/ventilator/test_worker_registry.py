"""Registration, rejection and loss of workers."""

from __future__ import annotations

import pytest

from pipeline.model.events import CloseLane, LaneOpened, OpenLane, PeerRejected, Waiting, WorkerLost
from pipeline.model.messages import Goodbye, Heartbeat, Kill, RecordFormat, Registration
from pipeline.model.state_machine import PeerAddress, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.lane import WorkerLane
from pipeline.ventilator.task_store import RecordRange, TaskStore
from pipeline.ventilator.worker_registry import WorkerRegistry

TEMPLATE = Registration("r", "run", "", RecordFormat(), 0, "", "ipc://sink", "ipc://control", 1.0, 10.0)
ANN = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
BOB = replace(ANN, worker="bob")


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> RecordRange:
    return RecordRange(first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), lane, sequence)


@pytest.fixture
def store() -> TaskStore:
    return TaskStore(RecordFormat())


@pytest.fixture
def registry(store: TaskStore) -> WorkerRegistry:
    """Make one where ann has lane 1 and bob lane 2."""
    registry = WorkerRegistry(store, TEMPLATE, 0.0, peer_timeout=600.0)
    for number, heartbeat in enumerate((ANN, BOB), start=1):
        assert registry.on_heartbeat(heartbeat.worker.encode(), heartbeat, is_ack_current=True, now=0.0) == [
            Send(Port.LANES, OpenLane(number))
        ]
        assert registry.on_lane_opened(LaneOpened(number, f"ipc://{number}")) == [
            registration_sent(heartbeat.worker, number)
        ]
    return registry


def registration_sent(worker: str, lane: int, message: Registration = TEMPLATE) -> Send:
    return Send(PeerAddress(worker.encode()), replace(message, lane=lane, lane_endpoint=f"ipc://{lane}"))


def lane_of(registry: WorkerRegistry, worker: str) -> WorkerLane:
    """Return the lane of a registered worker."""
    lane = registry.lanes.get(worker)
    assert lane
    return lane


def drain(store: TaskStore) -> list[RecordRange]:
    """Take all requeued records."""
    spans = []
    while (requeued := store.next_requeued(lambda _: True)) is not None:
        spans.append(store.take_requeued(requeued, requeued.count))
    return spans


def test_registration_is_sent_only_if_unknown_to_worker(registry: WorkerRegistry) -> None:
    registered = replace(ANN, run="r", lane=1)
    assert registry.on_heartbeat(b"ann", registered, is_ack_current=True, now=1.0) == []
    assert registry.on_heartbeat(b"ann", replace(registered, lane=0), is_ack_current=True, now=1.0) == [
        registration_sent("ann", 1)
    ]
    assert registry.on_heartbeat(b"ann", replace(registered, run="old"), is_ack_current=True, now=1.0) == [
        registration_sent("ann", 1)
    ]
    assert registry.send_registrations() == [registration_sent("ann", 1), registration_sent("bob", 2)]


def test_early_heartbeats_are_answered_at_start_of_run(store: TaskStore) -> None:
    registry = WorkerRegistry(store, replace(TEMPLATE, run=""), 0.0, peer_timeout=600.0)
    for _ in range(2):
        assert registry.on_heartbeat(b"ann", ANN, is_ack_current=True, now=1.0) == []
    assert registry.on_heartbeat(b"bob", BOB, is_ack_current=True, now=2.0) == []
    assert (len(registry.lanes), registry.expire_silent(100.0)) == (0, [])
    assert registry.on_heartbeat(b"cid", replace(ANN, worker="cid"), is_ack_current=True, now=100.0) == []
    assert registry.on_heartbeat(b"bob", BOB, is_ack_current=True, now=100.0) == []
    assert registry.on_heartbeat(b"dan", replace(ANN, worker="dan"), is_ack_current=True, now=100.0) == []
    assert registry.on_goodbye(Goodbye("dan"), 1.0) == []
    # ann has been silent for longer than the heartbeat timeout, and dan has left
    assert registry.start_run("r", RecordFormat(), 101.0) == [
        Send(Port.LANES, OpenLane(1)),
        Send(Port.LANES, OpenLane(2)),
    ]
    assert registry.on_lane_opened(LaneOpened(1, "ipc://1")) == [
        registration_sent("bob", 1)
    ]  # its first heartbeat was earlier


def test_missing_workers_are_reported_once(store: TaskStore) -> None:
    registry = WorkerRegistry(store, TEMPLATE, 0.0, peer_timeout=600.0)
    assert registry.expire_silent(1.9) == []
    assert registry.expire_silent(2.0) == [Send(Port.USER, Waiting("worker"))]
    assert registry.expire_silent(2.1) == []
    assert registry.on_heartbeat(b"ann", ANN, is_ack_current=True, now=3.0) == [
        Send(Port.USER, Waiting("worker", active=False)), Send(Port.LANES, OpenLane(1)),
    ]  # fmt: skip


def test_unbound_lane_is_not_announced(store: TaskStore) -> None:
    registry = WorkerRegistry(store, TEMPLATE, 0.0, peer_timeout=600.0)
    registry.on_heartbeat(b"ann", ANN, is_ack_current=True, now=0.0)
    assert registry.on_heartbeat(b"ann", ANN, is_ack_current=True, now=0.1) == []
    assert registry.send_registrations() == []


def test_opened_lane_without_worker_is_closed(registry: WorkerRegistry) -> None:
    assert registry.on_lane_opened(LaneOpened(77, "ipc://77")) == [Send(Port.LANES, CloseLane(77))]


def test_worker_with_other_command_is_rejected(registry: WorkerRegistry) -> None:
    reason = "worker runs 'rm' but this run uses 'wc'"
    eve = replace(ANN, worker="eve", digest="e", command="rm")
    refusal, warning = registry.on_heartbeat(b"eve", eve, is_ack_current=True, now=1.0)
    hinted = f"{reason}\nhint: use the command of this run, or discard the run with --restart"
    assert refusal == Send(PeerAddress(b"eve"), replace(TEMPLATE, state="refused", reason=hinted))
    assert warning == Send(Port.USER, PeerRejected("eve", reason))  # the worker shows the hint
    assert registry.lanes.get("eve") is None
    assert Send(Port.USER, PeerRejected("eve", reason)) not in registry.refuse(b"eve", "eve", hinted)
    assert Send(Port.USER, PeerRejected("eve", "other")) in registry.refuse(b"eve", "eve", "other")


def test_resumed_run_keeps_its_command(store: TaskStore) -> None:
    registry = WorkerRegistry(store, TEMPLATE, 0.0, peer_timeout=600.0)
    registry.set_command("d", "wc")
    registry.set_command("", "")  # from a sink that knows of no worker yet
    eve = replace(ANN, worker="eve", digest="e", command="rm")
    reason = "worker runs 'rm' but this run uses 'wc'"
    assert Send(Port.USER, PeerRejected("eve", reason)) in registry.on_heartbeat(
        b"eve", eve, is_ack_current=True, now=1.0
    )
    assert Send(Port.LANES, OpenLane(1)) in registry.on_heartbeat(b"ann", ANN, is_ack_current=True, now=1.0)


def test_missing_tasks_are_requeued_if_ack_is_current(registry: WorkerRegistry, store: TaskStore) -> None:
    lane_of(registry, "ann").assign(span(0, 4), 1.0)
    heartbeat = replace(ANN, run="r", lane=1, last_sequence=1, unfinished=((0, 1), (3, 4)))
    assert registry.on_heartbeat(b"ann", heartbeat, is_ack_current=False, now=2.0) == []
    assert drain(store) == []
    assert registry.on_heartbeat(b"ann", heartbeat, is_ack_current=True, now=2.0) == []
    assert drain(store) == [span(1, 2, 1, 1)]
    assert registry.lanes.claimed_tasks().ranges() == ((0, 1), (3, 4))


def test_claims_of_another_run_are_ignored(registry: WorkerRegistry, store: TaskStore) -> None:
    lane_of(registry, "ann").assign(span(0, 4), 1.0)
    store.requeue(span(8, 1))
    other_run = replace(ANN, run="old", lane=1, last_sequence=9, unfinished=((8, 9),))
    assert registry.on_heartbeat(b"ann", other_run, is_ack_current=True, now=2.0) == [registration_sent("ann", 1)]
    assert list(lane_of(registry, "ann").assigned_ranges.values()) == [span(0, 4, 1, 1)]
    assert drain(store) == [span(8, 1)]


def test_goodbye_requeues_except_claims_of_others(registry: WorkerRegistry, store: TaskStore) -> None:
    registry.on_heartbeat(b"bob", replace(BOB, run="r", lane=2, unfinished=((1, 2),)), is_ack_current=True, now=1.0)
    lane_of(registry, "ann").assign(span(0, 4), 1.0)
    assert registry.on_goodbye(Goodbye("ann"), 1.0) == [Send(Port.LANES, CloseLane(1))]
    assert registry.on_goodbye(Goodbye("ann"), 1.0) == []
    assert drain(store) == [span(0, 1, 1, 1), span(2, 2, 1, 1)]
    assert list(lane_of(registry, "bob").assigned_ranges.values()) == [span(1, 1)]


def test_silent_worker_is_lost(registry: WorkerRegistry, store: TaskStore) -> None:
    lane_of(registry, "ann").assign(span(0, 4), 1.0)
    registry.on_heartbeat(b"bob", replace(BOB, run="r", lane=2), is_ack_current=True, now=5.0)
    assert registry.expire_silent(7.9) == []
    assert registry.expire_silent(10.0) == [Send(Port.USER, Waiting("worker"))]
    assert registry.expire_silent(10.1) == [Send(Port.LANES, CloseLane(1)), Send(Port.USER, WorkerLost("ann", 4))]
    assert drain(store) == [span(0, 4, 1, 1)]
    assert [lane.worker for lane in registry.lanes] == ["bob"]


def test_only_lost_workers_make_suspects(registry: WorkerRegistry) -> None:
    lane_of(registry, "ann").assign(span(0, 2), 1.0)
    lane_of(registry, "bob").assign(span(4, 2), 1.0)
    registry.on_goodbye(Goodbye("bob"), 1.0)
    registry.expire_silent(10.1)
    assert [registry.lanes.suspects.loss_count(task) for task in range(6)] == [1, 1, 0, 0, 0, 0]
    registry.on_heartbeat(b"ann", replace(ANN, run="r", lane=1), is_ack_current=True, now=11.0)
    assert len(registry.lanes.suspects) == 0


def test_unreachable_worker_is_lost_sooner(registry: WorkerRegistry) -> None:
    registry.on_peer_unreachable(b"ann", 1.0)
    registry.on_peer_unreachable(b"ann", 2.5)  # counts from the first time
    registry.on_peer_unreachable(b"bob", 1.0)
    assert registry.expire_silent(2.9) == []
    registry.on_heartbeat(b"bob's new", replace(BOB, run="r", lane=2), is_ack_current=True, now=2.9)
    registry.on_peer_unreachable(b"bob", 2.95)
    assert registry.expire_silent(3.1) == [Send(Port.LANES, CloseLane(1)), Send(Port.USER, WorkerLost("ann", 0, True))]
    assert registry.expire_silent(5.8) == []


def test_worker_without_connection_is_lost_at_once_if_a_death_is_reported(registry: WorkerRegistry) -> None:
    registry.on_peer_unreachable(b"ann", 1.0)
    assert registry.on_worker_dead(1.5) == registry.send_registrations() != []
    registry.on_peer_unreachable(b"ann", 1.5)
    assert registry.expire_silent(1.5) == [Send(Port.LANES, CloseLane(1)), Send(Port.USER, WorkerLost("ann", 0, True))]
    registry.on_peer_unreachable(b"bob", 2.6)
    registry.expire_silent(2.6)
    assert [lane.worker for lane in registry.lanes] == ["bob"]


def test_stalled_lane_is_replaced(registry: WorkerRegistry, store: TaskStore) -> None:
    lane_of(registry, "ann").assign(span(0, 1), 1.0)
    registered = replace(ANN, run="r", lane=1)
    registry.on_heartbeat(b"ann", registered, is_ack_current=True, now=4.5)
    assert registry.expire_silent(4.6) == [Send(Port.LANES, CloseLane(1)), Send(Port.LANES, OpenLane(3))]
    assert registry.on_lane_opened(LaneOpened(3, "ipc://3")) == [registration_sent("ann", 3)]
    assert registry.on_heartbeat(b"ann", registered, is_ack_current=True, now=4.7) == [registration_sent("ann", 3)]
    assert drain(store) == []
    assert registry.on_heartbeat(b"ann", replace(registered, lane=3), is_ack_current=True, now=4.8) == []
    assert drain(store) == [span(0, 1, 1, 1)]


def test_returning_worker_keeps_claims_and_gets_newer_lane(registry: WorkerRegistry, store: TaskStore) -> None:
    store.requeue(span(5, 3))
    eve = replace(
        ANN, worker="eve", run="r", lane=7, last_sequence=20, credit_limit=22, unfinished=((5, 6),), unacked=((7, 8),)
    )
    assert registry.on_heartbeat(b"eve", eve, is_ack_current=True, now=1.0) == [Send(Port.LANES, OpenLane(8))]
    assert list(lane_of(registry, "eve").assigned_ranges.values()) == [span(5, 1), span(7, 1)]
    assert drain(store) == [span(6, 1)]
    registry.on_lane_opened(LaneOpened(8, "ipc://8"))
    assert lane_of(registry, "eve").free_credit() == 2


def test_end_of_run_is_sent_and_no_lane_opens(registry: WorkerRegistry) -> None:
    end_of_run = replace(TEMPLATE, state="over", reason="pipe kill")
    assert registry.end_run(Kill("r", "now", "pipe kill", 0)) == [
        registration_sent("ann", 1, end_of_run),
        registration_sent("bob", 2, end_of_run),
    ]
    eve = replace(ANN, worker="eve")
    assert registry.on_heartbeat(b"eve", eve, is_ack_current=True, now=1.0) == [Send(PeerAddress(b"eve"), end_of_run)]
    assert registry.lanes.get("eve") is None
