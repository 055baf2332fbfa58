"""What a worker says of itself."""

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

WELCOME = Registration("r", "run", "", RecordFormat(), 3, "ipc://l", "ipc://s", "ipc://c", 2.0, 20.0)
FIRST = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=2,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
JOINED = replace(FIRST, number=2, run="r", lane=3)
RESULT = Result("", "", 0, 1, b"x", b"\1\0\0\0", b"e", (TaskFailure(0, "exit", 1, "", "", 0),))
DONE = TasksFinished(RESULT, 0.5)


def chunk(sequence: int, first: int, count: int = 1) -> Chunk:
    return Chunk("r", 3, sequence, first, count, b"x\n" * count)


def scene() -> tuple[HeartbeatSender, HeldTasks]:
    """Ann with two slots, who has called at 10.0 and joined run r on lane 3."""
    held = HeldTasks(2, 10.0)
    voice = HeartbeatSender(WorkerIdentity("ann", "d", "wc", 2), held, 10.0)
    assert voice.tick(10.0, can_request=True) == [Send(Port.REGISTRY, FIRST)]
    assert voice.on_registration(WELCOME) == [Send(Port.LANES, Reconnect("ipc://l"))]
    return voice, held


def test_who_has_joined_says_so_at_once_and_then_at_each_interval_also_to_the_sink() -> None:
    voice, _ = scene()
    assert voice.is_urgent
    assert voice.tick(10.5, can_request=True) == [Send(Port.REGISTRY, JOINED), Send(Port.RESULTS, JOINED)]
    assert (voice.is_urgent, voice.next_heartbeat_time) == (False, 12.5)
    assert voice.tick(12.4, can_request=True) == []
    beat = replace(JOINED, number=3)
    assert voice.tick(12.5, can_request=True) == [Send(Port.REGISTRY, beat), Send(Port.RESULTS, beat)]
    assert voice.next_heartbeat_time == 14.5


def test_a_new_lane_of_the_same_run_is_said_at_once_to_the_desk_alone() -> None:
    voice, _ = scene()
    voice.tick(10.5, can_request=True)
    voice.on_registration(replace(WELCOME, lane=4))
    assert voice.tick(10.6, can_request=True) == [Send(Port.REGISTRY, replace(JOINED, number=3, lane=4))]
    voice.on_registration(replace(WELCOME, run="s", lane=1))
    anew = replace(JOINED, number=4, run="s", lane=1)
    assert voice.tick(10.7, can_request=True) == [Send(Port.REGISTRY, anew), Send(Port.RESULTS, anew)]


def test_the_same_welcome_again_changes_nothing() -> None:
    voice, _ = scene()
    voice.on_chunk(chunk(1, 0), 10.1)
    assert voice.on_registration(WELCOME) == []
    assert voice.on_registration(replace(WELCOME, lane=2)) == []
    assert (voice.lane, voice.last_sequence) == (3, 1)


def test_a_newer_lane_begins_anew_and_so_does_another_run() -> None:
    voice, _ = scene()
    voice.on_chunk(chunk(7, 0), 10.1)
    assert voice.on_registration(replace(WELCOME, lane=4, lane_endpoint="ipc://m")) == [
        Send(Port.LANES, Reconnect("ipc://m"))
    ]
    assert (voice.lane, voice.last_sequence) == (4, 0)
    assert voice.on_registration(replace(WELCOME, run="s", lane=1)) == [Send(Port.LANES, Reconnect("ipc://l"))]
    assert (voice.run, voice.lane, voice.last_ack_number) == ("s", 1, 0)


def test_chunks_of_other_runs_and_lanes_are_not_seen() -> None:
    voice, _ = scene()
    assert not voice.on_chunk(replace(chunk(9, 0), run="s"), 10.1)
    assert not voice.on_chunk(replace(chunk(9, 0), lane=2), 10.1)
    assert voice.on_chunk(chunk(2, 0), 10.1)
    assert voice.on_chunk(chunk(1, 0), 10.1)
    assert voice.last_sequence == 2


def test_a_pulse_says_all_that_is_held() -> None:
    voice, held = scene()
    voice.tick(10.0, can_request=True)
    for sequence, first in ((1, 0), (2, 5)):
        voice.on_chunk(chunk(sequence, first, 2), 10.1)
        held.accept(chunk(sequence, first, 2), RecordFormat(), 10.1)
    held.finish(DONE, 10.6)
    result = voice.make_result(DONE)
    assert result == Result("r", "ann", 0, 1, b"x", b"\1\0\0\0", b"e", (TaskFailure(0, "exit", 1, "", "", 0),))
    held.unacked_results.add(result, voice.heartbeat_number, 10.6)
    voice.on_ack(Ack("r", 1, "print", "one", 77, 0, (), -1, spill_full=False, resend=()))
    pulse = replace(
        JOINED,
        number=3,
        last_sequence=2,
        credit_limit=2,
        unfinished=((1, 2), (5, 7)),
        unacked=((0, 1),),
        last_ack_number=77,
        seconds_per_task=0.5,
        done_count=1,
    )
    assert voice.tick(12.0, can_request=True) == [Send(Port.REGISTRY, pulse), Send(Port.RESULTS, pulse)]


def test_a_pulse_says_what_is_held_for_another_try_be_it_running_or_ended() -> None:
    voice, held = scene()
    voice.tick(10.0, can_request=True)
    for sequence, tries in ((1, 1), (2, 0), (3, 2)):
        one = replace(chunk(sequence, 2 * sequence, 2), attempt=tries)
        voice.on_chunk(one, 10.1)
        held.accept(one, RecordFormat(), 10.1)
    done = TasksFinished(replace(RESULT, first=6), 0.5)
    held.finish(done, 10.6)
    held.unacked_results.add(replace(voice.make_result(done), attempt=2), voice.heartbeat_number, 10.6)
    pulse = voice.tick(12.0, can_request=True)[0].message
    assert isinstance(pulse, Heartbeat)
    assert (pulse.unfinished, pulse.unacked) == (((2, 6), (7, 8)), ((6, 7),))
    assert pulse.attempts == (AttemptRange(2, 4, 1), AttemptRange(6, 8, 2))


def test_records_of_failed_tasks_go_with_their_result() -> None:
    voice, _ = scene()
    assert voice.make_result(TasksFinished(replace(RESULT, failed_records=b"task"), 0.5)).failed_records == b"task"


def test_an_idle_slot_is_said_at_once_and_no_news_are_not() -> None:
    voice, held = scene()
    voice.tick(10.0, can_request=True)
    for number in (1, 2):
        voice.on_chunk(chunk(number, number), 10.1)
        held.accept(chunk(number, number), RecordFormat(), 10.1)
        assert voice.tick(10.1, can_request=True) == []
    done = TasksFinished(replace(RESULT, first=1), 0.5)
    held.finish(done, 10.6)
    voice.make_result(done)
    assert voice.is_urgent
    (send,) = voice.tick(10.6, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.to, send.message.last_sequence, send.message.credit_limit) == (Port.REGISTRY, 2, 3)
    assert voice.tick(10.7, can_request=True) == []


def test_who_is_stuck_asks_for_idle_slots_only() -> None:
    voice, held = scene()
    voice.tick(10.0, can_request=False)
    held.accept(chunk(1, 0, 4), RecordFormat(), 10.1)
    held.tick(10.3)
    held.release(((1, 4),))
    voice.on_chunk(chunk(1, 0, 4), 10.1)
    voice.make_result(replace(DONE, seconds=0.001))  # by its pace alone it would ask for more
    (send,) = voice.tick(10.4, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.message.credit_limit, send.message.unfinished) == (2, ((0, 1),))


def test_who_leaves_or_has_too_much_unanswered_asks_for_nothing() -> None:
    voice, held = scene()
    voice.on_chunk(chunk(5, 0), 10.1)
    assert [
        send.message.credit_limit for send in voice.tick(10.2, can_request=False) if isinstance(send.message, Heartbeat)
    ] == [5, 5]
    held.unacked_results.add(Result("r", "ann", 9, 1, b"x" * (MAX_UNACKED_BYTES + 1), b"\0\0\0\0", b"", ()), 1, 11.0)
    assert voice.tick(12.0, can_request=True) == []
    assert [
        send.message.credit_limit for send in voice.tick(13.0, can_request=True) if isinstance(send.message, Heartbeat)
    ] == [5, 5]


def test_of_an_ack_it_hears_what_is_asked_of_itself() -> None:
    voice, _ = scene()
    mine, other = ResendRequest("ann", 1, ((0, 1),)), ResendRequest("bob", 1, ((2, 3),))
    ack = Ack("r", 1, "print", "one", 78, 0, (), -1, spill_full=False, resend=(other, mine))
    assert voice.on_ack(ack) == [mine]
    assert voice.last_ack_number == 78


def test_what_has_come_is_said_before_the_lane_counts_it_as_too_much_under_way() -> None:
    voice, held = scene()
    voice.tick(10.0, can_request=True)
    for sequence, size in ((1, REPORT_AFTER_BYTES - 1), (2, 1)):
        one = replace(chunk(sequence, sequence), body=b"x" * size)
        assert voice.tick(10.1, can_request=True) == []
        assert voice.on_chunk(one, 10.1)
        held.accept(one, RecordFormat(block=True), 10.1)
    assert voice.is_urgent
    (send,) = voice.tick(10.1, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.to, send.message.last_sequence) == (Port.REGISTRY, 2)
    assert voice.tick(10.2, can_request=True) == []


def test_who_holds_nothing_any_more_has_said_all_that_came() -> None:
    voice, held = scene()
    voice.tick(10.0, can_request=True)
    voice.on_chunk(chunk(1, 0), 10.1)
    held.accept(chunk(1, 0), RecordFormat(), 10.1)
    assert voice.tick(10.1, can_request=True) == []
    held.release(((0, 1),))
    (send,) = voice.tick(10.2, can_request=True)
    assert isinstance(send.message, Heartbeat)
    assert (send.message.last_sequence, send.message.unfinished) == (1, ())
