"""The worker: what it answers to each word, from its first pulse to its Bye."""

from __future__ import annotations

import pytest

from pipeline.model import errors
from pipeline.model.events import (
    CancelTasks,
    ExecutorFailed,
    QueryActivity,
    Reconnect,
    ReleaseQueued,
    StatusReport,
    StatusRequested,
    TasksFinished,
    TasksReleased,
    VersionMismatch,
    Waiting,
)
from pipeline.model.messages import (
    Ack,
    AttemptRange,
    Chunk,
    Goodbye,
    Heartbeat,
    Kill,
    PartialOutput,
    RecordFormat,
    Registration,
    ResendRequest,
    Result,
    RetryRange,
    RunningTask,
    StopRequest,
    TaskFailure,
    WorkerActivity,
)
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.worker.heartbeat import WorkerIdentity
from pipeline.worker.worker import ALL_TASKS, Worker

PULSE = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=1, lane=0, last_sequence=0, credit_limit=1,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
WELCOME = Registration("r", "run", "", RecordFormat(), 1, "ipc://1", "ipc://s", "ipc://c", 1.0, 10.0)
ACK = Ack("r", 1, "print", "one", 101, 0, (), -1, spill_full=False, resend=())
CHUNK = Chunk("r", 1, 1, 0, 2, b"a\nb\n")
NOTE = TaskFailure(0, "exit", 1, "oh", "", 0)
DONE = TasksFinished(Result("", "", 0, 1, b"A", b"\1\0\0\0", b"e", (NOTE,)), 0.05)
RESULT = Result("r", "ann", 0, 1, b"A", b"\1\0\0\0", b"e", (NOTE,))
LOOK = Send(Port.EXECUTOR, QueryActivity())
JOIN = [
    Send(Port.EXECUTOR, RecordFormat()), Send(Port.RESULTS, Reconnect("ipc://s")), Send(Port.CONTROL, Reconnect("ipc://c")),
    Send(Port.LANES, Reconnect("ipc://1")),
]  # fmt: skip


def goodbye(*, welcomed: bool = True, over: bool = False) -> list[Send]:
    bye = Goodbye("ann", over)
    to_sink = [Send(Port.RESULTS, bye)] if welcomed else []
    return [Send(Port.EXECUTOR, CancelTasks(ALL_TASKS)), Send(Port.REGISTRY, bye), *to_sink]


def fresh() -> Worker:
    ours = Worker(WorkerIdentity("ann", "d", "wc", 1), 0.0, peer_timeout=60.0)
    assert ours.tick(0.0) == [Send(Port.REGISTRY, PULSE)]
    return ours


def joined() -> Worker:
    """On lane 1 since 0.5, and it has been given tasks 0 and 1."""
    ours = fresh()
    assert ours.receive(WELCOME, 0.5) == JOIN
    hello = replace(PULSE, number=2, run="r", lane=1)
    assert ours.tick(0.5) == [Send(Port.REGISTRY, hello), Send(Port.RESULTS, hello)]
    assert ours.receive(ACK, 0.6) == []
    assert ours.receive(CHUNK, 0.6) == [Send(Port.EXECUTOR, CHUNK)]
    return ours


def test_from_chunk_to_answer() -> None:
    ours = joined()
    assert ours.receive(DONE, 0.65) == [Send(Port.RESULTS, RESULT)]
    assert ours.deadline == 0.0
    assert ours.tick(0.65) == []  # one task is running, so there is nothing to ask for
    beat = replace(
        PULSE, number=3, run="r", lane=1, last_sequence=1, credit_limit=1, unfinished=((1, 2),), unacked=((0, 1),),
        last_ack_number=101, seconds_per_task=0.05,
        done_count=1,
    )  # fmt: skip
    assert ours.tick(1.5)[-2:] == [Send(Port.REGISTRY, beat), Send(Port.RESULTS, beat)]
    assert ours.receive(replace(ACK, number=102, low_watermark=1), 1.6) == []
    assert ours.tick(2.5)[-1] == Send(Port.RESULTS, replace(beat, number=4, unacked=(), last_ack_number=102))


def test_a_result_is_sent_again_only_when_asked_later_than_it_was_sent() -> None:
    ours = joined()
    ours.receive(DONE, 0.65)  # after pulse 2
    ask = replace(ACK, resend=(ResendRequest("ann", 2, ((0, 1),)), ResendRequest("bob", 9, ((0, 1),))))
    assert ours.receive(ask, 0.7) == []
    assert ours.receive(replace(ask, resend=(ResendRequest("ann", 3, ((0, 1),)),)), 0.8) == [Send(Port.RESULTS, RESULT)]


def test_what_was_settled_elsewhere_is_cancelled_and_what_ends_then_is_not_told() -> None:
    ours = joined()
    assert ours.receive(replace(ACK, ranges=((0, 1),)), 0.7) == [Send(Port.EXECUTOR, CancelTasks(((0, 1),)))]
    assert ours.receive(DONE, 0.8) == []


def test_acks_and_chunks_of_other_runs_say_nothing() -> None:
    ours = joined()
    assert ours.receive(replace(ACK, run="x", low_watermark=9), 0.7) == []
    assert ours.receive(replace(CHUNK, run="x", first=5, sequence=2), 0.7) == []
    assert ours.receive(replace(CHUNK, lane=9, first=5, sequence=2), 0.7) == []
    assert ours.receive(DONE, 0.8) == [Send(Port.RESULTS, RESULT)]


def test_the_same_chunk_again_runs_nothing() -> None:
    assert joined().receive(CHUNK, 0.7) == []


def test_a_failed_task_comes_again_and_its_result_says_which_try_it_was() -> None:
    ours = joined()
    ours.receive(DONE, 0.65)
    again = Chunk("r", 1, 2, 0, 1, b"a\n", attempt=1)
    assert ours.receive(again, 0.7) == [Send(Port.EXECUTOR, again)]
    assert ours.receive(again, 0.7) == []
    second = replace(RESULT, attempt=1)
    assert ours.receive(DONE, 0.8) == [Send(Port.RESULTS, second)]
    # the first is answered by the retry, the second by neither
    beat = replace(ACK, retries=(RetryRange(0, 1, 1, 0.0),), resend=(ResendRequest("ann", 9, ((0, 1),)),))
    assert ours.receive(beat, 0.9) == [Send(Port.RESULTS, second)]
    pulse = ours.tick(1.5)[1].message
    assert isinstance(pulse, Heartbeat)
    assert (pulse.unfinished, pulse.unacked, pulse.attempts) == (((1, 2),), ((0, 1),), (AttemptRange(0, 1, 1),))


def test_a_later_try_of_what_still_runs_takes_its_place() -> None:
    again = Chunk("r", 1, 2, 1, 1, b"b\n", attempt=1)
    assert joined().receive(again, 0.7) == [Send(Port.EXECUTOR, CancelTasks(((1, 2),))), Send(Port.EXECUTOR, again)]


def test_neighbours_of_different_tries_that_ended_together_are_results_of_their_own() -> None:
    ours = joined()
    ours.receive(replace(CHUNK, sequence=2, first=2, attempt=1), 0.7)
    ends = bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    done = TasksFinished(Result("", "", 0, 4, b"ABCD", ends, b"", ()), 0.1)
    ends = bytes([1, 0, 0, 0, 2, 0, 0, 0])
    assert ours.receive(done, 0.8) == [
        Send(Port.RESULTS, Result("r", "ann", 0, 2, b"AB", ends, b"", ())),
        Send(Port.RESULTS, Result("r", "ann", 2, 2, b"CD", ends, b"", (), 1)),
    ]


def test_what_cannot_start_soon_is_given_back() -> None:
    ours = joined()
    assert ours.tick(0.65) == []
    assert ours.tick(0.7) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert ours.receive(TasksReleased(((1, 2),)), 0.71) == []
    assert ours.deadline == 0.0
    beat = replace(
        PULSE, number=3, run="r", lane=1, last_sequence=1, credit_limit=1, unfinished=((0, 1),), last_ack_number=101
    )
    assert ours.tick(1.5) == [LOOK, Send(Port.REGISTRY, beat), Send(Port.RESULTS, beat)]


def test_another_run_begins_anew() -> None:
    ours = joined()
    ours.receive(DONE, 0.65)
    sends = ours.receive(replace(WELCOME, run="s", lane=7), 0.7)
    assert sends == [Send(Port.EXECUTOR, CancelTasks(ALL_TASKS)), *JOIN]
    hello = replace(PULSE, number=3, run="s", lane=7, seconds_per_task=0.05, done_count=1)
    assert ours.tick(0.7) == [Send(Port.REGISTRY, hello), Send(Port.RESULTS, hello)]


@pytest.mark.parametrize("mode", ["done", "now"])
def test_kill_ends_it_at_once(mode: str) -> None:
    ours = joined()
    assert ours.receive(Kill("r", mode, "why", 0), 0.7) == goodbye(over=True)  # type: ignore[arg-type]
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, errors.OK, "why")


def test_kill_of_another_run_is_not_obeyed() -> None:
    ours = joined()
    assert ours.receive(Kill("x", "now", "", 0), 0.7) == []
    assert not ours.done


def test_kill_before_any_welcome_is_obeyed_after_a_liveness_of_silence() -> None:
    ours = fresh()
    assert ours.receive(Kill("x", "done", "", 0), 9.9) == []
    assert ours.receive(Kill("x", "done", "", 0), 10.1) == goodbye(welcomed=False, over=True)


def test_kill_soon_lets_it_finish_and_wait_for_the_answer() -> None:
    ours = joined()
    assert ours.receive(Kill("r", "soon", "^C", 0), 0.62) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert ours.receive(Kill("r", "soon", "^C", 0), 0.63) == []
    ours.receive(TasksReleased(((1, 2),)), 0.63)
    assert ours.receive(replace(CHUNK, sequence=2, first=5), 0.63) == []
    ours.receive(DONE, 0.64)
    last = replace(
        PULSE,
        number=3,
        run="r",
        lane=1,
        last_sequence=2,
        credit_limit=2,
        unacked=((0, 1),),
        last_ack_number=101,
        seconds_per_task=0.05,
        done_count=1,
    )
    assert ours.tick(0.64) == [Send(Port.REGISTRY, last)]  # so what it has not taken goes to others
    assert ours.receive(replace(ACK, low_watermark=1), 0.7) == []
    assert ours.tick(0.7) == goodbye(over=True)
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, errors.OK, "^C")


def test_asked_to_leave_it_finishes_what_runs_and_asked_again_it_does_not() -> None:
    ours = joined()
    assert ours.receive(StopRequest("soon", "SIGTERM"), 0.62) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert not ours.done
    assert ours.receive(StopRequest("soon", "SIGTERM"), 0.63) == goodbye()
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, errors.TERMINATED, "SIGTERM")


@pytest.mark.parametrize(
    ("word", "outcome", "reason"),
    [
        (replace(WELCOME, state="refused", reason="other command"), errors.USAGE, "refused: other command"),
        (replace(WELCOME, state="over", reason="pipe kill"), errors.OK, "pipe kill"),
        (ExecutorFailed("no such command", errors.USAGE), errors.USAGE, "no such command"),
        (VersionMismatch(b"", "pipe9"), errors.INCOMPLETE, errors.version_mismatch_text("pipe9")),
    ],
)
def test_there_are_other_ends(word: Registration | ExecutorFailed | VersionMismatch, outcome: int, reason: str) -> None:
    ours = fresh()
    assert ours.receive(word, 0.5) == goodbye(welcomed=False, over=isinstance(word, Registration) and outcome == 0)
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, outcome, reason)


def test_silence_is_told_repaired_and_in_the_end_not_waited_for() -> None:
    ours = joined()
    ours.receive(TasksReleased(((0, 2),)), 0.6)
    assert Send(Port.USER, Waiting("ventilator")) in ours.tick(3.5)
    assert Send(Port.REGISTRY, Reconnect()) in ours.tick(4.6)
    assert Send(Port.CONTROL, Reconnect()) in ours.tick(6.7)
    assert ours.tick(60.6)[-3:] == goodbye()
    reason = "the ventilator did not answer any more"
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, errors.INCOMPLETE, reason)


def test_lines_of_a_running_task_go_to_the_sink_and_those_of_others_do_not() -> None:
    ours = joined()
    part = PartialOutput("r", 1, 0, 4, b"a\n")
    assert ours.receive(part, 0.7) == [Send(Port.RESULTS, part)]
    assert ours.receive(PartialOutput("r", 2, 0, 0, b"a\n"), 0.7) == []


def test_it_looks_at_each_beat_and_tells_the_sink_and_who_asks() -> None:
    ours, doing = joined(), (RunningTask(0, 1, 0.5, "wc a"),)
    glance = WorkerActivity("ann", 0.5, 1024, doing)
    assert LOOK in ours.tick(1.5)
    assert ours.receive(WorkerActivity("", 0.5, 1024, doing), 1.5) == [Send(Port.RESULTS, glance)]
    assert ours.receive(StatusRequested(), 1.6) == [LOOK]
    told = [Send(Port.USER, StatusReport(glance)), Send(Port.RESULTS, glance)]
    assert ours.receive(WorkerActivity("", 0.5, 1024, doing), 1.6) == told
    assert fresh().receive(WorkerActivity("", 0.5, 1024, doing), 0.1) == []


def test_results_say_their_shape_and_have_the_accounts_of_their_tasks() -> None:
    ours = fresh()
    ours.receive(replace(WELCOME, record_format=RecordFormat(shape="columns")), 0.5)
    ours.receive(CHUNK, 0.6)
    (said,) = ours.receive(replace(DONE, result=replace(DONE.result, metrics=b"of it")), 0.65)
    assert said.message == replace(RESULT, metrics=b"of it", shape="columns")
