"""The sink: what it answers to each word, from the first Run to its end."""

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

NONE = Ack("", -1, "", "one", 101, 0, (), -1, spill_full=False, resend=())
RUN = VentilatorState("r", 1, "print", "feeding", -1, "")
ACK = Ack("r", 1, "print", "one", 102, 0, (), -1, spill_full=False, resend=())
STATUS = RunStatus("", "feeding", 0, 0, -1, -1, (), (), blocked_on="ventilator")
PULSE = Heartbeat(
    worker="ann", number=3, run="r", digest="d", command="wc", slots=1, lane=1, last_sequence=0, credit_limit=1,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
COMMANDED = CommandFixed("d", "wc")


def result(first: int, *, failed: bool = False, tries: int = 0) -> Result:
    notes = (TaskFailure(first, "exit", 1, "", "", 0),) if failed else ()
    return Result("r", "ann", first, 1, b"x", b"\1\0\0\0", b"", notes, tries)


def settled(low: int, high: int, *, failed: bool = False, spilled: bool = False, size: int = 0) -> TasksSettled:
    return TasksSettled(((low, high),), ((low, high),) if failed else (), spilled, (size,) if size else ())


def entry(number: int, *facts: JournalEvent) -> list[Send]:
    return [Send(Port.JOURNAL, JournalEntry(number, facts))]


def control(*words: Ack | Kill | RunStatus) -> list[Send]:
    return [Send(Port.CONTROL, word) for word in words]


def said(status: RunStatus) -> list[Send]:
    return [Send(Port.CONTROL, status), Send(Port.USER, status)]


def fresh(order: SinkConfig = SinkConfig()) -> Sink:  # noqa: B008 (frozen)
    ours = Sink(order, "one", 100, 0.0)
    assert ours.tick(0.0) == [*said(STATUS), *control(replace(NONE, checksum_watermark=0 if order.has_journal else -1))]
    return ours


def fed(order: SinkConfig = SinkConfig()) -> Sink:  # noqa: B008 (frozen)
    """It knows its run, and has said so, at 0.1."""
    ours = fresh(order)
    assert ours.receive(RUN, 0.1) == entry(1, RunStarted("r", "print"))
    assert ours.receive(Committed("journal", 1), 0.1) == []
    assert ours.receive(RUN, 0.1) == []
    assert ours.deadline == 0.1
    assert ours.tick(0.1) == control(replace(ACK, checksum_watermark=0 if order.has_journal else -1))
    return ours


def safe(ours: Sink, number: int, now: float) -> None:
    """Output and journal have all up to this number."""
    for send in ours.receive(Committed("output", number), now):
        assert isinstance(send.message, JournalEntry)
        ours.receive(Committed("journal", send.message.number), now)


def test_a_run_has_a_name_when_the_journal_knows_it() -> None:
    ours = fresh()
    assert ours.receive(RUN, 0.1) == entry(1, RunStarted("r", "print"))
    assert ours.receive(replace(RUN, number=2), 0.2) == []
    assert ours.tick(0.2) == control(replace(NONE, number=102, last_state_number=2))
    ours.receive(Committed("journal", 1), 0.3)
    assert ours.tick(0.3) == control(replace(ACK, number=103, last_state_number=2))


def test_a_result_is_written_journaled_and_only_then_acked() -> None:
    ours = fed()
    assert ours.receive(result(0, failed=True), 0.2) == [Send(Port.OUTPUT, WriteResult(1, result(0, failed=True)))]
    assert ours.receive(result(0), 0.2) == []
    assert ours.receive(Committed("output", 1, "", (7,)), 0.3) == entry(2, settled(0, 1, failed=True, size=7))
    assert ours.deadline == 1.0
    assert ours.receive(Committed("journal", 2), 0.4) == []
    assert ours.tick(ours.deadline) == control(replace(ACK, number=103, low_watermark=1))
    assert ours.ledger.failed_count == 1


def test_results_of_other_runs_are_dropped() -> None:
    ours = fed()
    assert ours.receive(replace(result(0), run="x"), 0.2) == []
    assert not ours.ledger.pending.task_count


def test_the_first_run_is_the_one() -> None:
    ours = fed()
    assert ours.receive(replace(RUN, run="x", number=7, state="stopped"), 0.2) == []
    assert ours.tick(0.2) == control(replace(ACK, number=103, last_state_number=7))


def test_a_failed_task_is_retried_when_the_journal_knows_and_its_last_try_is_written() -> None:
    ours = fed(SinkConfig(retry_policy=RetryPolicy(retries=1)))
    assert ours.receive(result(0, failed=True), 0.2) == entry(2, AttemptRange(0, 1, 1))
    assert ours.tick(0.2) == []
    ours.receive(Committed("journal", 2), 0.3)
    assert ours.tick(0.3) == control(replace(ACK, number=103, retries=(RetryRange(0, 1, 1, 0.0),)))
    last = result(0, failed=True, tries=1)
    assert ours.receive(last, 0.4) == [Send(Port.OUTPUT, WriteResult(1, last))]
    assert ours.receive(Committed("output", 1), 0.5) == entry(3, settled(0, 1, failed=True))
    ours.receive(Committed("journal", 3), 0.5)
    assert ours.tick(0.5) == control(replace(ACK, number=104, low_watermark=1))
    assert ours.ledger.failed_count == 1


def test_the_first_workers_command_is_the_runs_and_journaled_once() -> None:
    ours = fed()
    assert ours.receive(replace(PULSE, run="x"), 0.2) == []
    assert ours.receive(PULSE, 0.2) == entry(2, COMMANDED)
    assert ours.receive(replace(PULSE, worker="bob", digest="e"), 0.2) == []
    ours.receive(Committed("journal", 2), 0.3)
    assert ours.receive(replace(PULSE, worker="cid", digest="f"), 0.3) == []
    assert ours.tick(0.3) == control(replace(ACK, number=103, digest="d", command="wc"))


def test_with_a_journal_a_result_is_taken_when_its_task_has_been_told_of() -> None:
    ours = fed(SinkConfig(has_journal=True))
    assert ours.receive(result(0), 0.2) == []
    assert ours.receive(InputChecksums("r", "v", 0, 0, 1, b"marks"), 0.3) == entry(2, ChecksumsRecorded(0, 1, b"marks"))
    assert ours.receive(result(0), 0.3) == [Send(Port.OUTPUT, WriteResult(1, result(0)))]
    ours.receive(Committed("journal", 2), 0.4)
    assert ours.tick(0.4) == control(replace(ACK, number=103, ventilator_epoch="v", checksum_watermark=1, recorded=1))


def test_all_is_said_again_at_each_interval() -> None:
    ours = fed()
    ours.receive(PULSE, 0.2)
    ours.receive(Committed("journal", 2), 0.2)
    ours.tick(0.2)
    (status, told, ack) = ours.tick(1.0)
    assert isinstance(told.message, RunStatus)
    assert [member.worker for member in told.message.workers] == ["ann"]
    assert (status.message, ack) == (
        told.message, control(replace(ACK, number=104, digest="d", command="wc"))[0],
    )  # fmt: skip


def test_what_a_pulse_has_finished_and_never_came_is_asked_for() -> None:
    ours = fed()
    ours.receive(replace(PULSE, unacked=((4, 5),)), 0.2)
    assert ours.tick(0.2) == control(replace(ACK, number=103, resend=(ResendRequest("ann", 3, ((4, 5),)),)))


def test_when_all_is_safe_it_says_kill_and_goes_when_everybody_has() -> None:
    ours = fed()
    ours.receive(PULSE, 0.2)
    ours.receive(result(0), 0.2)
    safe(ours, 1, 0.3)
    ours.tick(0.3)
    assert ours.receive(replace(RUN, number=2, state="ended", total=1), 0.4) == entry(4, InputEnded(1, ""))
    kill = control(Kill("r", "done", "", errors.OK))[0]
    assert kill not in ours.tick(0.4)
    ours.receive(Committed("journal", 4), 0.5)
    assert ours.deadline == 0.0
    assert kill in ours.tick(0.5)
    ours.receive(Goodbye("ann"), 0.6)
    assert kill in ours.tick(1.0)  # repeated: the ventilator is still there
    ours.receive(Goodbye(NAME), 1.1)
    assert not ours.done
    assert ours.tick(1.1) == said(
        RunStatus("r", "done", 1, 0, 1, -1, (), (), tasks_per_second=1 / 1.1, elapsed_seconds=1.1)
    )
    assert (ours.done, ours.exit_code) == (True, errors.OK)


@pytest.mark.parametrize(("gone", "last"), [(False, 10.5), (True, 3.0)], ids=["and nobody else", "the ventilator did"])
def test_a_worker_that_never_says_goodbye_is_awaited_for_a_liveness_or_less_if_the_ventilator_has_gone(
    *, gone: bool, last: float
) -> None:
    ours = fed()
    ours.receive(PULSE, 0.5)
    ours.receive(StopRequest("now", "^C"), 0.5)
    ours.receive(Committed("journal", 3), 0.5)
    ours.tick(0.5)
    if gone:
        ours.receive(Goodbye(NAME), 0.6)
    ours.tick(last)
    assert not ours.done
    ours.tick(last + 0.1)
    assert (ours.done, ours.exit_code) == (True, errors.INTERRUPTED)


def test_in_order_a_result_ahead_of_its_turn_is_settled_when_it_is_kept_and_forgotten_when_it_is_written() -> None:
    ours = fed(SinkConfig(keep_order=True))
    assert ours.receive(result(1), 0.2) == [Send(Port.SPILL, SpillResult(1, result(1)))]
    assert ours.receive(Committed("spill", 1), 0.2) == entry(2, settled(1, 2, spilled=True))
    ours.receive(Committed("journal", 2), 0.2)
    assert ours.tick(0.2) == control(replace(ACK, number=103, ranges=((1, 2),)))
    assert ours.receive(result(0), 0.3) == [
        Send(Port.OUTPUT, WriteResult(2, result(0))),
        Send(Port.SPILL, FetchSpilled(1)),
    ]
    assert ours.receive(FetchedResult(result(1)), 0.3) == [Send(Port.OUTPUT, WriteResult(3, result(1)))]
    assert ours.receive(Committed("output", 3, "", (2,)), 0.4) == entry(3, settled(0, 2, size=2))
    assert ours.receive(Committed("journal", 3), 0.4) == [Send(Port.SPILL, DiscardBelow(2))]


@pytest.mark.parametrize(
    ("failure", "outcome"), [("disk full", errors.INCOMPLETE), (errors.STDOUT_CLOSED_REASON, errors.STDOUT_CLOSED)]
)
@pytest.mark.parametrize("store", ["output", "spill", "journal"])
def test_an_edge_that_fails_ends_the_run_now(
    store: Literal["output", "spill", "journal"], failure: str, outcome: int
) -> None:
    ours = fed()
    ours.receive(result(0), 0.2)
    assert ours.receive(Committed(store, 0, failure), 0.3) == control(Kill("r", "now", failure, outcome))
    assert ours.receive(result(1), 0.3) == []
    ours.receive(Goodbye(NAME), 0.4)
    ours.tick(0.4)
    assert (ours.done, ours.exit_code, ours.stop_reason) == (True, outcome, failure)


def test_somebody_may_end_it_and_harder() -> None:
    ours = fed()
    assert ours.receive(StopRequest("soon", "pipe kill"), 0.2) == entry(
        2, RunStopped("soon", "pipe kill", errors.INCOMPLETE)
    )
    assert ours.receive(StopRequest("soon", "pipe kill"), 0.3) == []
    ours.receive(Committed("journal", 2), 0.3)
    assert ours.deadline == 0.0
    assert control(Kill("r", "soon", "pipe kill", errors.INCOMPLETE))[0] in ours.tick(0.3)
    assert ours.receive(StopRequest("now", "^C"), 0.4) == entry(3, RunStopped("now", "^C", errors.INTERRUPTED))
    ours.receive(Committed("journal", 3), 0.5)
    assert control(Kill("r", "now", "^C", errors.INTERRUPTED))[0] in ours.tick(0.5)


def test_a_stuck_journal_holds_an_end_back_for_an_interval_and_wakes_it() -> None:
    ours = fed()
    ours.tick(1.0)
    ours.receive(StopRequest("soon", "^C"), 1.5)
    ours.tick(2.0)
    assert ours.deadline == 2.5
    assert control(Kill("r", "soon", "^C", errors.INTERRUPTED))[0] in ours.tick(2.5)


def test_a_run_is_halted_when_enough_has_failed() -> None:
    ours = fed(SinkConfig(halt_condition=parse_halt("now,fail=1")))
    ours.receive(result(0, failed=True), 0.2)
    ours.receive(Committed("output", 1), 0.2)
    assert ours.receive(Committed("journal", 2), 0.3) == entry(
        3, RunStopped("now", "--halt now,fail=1", errors.TASKS_FAILED)
    )


def test_an_input_that_is_another_ends_it_at_once_naming_the_task() -> None:
    for word in (InputChanged(0, 1), replace(RUN, state="ended", total=0)):
        ours = fed()
        ours.receive(result(0), 0.2)
        safe(ours, 1, 0.2)
        (kill,) = ours.receive(word, 0.3)
        assert isinstance(kill.message, Kill)
        assert (kill.message.mode, kill.message.exit_code) == ("now", errors.USAGE)
        assert "task 1 differs" in kill.message.reason


def test_a_ventilator_that_gives_up_ends_it() -> None:
    reason = "no worker came back"
    assert fed().receive(replace(RUN, state="stopped", reason=reason), 0.2) == entry(
        2, RunStopped("soon", reason, errors.INCOMPLETE)
    )


def test_dead_ventilator_ends_the_run_now_without_its_goodbye() -> None:
    ours = fed()
    assert ours.receive(VentilatorDead(), 0.2) == entry(2, RunStopped("now", "SIGTERM", errors.TERMINATED))
    ours.receive(replace(RUN, number=2), 0.3)
    ours.receive(Committed("journal", 2), 0.3)
    assert control(Kill("r", "now", "SIGTERM", errors.TERMINATED))[0] in ours.tick(0.3)
    assert (ours.done, ours.exit_code) == (True, errors.TERMINATED)


def test_dead_ventilator_before_its_first_state_ends_the_run_now() -> None:
    ours = fresh()
    assert ours.receive(VentilatorDead(), 0.2) == control(Kill("", "now", "SIGTERM", errors.TERMINATED))
    ours.tick(0.2)
    assert (ours.done, ours.exit_code) == (True, errors.TERMINATED)


def test_a_ventilator_that_never_comes_is_told_of_and_one_that_was_there_not_waited_for_for_ever() -> None:
    assert Send(Port.USER, Waiting("ventilator")) in fresh().tick(2.0)
    ours = fed(SinkConfig(peer_timeout=30.0))
    assert Send(Port.USER, Waiting("ventilator")) in ours.tick(3.1)
    killed = RunStopped("soon", "the ventilator did not reconnect", errors.INCOMPLETE)
    assert entry(2, killed)[0] in ours.tick(30.2)


def test_at_an_early_end_what_stands_behind_a_gap_is_written_before_it_goes() -> None:
    ours = fed(SinkConfig(keep_order=True))
    ours.receive(result(2), 0.2)
    ours.receive(Committed("spill", 1), 0.2)
    ours.receive(StopRequest("soon", "^C"), 0.3)
    ours.receive(Committed("journal", 3), 0.3)
    ours.receive(Goodbye(NAME), 0.3)
    ours.tick(0.3)
    ours.receive(Goodbye(NAME), 0.4)
    assert Send(Port.SPILL, FetchSpilled(2)) in ours.tick(0.4)
    assert ours.receive(FetchedResult(result(2)), 0.5) == [Send(Port.OUTPUT, WriteResult(2, result(2)))]
    ours.tick(0.5)
    assert not ours.done
    ours.receive(Committed("output", 2), 0.6)
    ours.tick(0.6)
    assert ours.done


# --- the next life


FACTS: list[JournalEvent] = [
    RunStarted("r", "print"), COMMANDED, ChecksumsRecorded(0, 9, b""), settled(0, 3, size=3), AttemptRange(3, 4, 1),
    settled(4, 6, spilled=True, size=3),
]  # fmt: skip


def next_life(*facts: JournalEvent, retries: int = 1) -> Sink:
    order = SinkConfig(keep_order=True, has_journal=True, retry_policy=RetryPolicy(retries=retries))
    return Sink(order, "two", 200, 10.0, Ledger([*FACTS, *facts]), spilled_bytes=2)


def test_it_goes_on_where_the_one_before_it_was() -> None:
    ours = next_life()
    assert ours.tick(10.0)[-1:] == control(
        Ack(
            "r", -1, "print", "two", 201, 3, ((4, 6),), -1, spill_full=False, resend=(),
            retries=(RetryRange(3, 4, 1, 0.0),), checksum_watermark=0, recorded=9, digest="d", command="wc",
        )
    )  # fmt: skip
    assert ours.receive(result(1), 10.1) == []
    assert ours.receive(PULSE, 10.1) == []
    last = result(3, tries=1)
    assert ours.receive(last, 10.1) == []  # nobody has told this life of it what is read
    assert ours.receive(InputChecksums("r", "v", 6, 6, 1, b"marks"), 10.1) == entry(
        1, ChecksumsRecorded(6, 1, b"marks")
    )
    assert ours.receive(last, 10.2) == [Send(Port.OUTPUT, WriteResult(1, last)), Send(Port.SPILL, FetchSpilled(4))]


def test_what_the_one_before_it_had_to_say_last_is_said() -> None:
    done, ended = InputEnded(6, ""), settled(3, 6, size=6)
    assert control(Kill("r", "done", "", errors.OK))[0] in next_life(ended, done).tick(10.0)
    killed = RunStopped("soon", "^C", errors.INTERRUPTED)
    assert control(Kill("r", "soon", "^C", errors.INTERRUPTED))[0] in next_life(killed).tick(10.0)
    assert not [send for send in next_life(killed, SinkSuspended()).tick(10.0) if isinstance(send.message, Kill)]


def test_with_a_journal_it_leaves_word_that_the_run_goes_on() -> None:
    ours = next_life()
    ours.receive(StopRequest("soon", "^C"), 10.1)
    ours.receive(Committed("journal", 1), 10.1)
    ours.tick(10.1)
    ours.receive(Goodbye(NAME), 10.2)
    assert entry(2, SinkSuspended())[0] in ours.tick(10.2)
    assert not ours.done
    ours.receive(Committed("journal", 2), 10.3)
    ours.tick(10.3)
    assert (ours.done, ours.exit_code) == (True, errors.INTERRUPTED)
