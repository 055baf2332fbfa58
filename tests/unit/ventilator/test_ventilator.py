"""The ventilator: its answers to each message, from its first state to its Goodbye."""

from __future__ import annotations

from struct import pack
from zlib import crc32

import pytest

from pipeline.model import errors
from pipeline.model.events import (
    CloseLane,
    DiscardBelow,
    EndOfInput,
    LaneOpened,
    OpenLane,
    PeerRejected,
    PeerUnreachable,
    ReadRequest,
    ReceivedFrom,
    Reconnect,
    RecordsRead,
    VersionMismatch,
    Waiting,
    WorkerLost,
)
from pipeline.model.messages import (
    Ack,
    AttemptRange,
    Chunk,
    Goodbye,
    Heartbeat,
    InputChecksums,
    Kill,
    RecordFormat,
    Registration,
    Result,
    RetryRange,
    StopRequest,
    VentilatorState,
)
from pipeline.model.state_machine import VENTILATOR, LaneAddress, PeerAddress, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.dispatcher import READ_BLOCK_BYTES
from pipeline.ventilator.ventilator import SINK_LOST_STATE, Ventilator, VentilatorConfig

NO_RUN_ACK = Ack("", -1, "", "one", 100, 0, (), -1, spill_full=False, resend=())
ACK = replace(NO_RUN_ACK, run="r", last_state_number=1, fingerprint="print", number=101)
HEARTBEAT = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=1, lane=0, last_sequence=0, credit_limit=1,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
JOINED = replace(HEARTBEAT, number=2, run="r", lane=1, last_ack_number=101)
REGISTRATION = Registration("r", "run", "", RecordFormat(), 1, "ipc://1", "ipc://s", "ipc://c", 1.0, 10.0)
READ_REQUEST = Send(Port.SOURCE, ReadRequest(READ_BLOCK_BYTES))


def state_sent(number: int, state: str = "feeding", total: int = -1, reason: str = "") -> Send:
    return Send(Port.RESULTS, VentilatorState("r", number, "print", state, total, reason))  # type: ignore[arg-type]


def from_worker(heartbeat: Heartbeat | Goodbye) -> ReceivedFrom:
    return ReceivedFrom(b"peer", heartbeat)


def new_ventilator() -> Ventilator:
    return Ventilator(VentilatorConfig("r", "print", RecordFormat(), "ipc://s", "ipc://c", peer_timeout=60.0), 0.0)


def running_ventilator() -> Ventilator:
    """Make one at 1.0 with a confirmed run of two tasks, all read; task 0 was sent to ann on lane 1."""
    ventilator = new_ventilator()
    ventilator.tick(0.0)
    ventilator.receive(ACK, 0.1)
    for message in (from_worker(HEARTBEAT), LaneOpened(1, "ipc://1"), RecordsRead(0, 2, b"a\nb\n"), EndOfInput(2)):
        ventilator.receive(message, 0.1)
    assert Send(LaneAddress(1), Chunk("r", 1, 1, 0, 1, b"a\n")) in ventilator.tick(0.2)
    ventilator.tick(1.0)
    return ventilator


def test_ventilator_sends_nothing_before_run_is_confirmed() -> None:
    ventilator = new_ventilator()
    assert ventilator.tick(0.0) == []
    assert ventilator.receive(from_worker(HEARTBEAT), 0.1) == []
    assert ventilator.tick(0.1) == []
    assert ventilator.receive(NO_RUN_ACK, 0.2) == [state_sent(1)]
    assert ventilator.tick(0.2) == []
    assert ventilator.receive(ACK, 0.3) == [state_sent(2), Send(Port.LANES, OpenLane(1))]
    assert ventilator.receive(LaneOpened(1, "ipc://1"), 0.4) == [Send(PeerAddress(b"peer"), REGISTRATION)]
    assert ventilator.tick(0.4) == [READ_REQUEST]
    assert ventilator.receive(RecordsRead(0, 2, b"a\nb\n"), 0.5) == []
    assert ventilator.deadline == 0.0
    assert ventilator.tick(0.5) == [Send(LaneAddress(1), Chunk("r", 1, 1, 0, 1, b"a\n")), READ_REQUEST]
    assert ventilator.receive(EndOfInput(2), 0.6) == [state_sent(3, "ended", 2)]


def test_registration_has_options_of_first_ack() -> None:
    ventilator = new_ventilator()
    ventilator.receive(from_worker(HEARTBEAT), 0.1)
    ventilator.receive(replace(ACK, collect_metrics=True), 0.2)
    registration = replace(REGISTRATION, record_format=RecordFormat(collect_metrics=True))
    assert ventilator.receive(LaneOpened(1, "ipc://1"), 0.3) == [Send(PeerAddress(b"peer"), registration)]
    ventilator.receive(replace(ACK, epoch="two", stream_output=True), 0.4)  # the options of a run are constant
    assert Send(PeerAddress(b"peer"), registration) in ventilator.tick(1.0)


def test_interval_repeats_registrations_and_state() -> None:
    ventilator = running_ventilator()
    assert ventilator.deadline == 2.0
    assert ventilator.tick(2.0) == [Send(PeerAddress(b"peer"), REGISTRATION), state_sent(4, "ended", 2)]


def test_released_tasks_are_sent_again() -> None:
    ventilator = running_ventilator()
    assert ventilator.receive(from_worker(replace(JOINED, last_sequence=1, credit_limit=1, unfinished=())), 1.1) == []
    assert ventilator.tick(1.1) == []
    assert ventilator.receive(from_worker(replace(JOINED, last_sequence=1, credit_limit=3, unfinished=())), 1.2) == []
    assert ventilator.tick(1.2) == [
        Send(LaneAddress(1), Chunk("r", 1, 2, 0, 1, b"a\n")), Send(LaneAddress(1), Chunk("r", 1, 3, 1, 1, b"b\n")),
    ]  # fmt: skip


def test_heartbeat_with_newer_ack_is_not_reconciled() -> None:
    ventilator = running_ventilator()
    assert (
        ventilator.receive(from_worker(replace(JOINED, last_sequence=1, credit_limit=2, last_ack_number=102)), 1.1)
        == []
    )
    assert ventilator.tick(1.1) == [Send(LaneAddress(1), Chunk("r", 1, 2, 1, 1, b"b\n"))]  # task 0 may be settled
    ventilator.receive(replace(ACK, number=102, low_watermark=1), 1.2)
    assert (
        ventilator.receive(from_worker(replace(JOINED, last_sequence=2, credit_limit=3, last_ack_number=102)), 1.3)
        == []
    )
    assert ventilator.tick(1.3) == [Send(LaneAddress(1), Chunk("r", 1, 3, 1, 1, b"b\n"))]


def test_retry_is_sent_when_due() -> None:
    ventilator = running_ventilator()
    ventilator.receive(from_worker(replace(JOINED, last_sequence=1, credit_limit=2, unfinished=((0, 1),))), 1.1)
    ventilator.tick(1.1)  # sends task 1, too
    ventilator.receive(replace(ACK, number=102, retries=(RetryRange(0, 1, 1, 0.5),)), 1.2)
    assert ventilator.tick(1.2) == []
    assert ventilator.deadline == 1.7
    # the result of the first attempt does not settle the second
    heartbeat = replace(
        JOINED, last_sequence=2, credit_limit=3, unfinished=((1, 2),), unacked=((0, 1),), last_ack_number=102
    )
    assert ventilator.receive(from_worker(heartbeat), 1.6) == []
    assert ventilator.tick(1.6) == []
    assert ventilator.tick(1.7) == [Send(LaneAddress(1), Chunk("r", 1, 3, 0, 1, b"a\n", attempt=1))]
    retry_heartbeat = replace(
        heartbeat, last_sequence=3, unfinished=((0, 2),), unacked=(), attempts=(AttemptRange(0, 1, 1),)
    )
    assert ventilator.receive(from_worker(retry_heartbeat), 1.8) == []
    assert ventilator.tick(1.8) == []


def test_lost_worker_is_reported_and_tasks_move() -> None:
    ventilator = running_ventilator()
    ventilator.receive(ACK, 9.0)
    ventilator.receive(PeerUnreachable(b"peer"), 9.0)
    assert Send(Port.USER, WorkerLost("ann", 1, True)) not in ventilator.tick(9.9)
    assert ventilator.receive(from_worker(replace(HEARTBEAT, worker="bob", credit_limit=2)), 10.2) == [
        Send(Port.USER, Waiting("worker", active=False)), Send(Port.LANES, OpenLane(2)),
    ]  # fmt: skip
    assert ventilator.receive(LaneOpened(2, "ipc://2"), 10.3) == [
        Send(PeerAddress(b"peer"), replace(REGISTRATION, lane=2, lane_endpoint="ipc://2"))
    ]
    ventilator.receive(ACK, 11.1)
    sends = ventilator.tick(11.1)
    assert sends[-4:] == [
        Send(Port.LANES, CloseLane(1)), Send(Port.USER, WorkerLost("ann", 1, True)),
        Send(LaneAddress(2), Chunk("r", 2, 1, 0, 1, b"a\n")), Send(LaneAddress(2), Chunk("r", 2, 2, 1, 1, b"b\n")),
    ]  # fmt: skip


def test_checksums_are_repeated_until_committed() -> None:
    ventilator = new_ventilator()
    ventilator.tick(0.0)
    ventilator.receive(replace(ACK, checksum_watermark=0), 0.1)
    checksums = Send(Port.RESULTS, InputChecksums("r", "r", 0, 0, 2, pack("<2I", crc32(b"a\n"), crc32(b"b\n"))))
    assert ventilator.receive(RecordsRead(0, 2, b"a\nb\n"), 0.2) == [checksums]
    assert checksums in ventilator.tick(1.0)
    ventilator.receive(replace(ACK, number=102, ventilator_epoch="r", checksum_watermark=2), 1.1)
    assert checksums not in ventilator.tick(2.0)


def test_silent_sink_gets_no_checksums() -> None:
    ventilator = new_ventilator()
    ventilator.tick(0.0)
    ventilator.receive(replace(ACK, checksum_watermark=0), 0.1)
    ventilator.receive(RecordsRead(0, 1, b"a\n"), 0.2)
    assert [send for send in ventilator.tick(3.0) if isinstance(send.message, InputChecksums)]
    assert not [send for send in ventilator.tick(4.0) if isinstance(send.message, InputChecksums)]


def test_source_discards_settled_tasks_once() -> None:
    ventilator = running_ventilator()
    ventilator.receive(replace(ACK, number=102, low_watermark=1), 1.1)
    assert Send(Port.SOURCE, DiscardBelow(1)) in ventilator.tick(2.0)
    assert Send(Port.SOURCE, DiscardBelow(1)) not in ventilator.tick(3.0)


def test_too_large_task_failure_is_repeated_until_settled() -> None:
    ventilator = Ventilator(VentilatorConfig("r", "print", RecordFormat(), max_task_bytes=1), 0.0)
    ventilator.tick(0.0)
    ventilator.receive(ACK, 0.1)
    ventilator.receive(RecordsRead(0, 1, b"long\n"), 0.2)
    for now in (0.2, 1.0):
        (result,) = [send.message for send in ventilator.tick(now) if isinstance(send.message, Result)]
        assert (result.run, result.worker, result.first, result.failed_records) == ("r", VENTILATOR, 0, b"long")
        assert [failure.kind for failure in result.failures] == ["size"]
    ventilator.receive(replace(ACK, number=102, low_watermark=1), 1.1)
    assert not [send for send in ventilator.tick(2.0) if isinstance(send.message, Result)]


def test_worker_with_other_command_is_rejected_after_restart() -> None:
    ventilator = new_ventilator()
    ventilator.tick(0.0)
    ventilator.receive(from_worker(HEARTBEAT), 0.1)
    sends = ventilator.receive(replace(ACK, digest="e", command="rm"), 0.2)
    assert Send(Port.USER, PeerRejected("ann", "worker runs 'wc' but this run uses 'rm'")) in sends


def test_worker_with_other_version_is_rejected() -> None:
    ventilator = running_ventilator()
    reason = errors.version_mismatch_text("pipe9")
    assert ventilator.receive(VersionMismatch(b"odd", "pipe9"), 1.1) == [
        Send(PeerAddress(b"odd"), replace(REGISTRATION, state="refused", reason=reason, lane=0, lane_endpoint="")),
        Send(Port.USER, PeerRejected("a worker", reason.partition(errors.HINT_MARK)[0])),
    ]
    sends = ventilator.receive(VersionMismatch(b"other", "pipe9"), 1.2)  # rejected, too; the user is notified once
    assert sends == [
        Send(PeerAddress(b"other"), replace(REGISTRATION, state="refused", reason=reason, lane=0, lane_endpoint=""))
    ]
    assert ventilator.receive(VersionMismatch(b"", "pipe8"), 1.3) == []  # from another socket: no peer to answer


def test_resumed_run_waits_for_claims_before_dispatch() -> None:
    ventilator = new_ventilator()
    ventilator.tick(0.0)
    assert ventilator.receive(replace(ACK, run="older", low_watermark=1), 0.5) == [
        Send(Port.RESULTS, VentilatorState("older", 1, "print", "feeding", -1, ""))
    ]
    claiming = replace(HEARTBEAT, run="older", lane=4, unfinished=((1, 2),), credit_limit=9)
    assert ventilator.receive(from_worker(claiming), 0.6) == [Send(Port.LANES, OpenLane(5))]
    ventilator.receive(LaneOpened(5, "ipc://5"), 0.6)
    ventilator.receive(RecordsRead(0, 3, b"a\nb\nc\n"), 0.7)
    assert not [send for send in ventilator.tick(3.4) if isinstance(send.message, Chunk)]
    assert [send.message for send in ventilator.tick(3.5) if isinstance(send.message, Chunk)] == [
        Chunk("older", 5, 1, 2, 1, b"c\n")
    ]


@pytest.mark.parametrize(
    ("ack", "exit_code", "reason"),
    [
        (
            replace(ACK, run="x", fingerprint="y"),
            errors.USAGE,
            f"the sink has an unfinished run of another input{errors.SAME_INPUT_HINT}",
        ),
        (replace(ACK, epoch="two", low_watermark=0, number=200), errors.INCOMPLETE, SINK_LOST_STATE),
        (replace(NO_RUN_ACK, epoch="two", number=200), errors.INCOMPLETE, SINK_LOST_STATE),
    ],
)
def test_conflicting_sink_ends_ventilator(ack: Ack, exit_code: int, reason: str) -> None:
    ventilator = new_ventilator()
    goodbye = [Send(Port.RESULTS, Goodbye(VENTILATOR))]
    if exit_code == errors.INCOMPLETE:
        ventilator.receive(ACK, 0.1)
        ventilator.receive(replace(ACK, low_watermark=1, number=102), 0.2)
        goodbye.insert(0, state_sent(1, "stopped", -1, reason))
    assert ventilator.receive(ack, 0.3) == goodbye
    assert (ventilator.done, ventilator.exit_code, ventilator.stop_reason) == (True, exit_code, reason)


def test_kill_ends_ventilator_when_workers_are_gone() -> None:
    ventilator = running_ventilator()
    assert ventilator.receive(Kill("older", "now", "", 0), 1.1) == []
    end_of_run = replace(REGISTRATION, state="over")
    assert ventilator.receive(Kill("r", "done", "", errors.TASKS_FAILED), 1.2) == [
        Send(PeerAddress(b"peer"), end_of_run)
    ]
    assert (ventilator.tick(1.2), ventilator.done) == ([], False)
    assert ventilator.receive(from_worker(Goodbye("ann")), 1.3) == [Send(Port.LANES, CloseLane(1))]
    assert ventilator.tick(1.3) == [Send(Port.RESULTS, Goodbye(VENTILATOR))]
    assert (ventilator.done, ventilator.exit_code) == (True, errors.TASKS_FAILED)


def test_kill_soon_lets_running_tasks_finish() -> None:
    ventilator = running_ventilator()
    assert ventilator.receive(Kill("r", "soon", "^C", errors.INTERRUPTED), 1.1) == []
    ventilator.receive(from_worker(replace(JOINED, last_sequence=1, credit_limit=9, unfinished=((0, 1),))), 1.2)
    assert ventilator.tick(1.2) == []  # no new task is sent
    assert not ventilator.done
    ventilator.receive(from_worker(Goodbye("ann")), 1.3)
    ventilator.tick(1.3)
    assert (ventilator.done, ventilator.exit_code) == (True, errors.INTERRUPTED)


def test_stop_request_is_forwarded_and_repeated() -> None:
    ventilator = running_ventilator()
    assert ventilator.receive(StopRequest("soon", "^C"), 1.1) == [Send(Port.RESULTS, StopRequest("soon", "^C"))]
    ventilator.receive(replace(ACK, number=102), 1.9)
    assert ventilator.tick(2.0)[-2:] == [state_sent(4, "ended", 2), Send(Port.RESULTS, StopRequest("soon", "^C"))]
    assert ventilator.receive(StopRequest("soon", "^C"), 2.1) == [Send(Port.RESULTS, StopRequest("now", "^C"))]
    assert not ventilator.done


def test_stop_request_without_sink_ends_ventilator() -> None:
    ventilator = new_ventilator()
    assert ventilator.receive(StopRequest("soon", "SIGTERM"), 0.1) == [Send(Port.RESULTS, Goodbye(VENTILATOR))]
    assert (ventilator.done, ventilator.exit_code) == (True, errors.TERMINATED)


def test_silent_sink_is_reported_reconnected_then_lost() -> None:
    ventilator = running_ventilator()
    assert Send(Port.USER, Waiting("sink")) in ventilator.tick(3.1)
    sends = ventilator.tick(6.2)
    assert sends[:1] == [Send(PeerAddress(b"peer"), REGISTRATION)]
    assert [send for send in sends if send.message == Reconnect()] == [
        Send(Port.CONTROL, Reconnect()), Send(Port.RESULTS, Reconnect()),
    ]  # fmt: skip
    ventilator.receive(from_worker(JOINED), 60.2)
    reason = "the sink stopped responding"
    assert ventilator.tick(60.2)[-2:] == [state_sent(6, "stopped", 2, reason), Send(Port.RESULTS, Goodbye(VENTILATOR))]
    assert (ventilator.done, ventilator.exit_code, ventilator.stop_reason) == (True, errors.INCOMPLETE, reason)
