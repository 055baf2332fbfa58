"""The worker: its answers to each message, from its first heartbeat to its Goodbye."""

from __future__ import annotations

import pytest

from pipeline.model import errors
from pipeline.model.events import (
    CancelTasks,
    ExecutorFailed,
    HaltLimit,
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

HEARTBEAT = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=1, lane=0, last_sequence=0, credit_limit=1,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
REGISTRATION = Registration("r", "run", "", RecordFormat(), 1, "ipc://1", "ipc://s", "ipc://c", 1.0, 10.0)
ACK = Ack("r", 1, "print", "one", 101, 0, (), -1, spill_full=False, resend=())
CHUNK = Chunk("r", 1, 1, 0, 2, b"a\nb\n")
FAILURE = TaskFailure(0, "exit", 1, "oh", "", 0)
FINISHED = TasksFinished(Result("", "", 0, 1, b"A", b"\1\0\0\0", b"e", (FAILURE,)), 0.05)
RESULT = Result("r", "ann", 0, 1, b"A", b"\1\0\0\0", b"e", (FAILURE,))
QUERY_ACTIVITY = Send(Port.EXECUTOR, QueryActivity())
JOIN_SENDS = [
    Send(Port.EXECUTOR, RecordFormat()), Send(Port.RESULTS, Reconnect("ipc://s")), Send(Port.CONTROL, Reconnect("ipc://c")),
    Send(Port.LANES, Reconnect("ipc://1")),
]  # fmt: skip


def goodbye(*, has_run: bool = True, is_run_over: bool = False) -> list[Send]:
    message = Goodbye("ann", is_run_over)
    to_sink = [Send(Port.RESULTS, message)] if has_run else []
    return [Send(Port.EXECUTOR, CancelTasks(ALL_TASKS)), Send(Port.REGISTRY, message), *to_sink]


def new_worker() -> Worker:
    worker = Worker(WorkerIdentity("ann", "d", "wc", 1), 0.0, peer_timeout=60.0)
    assert worker.tick(0.0) == [Send(Port.REGISTRY, HEARTBEAT)]
    return worker


def worker_with_tasks() -> Worker:
    """Make one that has been on lane 1 since 0.5, with tasks 0 and 1."""
    worker = new_worker()
    assert worker.receive(REGISTRATION, 0.5) == JOIN_SENDS
    joined_heartbeat = replace(HEARTBEAT, number=2, run="r", lane=1)
    assert worker.tick(0.5) == [Send(Port.REGISTRY, joined_heartbeat), Send(Port.RESULTS, joined_heartbeat)]
    assert worker.receive(ACK, 0.6) == []
    assert worker.receive(CHUNK, 0.6) == [Send(Port.EXECUTOR, CHUNK)]
    return worker


def test_worker_runs_chunk_and_keeps_result_until_ack() -> None:
    worker = worker_with_tasks()
    assert worker.receive(FINISHED, 0.65) == [Send(Port.RESULTS, RESULT)]
    assert worker.deadline == 0.0
    assert worker.tick(0.65) == []  # one task is running, so nothing is requested
    heartbeat = replace(
        HEARTBEAT, number=3, run="r", lane=1, last_sequence=1, credit_limit=1, unfinished=((1, 2),), unacked=((0, 1),),
        last_ack_number=101, seconds_per_task=0.05,
        done_count=1,
    )  # fmt: skip
    assert worker.tick(1.5)[-2:] == [Send(Port.REGISTRY, heartbeat), Send(Port.RESULTS, heartbeat)]
    assert worker.receive(replace(ACK, number=102, low_watermark=1), 1.6) == []
    assert worker.tick(2.5)[-1] == Send(Port.RESULTS, replace(heartbeat, number=4, unacked=(), last_ack_number=102))


def test_worker_lets_executor_wait_for_ack_of_halt_events() -> None:
    def limits(sends: list[Send]) -> list[Send]:
        return [send for send in sends if isinstance(send.message, HaltLimit)]

    def limit(event_count: int) -> list[Send]:
        return [Send(Port.EXECUTOR, HaltLimit(event_count))]

    worker = new_worker()
    worker.receive(replace(REGISTRATION, record_format=RecordFormat(halt_event="fail")), 0.5)
    assert limits(worker.receive(replace(ACK, halt_event="fail", events_left=3), 0.6)) == limit(3)
    worker.receive(CHUNK, 0.6)
    assert limits(worker.receive(FINISHED, 0.7)) == limit(2)
    settled = replace(ACK, number=103, low_watermark=1, halt_event="fail", events_left=2)
    assert limits(worker.receive(settled, 0.8)) == []  # as before: one more is settled, one less is left
    assert limits(worker.receive(replace(settled, number=104, events_left=-1), 1.0)) == limit(1)
    assert limits(worker.receive(replace(settled, number=105, events_left=0), 1.1)) == limit(0)


def test_worker_without_halt_event_never_limits_its_executor() -> None:
    worker = worker_with_tasks()
    worker.receive(FINISHED, 0.7)
    assert worker.receive(replace(ACK, number=102, low_watermark=1, events_left=0), 0.8) == []


def test_result_is_resent_only_for_newer_request() -> None:
    worker = worker_with_tasks()
    worker.receive(FINISHED, 0.65)  # after heartbeat 2
    ack = replace(ACK, resend=(ResendRequest("ann", 2, ((0, 1),)), ResendRequest("bob", 9, ((0, 1),))))
    assert worker.receive(ack, 0.7) == []
    assert worker.receive(replace(ack, resend=(ResendRequest("ann", 3, ((0, 1),)),)), 0.8) == [
        Send(Port.RESULTS, RESULT)
    ]


def test_task_settled_elsewhere_is_cancelled() -> None:
    worker = worker_with_tasks()
    assert worker.receive(replace(ACK, ranges=((0, 1),)), 0.7) == [Send(Port.EXECUTOR, CancelTasks(((0, 1),)))]
    assert worker.receive(FINISHED, 0.8) == []


def test_messages_of_other_runs_are_ignored() -> None:
    worker = worker_with_tasks()
    assert worker.receive(replace(ACK, run="x", low_watermark=9), 0.7) == []
    assert worker.receive(replace(CHUNK, run="x", first=5, sequence=2), 0.7) == []
    assert worker.receive(replace(CHUNK, lane=9, first=5, sequence=2), 0.7) == []
    assert worker.receive(FINISHED, 0.8) == [Send(Port.RESULTS, RESULT)]


def test_repeated_chunk_runs_nothing() -> None:
    assert worker_with_tasks().receive(CHUNK, 0.7) == []


def test_retried_task_result_has_its_attempt() -> None:
    worker = worker_with_tasks()
    worker.receive(FINISHED, 0.65)
    retry_chunk = Chunk("r", 1, 2, 0, 1, b"a\n", attempt=1)
    assert worker.receive(retry_chunk, 0.7) == [Send(Port.EXECUTOR, retry_chunk)]
    assert worker.receive(retry_chunk, 0.7) == []
    second_result = replace(RESULT, attempt=1)
    assert worker.receive(FINISHED, 0.8) == [Send(Port.RESULTS, second_result)]
    # the retry settles the first result, not the second
    ack = replace(ACK, retries=(RetryRange(0, 1, 1, 0.0),), resend=(ResendRequest("ann", 9, ((0, 1),)),))
    assert worker.receive(ack, 0.9) == [Send(Port.RESULTS, second_result)]
    heartbeat = worker.tick(1.5)[1].message
    assert isinstance(heartbeat, Heartbeat)
    assert (heartbeat.unfinished, heartbeat.unacked, heartbeat.attempts) == (
        ((1, 2),),
        ((0, 1),),
        (AttemptRange(0, 1, 1),),
    )


def test_later_attempt_cancels_running_one() -> None:
    retry_chunk = Chunk("r", 1, 2, 1, 1, b"b\n", attempt=1)
    assert worker_with_tasks().receive(retry_chunk, 0.7) == [
        Send(Port.EXECUTOR, CancelTasks(((1, 2),))),
        Send(Port.EXECUTOR, retry_chunk),
    ]


def test_finished_tasks_are_split_by_attempt() -> None:
    worker = worker_with_tasks()
    worker.receive(replace(CHUNK, sequence=2, first=2, attempt=1), 0.7)
    ends = bytes([1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0])
    finished = TasksFinished(Result("", "", 0, 4, b"ABCD", ends, b"", ()), 0.1)
    ends = bytes([1, 0, 0, 0, 2, 0, 0, 0])
    assert worker.receive(finished, 0.8) == [
        Send(Port.RESULTS, Result("r", "ann", 0, 2, b"AB", ends, b"", ())),
        Send(Port.RESULTS, Result("r", "ann", 2, 2, b"CD", ends, b"", (), 1)),
    ]


def test_queued_tasks_are_released_after_stall() -> None:
    worker = worker_with_tasks()
    assert worker.tick(0.65) == []
    assert worker.tick(0.7) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert worker.receive(TasksReleased(((1, 2),)), 0.71) == []
    assert worker.deadline == 0.0
    heartbeat = replace(
        HEARTBEAT, number=3, run="r", lane=1, last_sequence=1, credit_limit=1, unfinished=((0, 1),), last_ack_number=101
    )
    assert worker.tick(1.5) == [QUERY_ACTIVITY, Send(Port.REGISTRY, heartbeat), Send(Port.RESULTS, heartbeat)]


def test_registration_of_other_run_drops_tasks() -> None:
    worker = worker_with_tasks()
    worker.receive(FINISHED, 0.65)
    sends = worker.receive(replace(REGISTRATION, run="s", lane=7), 0.7)
    assert sends == [Send(Port.EXECUTOR, CancelTasks(ALL_TASKS)), *JOIN_SENDS]
    joined_heartbeat = replace(HEARTBEAT, number=3, run="s", lane=7, seconds_per_task=0.05, done_count=1)
    assert worker.tick(0.7) == [Send(Port.REGISTRY, joined_heartbeat), Send(Port.RESULTS, joined_heartbeat)]


def test_kill_done_ends_worker_at_once() -> None:
    worker = worker_with_tasks()
    assert worker.receive(Kill("r", "done", "why", 0), 0.7) == goodbye(is_run_over=True)
    assert (worker.done, worker.exit_code, worker.stop_reason) == (True, errors.OK, "why")


def test_kill_now_ends_worker_when_ended_tasks_are_reported() -> None:
    worker = worker_with_tasks()
    assert worker.receive(Kill("r", "now", "why", 0), 0.7) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert worker.receive(FINISHED, 0.7) == [Send(Port.RESULTS, RESULT)]
    assert worker.receive(TasksReleased(()), 0.7) == goodbye(is_run_over=True)
    assert (worker.done, worker.exit_code, worker.stop_reason) == (True, errors.OK, "why")


def test_kill_now_after_kill_soon_ends_worker() -> None:
    worker = worker_with_tasks()
    worker.receive(Kill("r", "soon", "why", 0), 0.7)
    worker.receive(TasksReleased(((1, 2),)), 0.7)
    assert not worker.done
    worker.receive(Kill("r", "now", "why", 0), 0.8)
    assert worker.receive(TasksReleased(()), 0.8) == goodbye(is_run_over=True)


def test_kill_of_other_run_is_ignored() -> None:
    worker = worker_with_tasks()
    assert worker.receive(Kill("x", "now", "", 0), 0.7) == []
    assert not worker.done


def test_kill_before_registration_needs_silent_ventilator() -> None:
    worker = new_worker()
    assert worker.receive(Kill("x", "done", "", 0), 9.9) == []
    assert worker.receive(Kill("x", "done", "", 0), 10.1) == goodbye(has_run=False, is_run_over=True)


def test_kill_soon_waits_for_tasks_and_acks() -> None:
    worker = worker_with_tasks()
    assert worker.receive(Kill("r", "soon", "^C", 0), 0.62) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert worker.receive(Kill("r", "soon", "^C", 0), 0.63) == []
    worker.receive(TasksReleased(((1, 2),)), 0.63)
    assert worker.receive(replace(CHUNK, sequence=2, first=5), 0.63) == []
    worker.receive(FINISHED, 0.64)
    last_heartbeat = replace(
        HEARTBEAT,
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
    assert worker.tick(0.64) == [Send(Port.REGISTRY, last_heartbeat)]  # so ignored chunks go to other workers
    assert worker.receive(replace(ACK, low_watermark=1), 0.7) == []
    assert worker.tick(0.7) == goodbye(is_run_over=True)
    assert (worker.done, worker.exit_code, worker.stop_reason) == (True, errors.OK, "^C")


def test_second_stop_request_ends_worker_at_once() -> None:
    worker = worker_with_tasks()
    assert worker.receive(StopRequest("soon", "SIGTERM"), 0.62) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert not worker.done
    assert worker.receive(StopRequest("soon", "SIGTERM"), 0.63) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert worker.receive(TasksReleased(()), 0.63) == goodbye()
    assert (worker.done, worker.exit_code, worker.stop_reason) == (True, errors.TERMINATED, "SIGTERM")


@pytest.mark.parametrize(
    ("message", "exit_code", "reason"),
    [
        (replace(REGISTRATION, state="refused", reason="other command"), errors.USAGE, "rejected: other command"),
        (replace(REGISTRATION, state="over", reason="pipe kill"), errors.OK, "pipe kill"),
        (ExecutorFailed("no such command", errors.USAGE), errors.USAGE, "no such command"),
        (VersionMismatch(b"", "pipe9"), errors.INCOMPLETE, errors.version_mismatch_text("pipe9")),
    ],
)
def test_worker_ends_on_rejection_failure_or_mismatch(
    message: Registration | ExecutorFailed | VersionMismatch, exit_code: int, reason: str
) -> None:
    worker = new_worker()
    assert worker.receive(message, 0.5) == goodbye(
        has_run=False, is_run_over=isinstance(message, Registration) and exit_code == 0
    )
    assert (worker.done, worker.exit_code, worker.stop_reason) == (True, exit_code, reason)


def test_silent_peers_are_reported_reconnected_then_lost() -> None:
    worker = worker_with_tasks()
    worker.receive(TasksReleased(((0, 2),)), 0.6)
    assert Send(Port.USER, Waiting("ventilator")) in worker.tick(3.5)
    assert Send(Port.REGISTRY, Reconnect()) in worker.tick(4.6)
    assert Send(Port.CONTROL, Reconnect()) in worker.tick(6.7)
    assert worker.tick(60.6)[-3:] == goodbye()
    reason = "the ventilator stopped responding"
    assert (worker.done, worker.exit_code, worker.stop_reason) == (True, errors.INCOMPLETE, reason)


def test_partial_output_of_running_task_is_forwarded() -> None:
    worker = worker_with_tasks()
    part = PartialOutput("r", 1, 0, 4, b"a\n")
    assert worker.receive(part, 0.7) == [Send(Port.RESULTS, part)]
    assert worker.receive(PartialOutput("r", 2, 0, 0, b"a\n"), 0.7) == []


def test_activity_goes_to_sink_and_on_request_to_user() -> None:
    worker, running_tasks = worker_with_tasks(), (RunningTask(0, 1, 0.5, "wc a"),)
    activity = WorkerActivity("ann", 0.5, 1024, running_tasks)
    assert QUERY_ACTIVITY in worker.tick(1.5)
    assert worker.receive(WorkerActivity("", 0.5, 1024, running_tasks), 1.5) == [Send(Port.RESULTS, activity)]
    assert worker.receive(StatusRequested(), 1.6) == [QUERY_ACTIVITY]
    expected = [Send(Port.USER, StatusReport(activity)), Send(Port.RESULTS, activity)]
    assert worker.receive(WorkerActivity("", 0.5, 1024, running_tasks), 1.6) == expected
    assert new_worker().receive(WorkerActivity("", 0.5, 1024, running_tasks), 0.1) == []


def test_result_has_shape_and_metrics() -> None:
    worker = new_worker()
    worker.receive(replace(REGISTRATION, record_format=RecordFormat(shape="columns")), 0.5)
    worker.receive(CHUNK, 0.6)
    (send,) = worker.receive(replace(FINISHED, result=replace(FINISHED.result, metrics=b"of it")), 0.65)
    assert send.message == replace(RESULT, metrics=b"of it", shape="columns")
