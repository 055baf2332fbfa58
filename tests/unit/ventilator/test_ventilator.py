"""The ventilator: what it answers to each word, from its first Run to its Bye."""

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
from pipeline.model.state_machine import VENTILATOR as NAME
from pipeline.model.state_machine import LaneAddress, PeerAddress, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.dispatcher import READ_BLOCK_BYTES
from pipeline.ventilator.ventilator import SINK_LOST_STATE, Ventilator, VentilatorConfig

NONE = Ack("", -1, "", "one", 100, 0, (), -1, spill_full=False, resend=())
ACK = replace(NONE, run="r", last_state_number=1, fingerprint="print", number=101)
PULSE = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=1, lane=0, last_sequence=0, credit_limit=1,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
JOINED = replace(PULSE, number=2, run="r", lane=1, last_ack_number=101)
WELCOME = Registration("r", "run", "", RecordFormat(), 1, "ipc://1", "ipc://s", "ipc://c", 1.0, 10.0)
WANT = Send(Port.SOURCE, ReadRequest(READ_BLOCK_BYTES))


def run(number: int, state: str = "feeding", total: int = -1, reason: str = "") -> Send:
    return Send(Port.RESULTS, VentilatorState("r", number, "print", state, total, reason))  # type: ignore[arg-type]


def called(pulse: Heartbeat | Goodbye) -> ReceivedFrom:
    return ReceivedFrom(b"peer", pulse)


def fresh() -> Ventilator:
    return Ventilator(VentilatorConfig("r", "print", RecordFormat(), "ipc://s", "ipc://c", peer_timeout=60.0), 0.0)


def joined() -> Ventilator:
    """At 1.0 the run is confirmed, ann is on lane 1, and it has sent task 0 of two and read all."""
    ours = fresh()
    ours.tick(0.0)
    ours.receive(ACK, 0.1)
    for word in (called(PULSE), LaneOpened(1, "ipc://1"), RecordsRead(0, 2, b"a\nb\n"), EndOfInput(2)):
        ours.receive(word, 0.1)
    assert Send(LaneAddress(1), Chunk("r", 1, 1, 0, 1, b"a\n")) in ours.tick(0.2)
    ours.tick(1.0)
    return ours


def test_it_offers_its_run_and_sends_nothing_before_it_is_confirmed() -> None:
    ours = fresh()
    assert ours.tick(0.0) == []
    assert ours.receive(called(PULSE), 0.1) == []
    assert ours.tick(0.1) == []
    assert ours.receive(NONE, 0.2) == [run(1)]
    assert ours.tick(0.2) == []
    assert ours.receive(ACK, 0.3) == [run(2), Send(Port.LANES, OpenLane(1))]
    assert ours.receive(LaneOpened(1, "ipc://1"), 0.4) == [Send(PeerAddress(b"peer"), WELCOME)]
    assert ours.tick(0.4) == [WANT]
    assert ours.receive(RecordsRead(0, 2, b"a\nb\n"), 0.5) == []
    assert ours.deadline == 0.0
    assert ours.tick(0.5) == [Send(LaneAddress(1), Chunk("r", 1, 1, 0, 1, b"a\n")), WANT]
    assert ours.receive(EndOfInput(2), 0.6) == [run(3, "ended", 2)]


def test_welcome_carries_what_the_sink_wanted_when_the_run_was_agreed() -> None:
    ours = fresh()
    ours.receive(called(PULSE), 0.1)
    ours.receive(replace(ACK, collect_metrics=True), 0.2)
    welcome = replace(WELCOME, record_format=RecordFormat(collect_metrics=True))
    assert ours.receive(LaneOpened(1, "ipc://1"), 0.3) == [Send(PeerAddress(b"peer"), welcome)]
    ours.receive(replace(ACK, epoch="two", stream_output=True), 0.4)  # constant for a run: its tasks are all alike
    assert Send(PeerAddress(b"peer"), welcome) in ours.tick(1.0)


def test_at_each_interval_it_says_all_that_is() -> None:
    ours = joined()
    assert ours.deadline == 2.0
    assert ours.tick(2.0) == [Send(PeerAddress(b"peer"), WELCOME), run(4, "ended", 2)]


def test_what_a_worker_gives_back_goes_out_again() -> None:
    ours = joined()
    assert ours.receive(called(replace(JOINED, last_sequence=1, credit_limit=1, unfinished=())), 1.1) == []
    assert ours.tick(1.1) == []
    assert ours.receive(called(replace(JOINED, last_sequence=1, credit_limit=3, unfinished=())), 1.2) == []
    assert ours.tick(1.2) == [
        Send(LaneAddress(1), Chunk("r", 1, 2, 0, 1, b"a\n")), Send(LaneAddress(1), Chunk("r", 1, 3, 1, 1, b"b\n")),
    ]  # fmt: skip


def test_a_pulse_that_knows_a_newer_ack_is_not_judged() -> None:
    ours = joined()
    assert ours.receive(called(replace(JOINED, last_sequence=1, credit_limit=2, last_ack_number=102)), 1.1) == []
    assert ours.tick(1.1) == [Send(LaneAddress(1), Chunk("r", 1, 2, 1, 1, b"b\n"))]  # task 0 may have been settled
    ours.receive(replace(ACK, number=102, low_watermark=1), 1.2)
    assert ours.receive(called(replace(JOINED, last_sequence=2, credit_limit=3, last_ack_number=102)), 1.3) == []
    assert ours.tick(1.3) == [Send(LaneAddress(1), Chunk("r", 1, 3, 1, 1, b"b\n"))]


def test_what_failed_goes_out_again_as_the_sink_says_when_it_is_due() -> None:
    ours = joined()
    ours.receive(called(replace(JOINED, last_sequence=1, credit_limit=2, unfinished=((0, 1),))), 1.1)
    ours.tick(1.1)  # task 1 is sent, too
    ours.receive(replace(ACK, number=102, retries=(RetryRange(0, 1, 1, 0.5),)), 1.2)
    assert ours.tick(1.2) == []
    assert ours.deadline == 1.7
    # its result of the first try is no answer to the second
    pulse = replace(
        JOINED, last_sequence=2, credit_limit=3, unfinished=((1, 2),), unacked=((0, 1),), last_ack_number=102
    )
    assert ours.receive(called(pulse), 1.6) == []
    assert ours.tick(1.6) == []
    assert ours.tick(1.7) == [Send(LaneAddress(1), Chunk("r", 1, 3, 0, 1, b"a\n", attempt=1))]
    again = replace(pulse, last_sequence=3, unfinished=((0, 2),), unacked=(), attempts=(AttemptRange(0, 1, 1),))
    assert ours.receive(called(again), 1.8) == []
    assert ours.tick(1.8) == []


def test_a_lost_worker_is_told_of_and_its_tasks_go_to_the_next() -> None:
    ours = joined()
    ours.receive(ACK, 9.0)
    ours.receive(PeerUnreachable(b"peer"), 9.0)
    assert Send(Port.USER, WorkerLost("ann", 1)) not in ours.tick(9.9)
    assert ours.receive(called(replace(PULSE, worker="bob", credit_limit=2)), 10.2) == [
        Send(Port.USER, Waiting("worker", active=False)), Send(Port.LANES, OpenLane(2)),
    ]  # fmt: skip
    assert ours.receive(LaneOpened(2, "ipc://2"), 10.3) == [
        Send(PeerAddress(b"peer"), replace(WELCOME, lane=2, lane_endpoint="ipc://2"))
    ]
    ours.receive(ACK, 11.1)
    sends = ours.tick(11.1)
    assert sends[-4:] == [
        Send(Port.LANES, CloseLane(1)), Send(Port.USER, WorkerLost("ann", 1)),
        Send(LaneAddress(2), Chunk("r", 2, 1, 0, 1, b"a\n")), Send(LaneAddress(2), Chunk("r", 2, 2, 1, 1, b"b\n")),
    ]  # fmt: skip


def test_the_sink_is_told_what_was_read_until_it_has_it_for_good() -> None:
    ours = fresh()
    ours.tick(0.0)
    ours.receive(replace(ACK, checksum_watermark=0), 0.1)
    read = Send(Port.RESULTS, InputChecksums("r", "r", 0, 0, 2, pack("<2I", crc32(b"a\n"), crc32(b"b\n"))))
    assert ours.receive(RecordsRead(0, 2, b"a\nb\n"), 0.2) == [read]
    assert read in ours.tick(1.0)
    ours.receive(replace(ACK, number=102, ventilator_epoch="r", checksum_watermark=2), 1.1)
    assert read not in ours.tick(2.0)


def test_while_the_sink_is_silent_nothing_long_is_said_again() -> None:
    ours = fresh()
    ours.tick(0.0)
    ours.receive(replace(ACK, checksum_watermark=0), 0.1)
    ours.receive(RecordsRead(0, 1, b"a\n"), 0.2)
    assert [send for send in ours.tick(3.0) if isinstance(send.message, InputChecksums)]
    assert not [send for send in ours.tick(4.0) if isinstance(send.message, InputChecksums)]


def test_the_source_need_not_keep_what_is_settled_and_is_told_once() -> None:
    ours = joined()
    ours.receive(replace(ACK, number=102, low_watermark=1), 1.1)
    assert Send(Port.SOURCE, DiscardBelow(1)) in ours.tick(2.0)
    assert Send(Port.SOURCE, DiscardBelow(1)) not in ours.tick(3.0)


def test_a_task_that_is_too_large_fails_without_a_worker_and_says_so_until_it_is_settled() -> None:
    ours = Ventilator(VentilatorConfig("r", "print", RecordFormat(), max_task_bytes=1), 0.0)
    ours.tick(0.0)
    ours.receive(ACK, 0.1)
    ours.receive(RecordsRead(0, 1, b"long\n"), 0.2)
    for now in (0.2, 1.0):
        (said,) = [send.message for send in ours.tick(now) if isinstance(send.message, Result)]
        assert (said.run, said.worker, said.first, said.failed_records) == ("r", NAME, 0, b"long")
        assert [note.kind for note in said.failures] == ["size"]
    ours.receive(replace(ACK, number=102, low_watermark=1), 1.1)
    assert not [send for send in ours.tick(2.0) if isinstance(send.message, Result)]


def test_a_worker_with_another_command_than_the_runs_first_is_refused_by_who_came_later_too() -> None:
    ours = fresh()
    ours.tick(0.0)
    ours.receive(called(PULSE), 0.1)
    sends = ours.receive(replace(ACK, digest="e", command="rm"), 0.2)
    assert Send(Port.USER, PeerRejected("ann", "it would run 'wc', this run is 'rm'")) in sends


def test_who_speaks_another_version_is_refused() -> None:
    ours = joined()
    reason = errors.version_mismatch_text("pipe9")
    assert ours.receive(VersionMismatch(b"odd", "pipe9"), 1.1) == [
        Send(PeerAddress(b"odd"), replace(WELCOME, state="refused", reason=reason, lane=0, lane_endpoint="")),
        Send(Port.USER, PeerRejected("a worker", reason)),
    ]
    again = ours.receive(VersionMismatch(b"other", "pipe9"), 1.2)  # each gets its answer, and the person has been told
    assert again == [
        Send(PeerAddress(b"other"), replace(WELCOME, state="refused", reason=reason, lane=0, lane_endpoint=""))
    ]
    assert ours.receive(VersionMismatch(b"", "pipe8"), 1.3) == []  # from elsewhere than the desk: nobody to answer


def test_a_run_of_the_same_input_is_taken_up_quietly() -> None:
    ours = fresh()
    ours.tick(0.0)
    assert ours.receive(replace(ACK, run="older", low_watermark=1), 0.5) == [
        Send(Port.RESULTS, VentilatorState("older", 1, "print", "feeding", -1, ""))
    ]
    holds = replace(PULSE, run="older", lane=4, unfinished=((1, 2),), credit_limit=9)
    assert ours.receive(called(holds), 0.6) == [Send(Port.LANES, OpenLane(5))]
    ours.receive(LaneOpened(5, "ipc://5"), 0.6)
    ours.receive(RecordsRead(0, 3, b"a\nb\nc\n"), 0.7)
    assert not [send for send in ours.tick(3.4) if isinstance(send.message, Chunk)]
    assert [send.message for send in ours.tick(3.5) if isinstance(send.message, Chunk)] == [
        Chunk("older", 5, 1, 2, 1, b"c\n")
    ]


@pytest.mark.parametrize(
    ("ack", "outcome", "reason"),
    [
        (replace(ACK, run="x", fingerprint="y"), errors.USAGE, "the sink is in the middle of a run of another input"),
        (replace(ACK, epoch="two", low_watermark=0, number=200), errors.INCOMPLETE, SINK_LOST_STATE),
        (replace(NONE, epoch="two", number=200), errors.INCOMPLETE, SINK_LOST_STATE),
    ],
)
def test_a_sink_that_cannot_be_right_ends_it(ack: Ack, outcome: int, reason: str) -> None:
    ours = fresh()
    goodbye = [Send(Port.RESULTS, Goodbye(NAME))]
    if outcome == errors.INCOMPLETE:
        ours.receive(ACK, 0.1)
        ours.receive(replace(ACK, low_watermark=1, number=102), 0.2)
        goodbye.insert(0, run(1, "stopped", -1, reason))
    assert ours.receive(ack, 0.3) == goodbye
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, outcome, reason)


def test_kill_ends_it_when_its_workers_are_gone() -> None:
    ours = joined()
    assert ours.receive(Kill("older", "now", "", 0), 1.1) == []
    over = replace(WELCOME, state="over")
    assert ours.receive(Kill("r", "done", "", errors.TASKS_FAILED), 1.2) == [Send(PeerAddress(b"peer"), over)]
    assert (ours.tick(1.2), ours.done) == ([], False)
    assert ours.receive(called(Goodbye("ann")), 1.3) == [Send(Port.LANES, CloseLane(1))]
    assert ours.tick(1.3) == [Send(Port.RESULTS, Goodbye(NAME))]
    assert (ours.done, ours.exit_code) == (True, errors.TASKS_FAILED)


def test_kill_soon_lets_workers_finish_what_they_run() -> None:
    ours = joined()
    assert ours.receive(Kill("r", "soon", "^C", errors.INTERRUPTED), 1.1) == []
    ours.receive(called(replace(JOINED, last_sequence=1, credit_limit=9, unfinished=((0, 1),))), 1.2)
    assert ours.tick(1.2) == []  # but sends nothing more
    assert not ours.done
    ours.receive(called(Goodbye("ann")), 1.3)
    ours.tick(1.3)
    assert (ours.done, ours.exit_code) == (True, errors.INTERRUPTED)


def test_a_wish_to_stop_goes_to_the_sink_and_is_repeated() -> None:
    ours = joined()
    assert ours.receive(StopRequest("soon", "^C"), 1.1) == [Send(Port.RESULTS, StopRequest("soon", "^C"))]
    ours.receive(replace(ACK, number=102), 1.9)
    assert ours.tick(2.0)[-2:] == [run(4, "ended", 2), Send(Port.RESULTS, StopRequest("soon", "^C"))]
    assert ours.receive(StopRequest("soon", "^C"), 2.1) == [Send(Port.RESULTS, StopRequest("now", "^C"))]
    assert not ours.done


def test_without_a_sink_a_wish_to_stop_is_obeyed_alone() -> None:
    ours = fresh()
    assert ours.receive(StopRequest("soon", "SIGTERM"), 0.1) == [Send(Port.RESULTS, Goodbye(NAME))]
    assert (ours.done, ours.exit_code) == (True, errors.TERMINATED)


def test_silence_of_the_sink_is_told_repaired_and_in_the_end_not_waited_for() -> None:
    ours = joined()
    assert Send(Port.USER, Waiting("sink")) in ours.tick(3.1)
    repaired = ours.tick(6.2)
    assert repaired[:1] == [Send(PeerAddress(b"peer"), WELCOME)]
    assert [send for send in repaired if send.message == Reconnect()] == [
        Send(Port.CONTROL, Reconnect()), Send(Port.RESULTS, Reconnect()),
    ]  # fmt: skip
    ours.receive(called(JOINED), 60.2)
    reason = "the sink did not answer any more"
    assert ours.tick(60.2)[-2:] == [run(6, "stopped", 2, reason), Send(Port.RESULTS, Goodbye(NAME))]
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, errors.INCOMPLETE, reason)
