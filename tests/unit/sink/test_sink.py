"""The sink: its response to each message, from the first ventilator state to the end of the run."""

from __future__ import annotations

from typing import Literal

import pytest

from pipeline.config.option_types import parse_halt
from pipeline.model import errors
from pipeline.model.events import (
    Committed,
    DiscardBelow,
    FetchedResult,
    FetchSpilled,
    InputChanged,
    JournalEntry,
    SpillResult,
    VentilatorDead,
    Waiting,
    WriteResult,
)
from pipeline.model.journal_events import (
    ChecksumsRecorded,
    CommandFixed,
    InputEnded,
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksSettled,
)
from pipeline.model.messages import (
    Ack,
    AttemptRange,
    Goodbye,
    Heartbeat,
    InputChecksums,
    Kill,
    ResendRequest,
    Result,
    RetryRange,
    RunStatus,
    StopRequest,
    TaskFailure,
    VentilatorState,
)
from pipeline.model.state_machine import VENTILATOR as NAME
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger
from pipeline.sink.retries import RetryPolicy
from pipeline.sink.sink import Sink, SinkConfig

EMPTY_ACK = Ack("", -1, "", "one", 101, 0, (), -1, spill_full=False, resend=())
RUN = VentilatorState("r", 1, "print", "feeding", -1, "")
ACK = Ack("r", 1, "print", "one", 102, 0, (), -1, spill_full=False, resend=())
STATUS = RunStatus("", "feeding", 0, 0, -1, -1, (), (), blocked_on="ventilator")
HEARTBEAT = Heartbeat(
    worker="ann", number=3, run="r", digest="d", command="wc", slots=1, lane=1, last_sequence=0, credit_limit=1,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
COMMANDED = CommandFixed("d", "wc")


def result(first: int, *, failed: bool = False, attempt: int = 0) -> Result:
    failures = (TaskFailure(first, "exit", 1, "", "", 0),) if failed else ()
    return Result("r", "ann", first, 1, b"x", b"\1\0\0\0", b"", failures, attempt)


def settled(low: int, high: int, *, failed: bool = False, spilled: bool = False, size: int = 0) -> TasksSettled:
    return TasksSettled(((low, high),), ((low, high),) if failed else (), spilled, (size,) if size else ())


def entry(number: int, *events: JournalEvent) -> list[Send]:
    return [Send(Port.JOURNAL, JournalEntry(number, events))]


def control(*messages: Ack | Kill | RunStatus) -> list[Send]:
    return [Send(Port.CONTROL, message) for message in messages]


def status_sends(status: RunStatus) -> list[Send]:
    return [Send(Port.CONTROL, status), Send(Port.USER, status)]


def new_sink(config: SinkConfig = SinkConfig()) -> Sink:  # noqa: B008 (frozen)
    sink = Sink(config, "one", 100, 0.0)
    assert sink.tick(0.0) == [
        *status_sends(STATUS),
        *control(replace(EMPTY_ACK, checksum_watermark=0 if config.has_journal else -1)),
    ]
    return sink


def started_sink(config: SinkConfig = SinkConfig()) -> Sink:  # noqa: B008 (frozen)
    """Return a sink that has announced its run, at 0.1."""
    sink = new_sink(config)
    assert sink.receive(RUN, 0.1) == entry(1, RunStarted("r", "print"))
    assert sink.receive(Committed("journal", 1), 0.1) == []
    assert sink.receive(RUN, 0.1) == []
    assert sink.deadline == 0.1
    assert sink.tick(0.1) == control(replace(ACK, checksum_watermark=0 if config.has_journal else -1))
    return sink


def commit_all(sink: Sink, number: int, now: float) -> None:
    """Let output and journal commit all writes up to this number."""
    for send in sink.receive(Committed("output", number), now):
        assert isinstance(send.message, JournalEntry)
        sink.receive(Committed("journal", send.message.number), now)


def test_run_id_is_acked_after_journal_commit() -> None:
    sink = new_sink()
    assert sink.receive(RUN, 0.1) == entry(1, RunStarted("r", "print"))
    assert sink.receive(replace(RUN, number=2), 0.2) == []
    assert sink.tick(0.2) == control(replace(EMPTY_ACK, number=102, last_state_number=2))
    sink.receive(Committed("journal", 1), 0.3)
    assert sink.tick(0.3) == control(replace(ACK, number=103, last_state_number=2))


def test_result_is_written_then_journaled_then_acked() -> None:
    sink = started_sink()
    assert sink.receive(result(0, failed=True), 0.2) == [Send(Port.OUTPUT, WriteResult(1, result(0, failed=True)))]
    assert sink.receive(result(0), 0.2) == []
    assert sink.receive(Committed("output", 1, "", (7,)), 0.3) == entry(2, settled(0, 1, failed=True, size=7))
    assert sink.deadline == 1.0
    assert sink.receive(Committed("journal", 2), 0.4) == []
    assert sink.tick(sink.deadline) == control(replace(ACK, number=103, low_watermark=1))
    assert sink.ledger.failed_count == 1


def test_result_of_other_run_is_dropped() -> None:
    sink = started_sink()
    assert sink.receive(replace(result(0), run="x"), 0.2) == []
    assert not sink.ledger.pending.task_count


def test_state_of_other_run_is_ignored() -> None:
    sink = started_sink()
    assert sink.receive(replace(RUN, run="x", number=7, state="stopped"), 0.2) == []
    assert sink.tick(0.2) == control(replace(ACK, number=103, last_state_number=7))


def test_failed_task_is_retried_after_journal_commit() -> None:
    sink = started_sink(SinkConfig(retry_policy=RetryPolicy(retries=1)))
    assert sink.receive(result(0, failed=True), 0.2) == entry(2, AttemptRange(0, 1, 1))
    assert sink.tick(0.2) == []
    sink.receive(Committed("journal", 2), 0.3)
    assert sink.tick(0.3) == control(replace(ACK, number=103, retries=(RetryRange(0, 1, 1, 0.0),)))
    last = result(0, failed=True, attempt=1)
    assert sink.receive(last, 0.4) == [Send(Port.OUTPUT, WriteResult(1, last))]
    assert sink.receive(Committed("output", 1), 0.5) == entry(3, settled(0, 1, failed=True))
    sink.receive(Committed("journal", 3), 0.5)
    assert sink.tick(0.5) == control(replace(ACK, number=104, low_watermark=1))
    assert sink.ledger.failed_count == 1


def test_first_worker_command_is_journaled_once() -> None:
    sink = started_sink()
    assert sink.receive(replace(HEARTBEAT, run="x"), 0.2) == []
    assert sink.receive(HEARTBEAT, 0.2) == entry(2, COMMANDED)
    assert sink.receive(replace(HEARTBEAT, worker="bob", digest="e"), 0.2) == []
    sink.receive(Committed("journal", 2), 0.3)
    assert sink.receive(replace(HEARTBEAT, worker="cid", digest="f"), 0.3) == []
    assert sink.tick(0.3) == control(replace(ACK, number=103, digest="d", command="wc"))


def test_result_before_its_checksum_waits_for_it() -> None:
    sink = started_sink(SinkConfig(has_journal=True))
    assert sink.receive(result(0), 0.2) == []
    assert sink.receive(InputChecksums("r", "v", 0, 0, 1, b"crcs"), 0.3) == [
        *entry(2, ChecksumsRecorded(0, 1, b"crcs")),
        Send(Port.OUTPUT, WriteResult(1, result(0))),
    ]
    assert sink.receive(result(0), 0.3) == []
    sink.receive(Committed("journal", 2), 0.4)
    assert sink.tick(0.4) == control(replace(ACK, number=103, ventilator_epoch="v", checksum_watermark=1, recorded=1))


def test_interval_repeats_ack_and_status() -> None:
    sink = started_sink()
    sink.receive(HEARTBEAT, 0.2)
    sink.receive(Committed("journal", 2), 0.2)
    sink.tick(0.2)
    (status, user_status, ack) = sink.tick(1.0)
    assert isinstance(user_status.message, RunStatus)
    assert [worker.worker for worker in user_status.message.workers] == ["ann"]
    assert (status.message, ack) == (
        user_status.message, control(replace(ACK, number=104, digest="d", command="wc"))[0],
    )  # fmt: skip


def test_lost_result_is_requested_again() -> None:
    sink = started_sink()
    sink.receive(replace(HEARTBEAT, unacked=((4, 5),)), 0.2)
    assert sink.tick(0.2) == control(replace(ACK, number=103, resend=(ResendRequest("ann", 3, ((4, 5),)),)))


def test_complete_run_is_killed_and_waits_for_goodbyes() -> None:
    sink = started_sink()
    sink.receive(HEARTBEAT, 0.2)
    sink.receive(result(0), 0.2)
    commit_all(sink, 1, 0.3)
    sink.tick(0.3)
    assert sink.receive(replace(RUN, number=2, state="ended", total=1), 0.4) == entry(4, InputEnded(1, ""))
    kill = control(Kill("r", "done", "", errors.OK))[0]
    assert kill not in sink.tick(0.4)
    sink.receive(Committed("journal", 4), 0.5)
    assert sink.deadline == 0.0
    assert kill in sink.tick(0.5)
    sink.receive(Goodbye("ann"), 0.6)
    assert kill in sink.tick(1.0)  # repeated: the ventilator has not left
    sink.receive(Goodbye(NAME), 1.1)
    assert not sink.done
    assert sink.tick(1.1) == status_sends(
        RunStatus("r", "done", 1, 0, 1, -1, (), (), tasks_per_second=1 / 1.1, elapsed_seconds=1.1)
    )
    assert (sink.done, sink.exit_code) == (True, errors.OK)


@pytest.mark.parametrize(
    ("is_ventilator_gone", "last"), [(False, 10.5), (True, 3.0)], ids=["ventilator silent", "ventilator left"]
)
def test_missing_goodbye_is_awaited_until_timeout(*, is_ventilator_gone: bool, last: float) -> None:
    sink = started_sink()
    sink.receive(HEARTBEAT, 0.5)
    sink.receive(StopRequest("now", "^C"), 0.5)
    sink.receive(Committed("journal", 3), 0.5)
    sink.tick(0.5)
    if is_ventilator_gone:
        sink.receive(Goodbye(NAME), 0.6)
    sink.tick(last)
    assert not sink.done
    sink.tick(last + 0.1)
    assert (sink.done, sink.exit_code) == (True, errors.INTERRUPTED)


def test_out_of_order_result_is_spilled_and_then_written() -> None:
    sink = started_sink(SinkConfig(keep_order=True))
    assert sink.receive(result(1), 0.2) == [Send(Port.SPILL, SpillResult(1, result(1)))]
    assert sink.receive(Committed("spill", 1), 0.2) == entry(2, settled(1, 2, spilled=True))
    sink.receive(Committed("journal", 2), 0.2)
    assert sink.tick(0.2) == control(replace(ACK, number=103, ranges=((1, 2),)))
    assert sink.receive(result(0), 0.3) == [
        Send(Port.OUTPUT, WriteResult(2, result(0))),
        Send(Port.SPILL, FetchSpilled(1)),
    ]
    assert sink.receive(FetchedResult(result(1)), 0.3) == [Send(Port.OUTPUT, WriteResult(3, result(1)))]
    assert sink.receive(Committed("output", 3, "", (2,)), 0.4) == entry(3, settled(0, 2, size=2))
    assert sink.receive(Committed("journal", 3), 0.4) == [Send(Port.SPILL, DiscardBelow(2))]


@pytest.mark.parametrize(
    ("failure", "code"), [("disk full", errors.INCOMPLETE), (errors.STDOUT_CLOSED_REASON, errors.STDOUT_CLOSED)]
)
@pytest.mark.parametrize("store", ["output", "spill", "journal"])
def test_failed_store_stops_run_now(store: Literal["output", "spill", "journal"], failure: str, code: int) -> None:
    sink = started_sink()
    sink.receive(result(0), 0.2)
    assert sink.receive(Committed(store, 0, failure), 0.3) == control(Kill("r", "now", failure, code))
    assert sink.receive(result(1), 0.3) == []
    sink.receive(Goodbye(NAME), 0.4)
    sink.tick(0.4)
    assert (sink.done, sink.exit_code, sink.stop_reason) == (True, code, failure)


def test_stop_request_may_be_followed_by_severe_one() -> None:
    sink = started_sink()
    assert sink.receive(StopRequest("soon", "pipe kill"), 0.2) == entry(
        2, RunStopped("soon", "pipe kill", errors.INTERRUPTED)
    )
    assert sink.receive(StopRequest("soon", "pipe kill"), 0.3) == []
    sink.receive(Committed("journal", 2), 0.3)
    assert sink.deadline == 0.0
    assert control(Kill("r", "soon", "pipe kill", errors.INTERRUPTED))[0] in sink.tick(0.3)
    assert sink.receive(StopRequest("now", "^C"), 0.4) == entry(3, RunStopped("now", "^C", errors.INTERRUPTED))
    sink.receive(Committed("journal", 3), 0.5)
    assert control(Kill("r", "now", "^C", errors.INTERRUPTED))[0] in sink.tick(0.5)


def test_stuck_journal_delays_stop_by_one_interval() -> None:
    sink = started_sink()
    sink.tick(1.0)
    sink.receive(StopRequest("soon", "^C"), 1.5)
    sink.tick(2.0)
    assert sink.deadline == 2.5
    assert control(Kill("r", "soon", "^C", errors.INTERRUPTED))[0] in sink.tick(2.5)


def test_halt_condition_stops_run() -> None:
    config = SinkConfig(halt_condition=parse_halt("now,fail=1"))
    sink = Sink(config, "one", 100, 0.0, Ledger([RunStarted("r", "print")]))
    sink.tick(0.0)
    sink.receive(result(0, failed=True), 0.2)
    sink.receive(Committed("output", 1), 0.2)
    sink.receive(Committed("journal", 1), 0.3)
    assert sink.deadline == 0.0
    stop, ack = sink.tick(0.3)
    assert [stop] == entry(2, RunStopped("now", "--halt now,fail=1", errors.TASKS_FAILED))
    assert isinstance(ack.message, Ack)
    assert (ack.message.halt_event, ack.message.events_left) == ("fail", 0)  # before the Kill, which it awaits


def test_restarted_sink_stops_a_run_that_has_reached_its_halt_condition() -> None:
    settled = TasksSettled(((0, 1),), ((0, 1),), is_spilled=False, sizes=())
    config = SinkConfig(halt_condition=parse_halt("soon,fail=1"))
    crashed = Sink(config, "two", 200, 0.0, Ledger([RunStarted("r", "print"), settled]))
    stop = Send(Port.JOURNAL, JournalEntry(1, (RunStopped("soon", "--halt soon,fail=1", errors.TASKS_FAILED),)))
    assert stop in crashed.tick(0.0)
    resumed = Sink(config, "two", 200, 0.0, Ledger([RunStarted("r", "print"), settled, SinkSuspended()]))
    assert stop not in resumed.tick(0.0)


def test_changed_input_stops_run_and_names_task() -> None:
    for message in (InputChanged(0, 1), replace(RUN, state="ended", total=0)):
        sink = started_sink()
        sink.receive(result(0), 0.2)
        commit_all(sink, 1, 0.2)
        (kill,) = sink.receive(message, 0.3)
        assert isinstance(kill.message, Kill)
        assert (kill.message.mode, kill.message.exit_code) == ("now", errors.USAGE)
        assert "task 1 differs" in kill.message.reason


def test_stopped_ventilator_stops_run() -> None:
    reason = "no worker came back"
    assert started_sink().receive(replace(RUN, state="stopped", reason=reason), 0.2) == entry(
        2, RunStopped("soon", reason, errors.INCOMPLETE)
    )


def test_dead_ventilator_stops_run_without_goodbye() -> None:
    sink = started_sink()
    assert sink.receive(VentilatorDead(), 0.2) == entry(2, RunStopped("now", "SIGTERM", errors.TERMINATED))
    sink.receive(replace(RUN, number=2), 0.3)
    sink.receive(Committed("journal", 2), 0.3)
    assert control(Kill("r", "now", "SIGTERM", errors.TERMINATED))[0] in sink.tick(0.3)
    assert (sink.done, sink.exit_code) == (True, errors.TERMINATED)


def test_dead_ventilator_before_first_state_stops_run() -> None:
    sink = new_sink()
    assert sink.receive(VentilatorDead(), 0.2) == control(Kill("", "now", "SIGTERM", errors.TERMINATED))
    sink.tick(0.2)
    assert (sink.done, sink.exit_code) == (True, errors.TERMINATED)


def test_missing_ventilator_is_reported_lost_one_stops_run() -> None:
    assert Send(Port.USER, Waiting("ventilator")) in new_sink().tick(2.0)
    sink = started_sink(SinkConfig(peer_timeout=30.0))
    assert Send(Port.USER, Waiting("ventilator")) in sink.tick(3.1)
    stop = RunStopped("soon", "the ventilator did not reconnect", errors.INCOMPLETE)
    assert entry(2, stop)[0] in sink.tick(30.2)


def test_ending_run_reports_no_missing_ventilator() -> None:
    sink = started_sink()
    sink.receive(HEARTBEAT, 0.1)
    sink.receive(StopRequest("soon", "^C"), 0.1)
    sink.receive(Committed("journal", 2), 0.1)
    for now in (0.1, 1.1, 2.1, 3.1, 4.1):  # a worker is still there
        assert Send(Port.USER, Waiting("ventilator")) not in sink.tick(now)
        assert sink.deadline > now
    assert not sink.done


def test_early_stop_writes_spilled_results_after_gap() -> None:
    sink = started_sink(SinkConfig(keep_order=True))
    sink.receive(result(2), 0.2)
    sink.receive(Committed("spill", 1), 0.2)
    sink.receive(StopRequest("soon", "^C"), 0.3)
    sink.receive(Committed("journal", 3), 0.3)
    sink.receive(Goodbye(NAME), 0.3)
    sink.tick(0.3)
    sink.receive(Goodbye(NAME), 0.4)
    assert Send(Port.SPILL, FetchSpilled(2)) in sink.tick(0.4)
    assert sink.receive(FetchedResult(result(2)), 0.5) == [Send(Port.OUTPUT, WriteResult(2, result(2)))]
    sink.tick(0.5)
    assert not sink.done
    sink.receive(Committed("output", 2), 0.6)
    sink.tick(0.6)
    assert sink.done


# --- restarted sink


EVENTS: list[JournalEvent] = [
    RunStarted("r", "print"), COMMANDED, ChecksumsRecorded(0, 9, b""), settled(0, 3, size=3), AttemptRange(3, 4, 1),
    settled(4, 6, spilled=True, size=3),
]  # fmt: skip


def restarted_sink(*events: JournalEvent, retries: int = 1) -> Sink:
    config = SinkConfig(keep_order=True, has_journal=True, retry_policy=RetryPolicy(retries=retries))
    return Sink(config, "two", 200, 10.0, Ledger([*EVENTS, *events]), spilled_bytes=2)


def test_restarted_sink_resumes_run() -> None:
    sink = restarted_sink()
    assert sink.tick(10.0)[-1:] == control(
        Ack(
            "r", -1, "print", "two", 201, 3, ((4, 6),), -1, spill_full=False, resend=(),
            retries=(RetryRange(3, 4, 1, 0.0),), checksum_watermark=0, recorded=9, digest="d", command="wc",
        )
    )  # fmt: skip
    assert sink.receive(result(1), 10.1) == []
    assert sink.receive(HEARTBEAT, 10.1) == []
    last = result(3, attempt=1)
    assert sink.receive(last, 10.1) == []  # this sink has received no checksums yet
    assert sink.receive(InputChecksums("r", "v", 6, 6, 1, b"crcs"), 10.1) == [
        *entry(1, ChecksumsRecorded(6, 1, b"crcs")),
        *[Send(Port.OUTPUT, WriteResult(1, last)), Send(Port.SPILL, FetchSpilled(4))],
    ]


def test_restarted_sink_repeats_kill_unless_suspended() -> None:
    done, ended = InputEnded(6, ""), settled(3, 6, size=6)
    assert control(Kill("r", "done", "", errors.OK))[0] in restarted_sink(ended, done).tick(10.0)
    stop = RunStopped("soon", "^C", errors.INTERRUPTED)
    assert control(Kill("r", "soon", "^C", errors.INTERRUPTED))[0] in restarted_sink(stop).tick(10.0)
    assert not [send for send in restarted_sink(stop, SinkSuspended()).tick(10.0) if isinstance(send.message, Kill)]


def test_stopped_sink_with_journal_suspends_run() -> None:
    sink = restarted_sink()
    sink.receive(StopRequest("soon", "^C"), 10.1)
    sink.receive(Committed("journal", 1), 10.1)
    sink.tick(10.1)
    sink.receive(Goodbye(NAME), 10.2)
    assert entry(2, SinkSuspended())[0] in sink.tick(10.2)
    assert not sink.done
    sink.receive(Committed("journal", 2), 10.3)
    sink.tick(10.3)
    assert (sink.done, sink.exit_code) == (True, errors.INTERRUPTED)
