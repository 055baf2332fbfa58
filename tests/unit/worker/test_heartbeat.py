"""Heartbeats of a worker."""

from __future__ import annotations

from pipeline.model.events import Reconnect, TasksFinished
from pipeline.model.messages import (
    Ack,
    AttemptRange,
    Chunk,
    Heartbeat,
    RecordFormat,
    Registration,
    ResendRequest,
    Result,
    TaskFailure,
)
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.worker.heartbeat import MAX_UNACKED_BYTES, REPORT_AFTER_BYTES, HeartbeatSender, WorkerIdentity
from pipeline.worker.held_tasks import HeldTasks

REGISTRATION = Registration("r", "run", "", RecordFormat(), 3, "ipc://l", "ipc://s", "ipc://c", 2.0, 20.0)
FIRST_HEARTBEAT = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=2,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
JOINED_HEARTBEAT = replace(FIRST_HEARTBEAT, number=2, run="r", lane=3)
RESULT = Result("", "", 0, 1, b"x", b"\1\0\0\0", b"e", (TaskFailure(0, "exit", 1, "", "", 0),))
FINISHED = TasksFinished(RESULT, 0.5)


def make_chunk(sequence: int, first: int, count: int = 1) -> Chunk:
    return Chunk("r", 3, sequence, first, count, b"x\n" * count)


def make_sender() -> tuple[HeartbeatSender, HeldTasks]:
    """Make the sender of ann with two slots, which has joined run r on lane 3."""
    held_tasks = HeldTasks(2, 10.0)
    sender = HeartbeatSender(WorkerIdentity("ann", "d", "wc", 2), held_tasks, 10.0)
    assert sender.tick(10.0, can_request=True) == [Send(Port.REGISTRY, FIRST_HEARTBEAT)]
    assert sender.on_registration(REGISTRATION) == [Send(Port.LANES, Reconnect("ipc://l"))]
    return sender, held_tasks


def test_joined_worker_sends_heartbeats_to_both_peers() -> None:
    sender, _ = make_sender()
    assert sender.is_urgent
    assert sender.tick(10.5, can_request=True) == [
        Send(Port.REGISTRY, JOINED_HEARTBEAT),
        Send(Port.RESULTS, JOINED_HEARTBEAT),
    ]
    assert (sender.is_urgent, sender.next_heartbeat_time) == (False, 12.5)
    assert sender.tick(12.4, can_request=True) == []
    heartbeat = replace(JOINED_HEARTBEAT, number=3)
    assert sender.tick(12.5, can_request=True) == [Send(Port.REGISTRY, heartbeat), Send(Port.RESULTS, heartbeat)]
    assert sender.next_heartbeat_time == 14.5


def test_new_lane_is_reported_to_ventilator_alone() -> None:
    sender, _ = make_sender()
    sender.tick(10.5, can_request=True)
    sender.on_registration(replace(REGISTRATION, lane=4))
    assert sender.tick(10.6, can_request=True) == [Send(Port.REGISTRY, replace(JOINED_HEARTBEAT, number=3, lane=4))]
    sender.on_registration(replace(REGISTRATION, run="s", lane=1))
    joined_other_run = replace(JOINED_HEARTBEAT, number=4, run="s", lane=1)
    assert sender.tick(10.7, can_request=True) == [
        Send(Port.REGISTRY, joined_other_run),
        Send(Port.RESULTS, joined_other_run),
    ]


def test_repeated_registration_changes_nothing() -> None:
    sender, _ = make_sender()
    sender.on_chunk(make_chunk(1, 0), 10.1)
    assert sender.on_registration(REGISTRATION) == []
    assert sender.on_registration(replace(REGISTRATION, lane=2)) == []
    assert (sender.lane, sender.last_sequence) == (3, 1)


def test_newer_lane_or_run_resets_sequence() -> None:
    sender, _ = make_sender()
    sender.on_chunk(make_chunk(7, 0), 10.1)
    assert sender.on_registration(replace(REGISTRATION, lane=4, lane_endpoint="ipc://m")) == [
        Send(Port.LANES, Reconnect("ipc://m"))
    ]
    assert (sender.lane, sender.last_sequence) == (4, 0)
    assert sender.on_registration(replace(REGISTRATION, run="s", lane=1)) == [Send(Port.LANES, Reconnect("ipc://l"))]
    assert (sender.run, sender.lane, sender.last_ack_number) == ("s", 1, 0)


def test_chunk_of_other_run_or_lane_is_ignored() -> None:
    sender, _ = make_sender()
    assert not sender.on_chunk(replace(make_chunk(9, 0), run="s"), 10.1)
    assert not sender.on_chunk(replace(make_chunk(9, 0), lane=2), 10.1)
    assert sender.on_chunk(make_chunk(2, 0), 10.1)
    assert sender.on_chunk(make_chunk(1, 0), 10.1)
    assert sender.last_sequence == 2


def test_heartbeat_contains_all_held_tasks() -> None:
    sender, held_tasks = make_sender()
    sender.tick(10.0, can_request=True)
    for sequence, first in ((1, 0), (2, 5)):
        sender.on_chunk(make_chunk(sequence, first, 2), 10.1)
        held_tasks.accept(make_chunk(sequence, first, 2), RecordFormat(), 10.1)
    held_tasks.finish(FINISHED, 10.6)
    result = sender.make_result(FINISHED)
    assert result == Result("r", "ann", 0, 1, b"x", b"\1\0\0\0", b"e", (TaskFailure(0, "exit", 1, "", "", 0),))
    held_tasks.unacked_results.add(result, sender.heartbeat_number, 10.6)
    sender.on_ack(Ack("r", 1, "print", "one", 77, 0, (), -1, spill_full=False, resend=()))
    heartbeat = replace(
        JOINED_HEARTBEAT,
        number=3,
        last_sequence=2,
        credit_limit=2,
        unfinished=((1, 2), (5, 7)),
        unacked=((0, 1),),
        last_ack_number=77,
        seconds_per_task=0.5,
        done_count=1,
    )
    assert sender.tick(12.0, can_request=True) == [Send(Port.REGISTRY, heartbeat), Send(Port.RESULTS, heartbeat)]


def test_heartbeat_contains_attempts_of_held_tasks() -> None:
    sender, held_tasks = make_sender()
    sender.tick(10.0, can_request=True)
    for sequence, attempt in ((1, 1), (2, 0), (3, 2)):
        chunk = replace(make_chunk(sequence, 2 * sequence, 2), attempt=attempt)
        sender.on_chunk(chunk, 10.1)
        held_tasks.accept(chunk, RecordFormat(), 10.1)
    finished = TasksFinished(replace(RESULT, first=6), 0.5)
    held_tasks.finish(finished, 10.6)
    held_tasks.unacked_results.add(replace(sender.make_result(finished), attempt=2), sender.heartbeat_number, 10.6)
    heartbeat = sender.tick(12.0, can_request=True)[0].message
    assert isinstance(heartbeat, Heartbeat)
    assert (heartbeat.unfinished, heartbeat.unacked) == (((2, 6), (7, 8)), ((6, 7),))
    assert heartbeat.attempts == (AttemptRange(2, 4, 1), AttemptRange(6, 8, 2))


def test_result_keeps_failed_records() -> None:
    sender, _ = make_sender()
    assert sender.make_result(TasksFinished(replace(RESULT, failed_records=b"task"), 0.5)).failed_records == b"task"


def test_idle_slot_is_reported_at_once() -> None:
    sender, held_tasks = make_sender()
    sender.tick(10.0, can_request=True)
    for number in (1, 2):
        sender.on_chunk(make_chunk(number, number), 10.1)
        held_tasks.accept(make_chunk(number, number), RecordFormat(), 10.1)
        assert sender.tick(10.1, can_request=True) == []
    finished = TasksFinished(replace(RESULT, first=1), 0.5)
    held_tasks.finish(finished, 10.6)
    sender.make_result(finished)
    assert sender.is_urgent
    (send,) = sender.tick(10.6, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.to, send.message.last_sequence, send.message.credit_limit) == (Port.REGISTRY, 2, 3)
    assert sender.tick(10.7, can_request=True) == []


def test_stalled_worker_requests_for_idle_slots_only() -> None:
    sender, held_tasks = make_sender()
    sender.tick(10.0, can_request=False)
    held_tasks.accept(make_chunk(1, 0, 4), RecordFormat(), 10.1)
    held_tasks.tick(10.3)
    held_tasks.release(((1, 4),))
    sender.on_chunk(make_chunk(1, 0, 4), 10.1)
    sender.make_result(replace(FINISHED, seconds=0.001))  # by the task times alone it would request more
    (send,) = sender.tick(10.4, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.message.credit_limit, send.message.unfinished) == (2, ((0, 1),))


def test_draining_or_backlogged_worker_requests_nothing() -> None:
    sender, held_tasks = make_sender()
    sender.on_chunk(make_chunk(5, 0), 10.1)
    assert [
        send.message.credit_limit
        for send in sender.tick(10.2, can_request=False)
        if isinstance(send.message, Heartbeat)
    ] == [5, 5]
    held_tasks.unacked_results.add(
        Result("r", "ann", 9, 1, b"x" * (MAX_UNACKED_BYTES + 1), b"\0\0\0\0", b"", ()), 1, 11.0
    )
    assert sender.tick(12.0, can_request=True) == []
    assert [
        send.message.credit_limit for send in sender.tick(13.0, can_request=True) if isinstance(send.message, Heartbeat)
    ] == [5, 5]


def test_ack_returns_resend_requests_of_this_worker() -> None:
    sender, _ = make_sender()
    own_request, other_request = ResendRequest("ann", 1, ((0, 1),)), ResendRequest("bob", 1, ((2, 3),))
    ack = Ack("r", 1, "print", "one", 78, 0, (), -1, spill_full=False, resend=(other_request, own_request))
    assert sender.on_ack(ack) == [own_request]
    assert sender.last_ack_number == 78


def test_many_received_bytes_are_reported_at_once() -> None:
    sender, held_tasks = make_sender()
    sender.tick(10.0, can_request=True)
    for sequence, size in ((1, REPORT_AFTER_BYTES - 1), (2, 1)):
        chunk = replace(make_chunk(sequence, sequence), body=b"x" * size)
        assert sender.tick(10.1, can_request=True) == []
        assert sender.on_chunk(chunk, 10.1)
        held_tasks.accept(chunk, RecordFormat(block=True), 10.1)
    assert sender.is_urgent
    (send,) = sender.tick(10.1, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.to, send.message.last_sequence) == (Port.REGISTRY, 2)
    assert sender.tick(10.2, can_request=True) == []


def test_worker_without_tasks_reports_received_chunks() -> None:
    sender, held_tasks = make_sender()
    sender.tick(10.0, can_request=True)
    sender.on_chunk(make_chunk(1, 0), 10.1)
    held_tasks.accept(make_chunk(1, 0), RecordFormat(), 10.1)
    assert sender.tick(10.1, can_request=True) == []
    held_tasks.release(((0, 1),))
    (send,) = sender.tick(10.2, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.message.last_sequence, send.message.unfinished) == (1, ())
