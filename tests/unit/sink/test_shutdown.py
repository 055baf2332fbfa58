"""How the sink ends its run."""

from __future__ import annotations

import pytest

from pipeline.config.option_types import parse_halt
from pipeline.model import errors
from pipeline.model.checksums import EXACT, GROUP
from pipeline.model.events import Committed, FetchSpilled, JournalEntry, Waiting
from pipeline.model.journal_events import (
    ChecksumsRecorded,
    InputEnded,
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksSettled,
)
from pipeline.model.messages import Kill, Result, VentilatorState
from pipeline.model.option_values import HaltCondition
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger
from pipeline.sink.result_writer import LiveOutput, ResultWriter, WriterConfig
from pipeline.sink.retries import RetryPolicy, RetryQueue
from pipeline.sink.shutdown import ShutdownController

BEGAN = RunStarted("r", "print")
RUN = VentilatorState("r", 1, "print", "ended", 0, "")
ALL = (BEGAN, TasksSettled(((0, 2),), ((1, 2),), is_spilled=False, sizes=(9,)), InputEnded(2, ""))


class Scene:
    """A ledger, the way to it, and how it will end."""

    def __init__(self, *facts: JournalEvent, halt: HaltCondition | None = None, journal: bool = False) -> None:
        self.ledger = Ledger(facts)
        self.writing = ResultWriter(
            self.ledger,
            RetryQueue(RetryPolicy()),
            LiveOutput(self.ledger, is_ordered=True),
            WriterConfig(1000, keep_order=True),
        )
        self.closing = ShutdownController(self.ledger, self.writing, halt, 1.0, has_journal=journal)


def control(kill: Kill) -> list[Send]:
    return [Send(Port.CONTROL, kill)]


def entry(number: int, *facts: JournalEvent) -> list[Send]:
    return [Send(Port.JOURNAL, JournalEntry(number, facts))]


@pytest.mark.parametrize(
    ("last", "code"),
    [
        (InputEnded(2, ""), errors.TASKS_FAILED),
        (InputEnded(2, "a file vanished"), errors.INCOMPLETE),
    ],
)
def test_when_all_is_settled_it_says_so_once(last: InputEnded, code: int) -> None:
    ours = Scene(*ALL[:2])
    assert ours.closing.tick(0.0) == []
    ours.ledger.append(last)
    assert ours.closing.tick(0.0) == []
    ours.ledger.commit(1)
    kill = Kill("r", "done", last.reason, code)
    assert ours.closing.tick(0.0) == control(kill)
    assert ours.closing.tick(0.0) == []
    assert (ours.closing.kill, ours.closing.exit_code) == (kill, code)


def test_a_run_without_a_name_is_never_done() -> None:
    ours = Scene()
    ours.ledger.apply(InputEnded(0, ""))
    assert ours.closing.tick(0.0) == []


def test_an_early_end_is_journaled_and_then_said() -> None:
    ours = Scene(BEGAN)
    assert ours.closing.request_stop("soon", "^C", 5.0) == entry(1, RunStopped("soon", "^C", errors.INTERRUPTED))
    assert ours.closing.request_stop("soon", "^C", 5.5) == []
    assert (ours.closing.tick(5.9), ours.closing.kill) == ([], None)
    ours.ledger.commit(1)
    assert ours.closing.tick(5.9) == control(Kill("r", "soon", "^C", errors.INTERRUPTED))
    assert ours.closing.tick(9.0) == []
    assert ours.closing.request_stop("now", "SIGTERM", 9.0) == entry(2, RunStopped("now", "SIGTERM", errors.TERMINATED))
    ours.ledger.commit(2)
    assert ours.closing.tick(9.0) == control(Kill("r", "now", "SIGTERM", errors.TERMINATED))
    assert ours.closing.exit_code == errors.INTERRUPTED


def test_a_journal_that_does_not_answer_holds_an_early_end_back_for_a_beat_only() -> None:
    ours = Scene(BEGAN)
    ours.closing.request_stop("soon", "^C", 5.0)
    assert ours.closing.deadline == 6.0
    assert ours.closing.tick(6.0) == control(Kill("r", "soon", "^C", errors.INTERRUPTED))
    ours.ledger.commit(1)
    assert ours.closing.tick(7.0) == []
    assert ours.closing.deadline == NEVER


def test_before_there_is_a_run_an_end_is_said_at_once() -> None:
    assert Scene().closing.request_stop("now", "^C", 5.0) == control(Kill("", "now", "^C", errors.INTERRUPTED))


def test_a_life_that_came_back_to_an_ended_run_says_so() -> None:
    ours = Scene(BEGAN, RunStopped("soon", "--halt now,fail=1", errors.TASKS_FAILED))
    assert ours.closing.tick(0.0) == control(Kill("r", "soon", "--halt now,fail=1", errors.TASKS_FAILED))


def test_another_input_ends_it_at_once_naming_the_task_as_a_person_counts() -> None:
    ours = Scene(BEGAN)
    (one,) = ours.closing.on_input_changed(6, 7, 5.0)
    assert isinstance(one.message, Kill)
    assert (one.message.mode, one.message.exit_code, ": task 7 differs;" in one.message.reason) == ("now", 2, True)
    assert ours.closing.on_input_changed(6, 7, 5.0) == []
    (many,) = Scene(BEGAN).closing.on_input_changed(6, 9, 5.0)
    assert isinstance(many.message, Kill)
    assert ": tasks 7 to 9 differ;" in many.message.reason


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("now,fail=1", errors.TASKS_FAILED), ("soon,success=1", errors.OK), ("now,done=2", errors.TASKS_FAILED),
        ("now,fail=2", None), ("soon,done=3", None), ("now,done=50%", None),
    ],
)  # fmt: skip
def test_a_run_is_halted_when_so_many_have_ended_in_that_way(typed: str, code: int | None) -> None:
    ours = Scene(*ALL[:2], halt=parse_halt(typed))
    killed = RunStopped("now" if typed.startswith("now") else "soon", f"--halt {typed}", code or 0)
    assert ours.closing.check_halt(5.0) == ([] if code is None else entry(1, killed))


def test_without_such_a_wish_or_after_the_end_nothing_is_halted() -> None:
    assert Scene(*ALL).closing.check_halt(5.0) == []
    ours = Scene(*ALL, halt=parse_halt("now,fail=1"))
    ours.ledger.apply(InputEnded(2, ""))
    ours.closing.tick(5.0)
    assert ours.closing.check_halt(5.0) == []


@pytest.mark.parametrize(
    ("failure", "code"), [("disk full", errors.INCOMPLETE), (errors.STDOUT_CLOSED_REASON, errors.STDOUT_CLOSED)]
)
def test_when_nothing_more_can_be_written_it_ends_now_without_the_journal(failure: str, code: int) -> None:
    ours = Scene(BEGAN)
    assert ours.closing.fail("", 5.0) == []
    assert not ours.closing.has_failed
    assert ours.closing.fail(failure, 5.0) == control(Kill("r", "now", failure, code))
    assert ours.closing.fail("again", 5.0) == []
    verdict = ours.closing
    assert (ours.closing.has_failed, verdict.exit_code, verdict.stop_reason) == (True, code, failure)
    assert ours.closing.drain() is None


def result(first: int) -> Result:
    return Result("r", "ann", first, 1, b"x", b"\1\0\0\0", b"", ())


def test_without_a_journal_what_stands_behind_a_gap_is_written_before_the_end() -> None:
    ours = Scene(BEGAN)
    assert ours.closing.drain() is None
    ours.ledger.spilled.add(4, 5)
    assert ours.closing.drain() == [Send(Port.SPILL, FetchSpilled(4))]
    assert ours.closing.drain() == []


def test_with_a_journal_it_is_left_to_the_next_life_which_is_told_to_go_on() -> None:
    ours = Scene(BEGAN, journal=True)
    ours.ledger.spilled.add(4, 5)
    ours.writing.accept(result(0))
    assert ours.closing.drain() == []
    ours.writing.on_committed(Committed("output", 1))
    assert ours.closing.drain() == entry(2, SinkSuspended())
    assert ours.closing.drain() == []
    ours.ledger.commit(2)
    assert ours.closing.drain() is None


def test_a_run_that_is_done_has_no_next_life() -> None:
    ours = Scene(*ALL, journal=True)
    ours.ledger.apply(InputEnded(2, ""))
    ours.closing.tick(0.0)
    assert ours.closing.drain() is None
    assert Scene(journal=True).closing.drain() is None  # nor has one that never began


def test_a_run_waits_for_room_but_not_for_ever_when_somebody_wants_its_end() -> None:
    ours = Scene(BEGAN)
    ours.closing.on_disk_full(Waiting("disk", "out: no space"))
    assert ours.closing.tick(1000.0) == []
    ours.closing.request_stop("soon", "SIGTERM", 1000.0)
    ours.ledger.commit(1)
    assert ours.closing.tick(1000.0) == control(Kill("r", "soon", "SIGTERM", errors.TERMINATED))
    assert ours.closing.tick(1009.9) == []
    ours.closing.on_disk_full(Waiting("disk", active=False))
    assert ours.closing.tick(1010.0) == []
    ours.closing.on_disk_full(Waiting("disk", "out: no space"))
    assert ours.closing.tick(1020.0) == []
    ours.closing.on_disk_full(Waiting("disk", "out: no space"))  # told again: it still waits
    why = "out: no space: gave up waiting for space"
    assert ours.closing.tick(1030.0) == control(Kill("r", "now", why, errors.INCOMPLETE))
    assert (ours.closing.has_failed, ours.closing.drain()) == (True, None)


def test_who_wants_it_now_does_not_wait_for_room() -> None:
    ours = Scene(BEGAN)
    ours.closing.request_stop("now", "SIGTERM", 0.0)
    ours.ledger.commit(1)
    ours.closing.tick(0.0)
    assert not ours.closing.has_failed
    ours.closing.on_disk_full(Waiting("disk", "out: no space"))
    ours.closing.tick(1.0)
    assert ours.closing.has_failed


@pytest.mark.parametrize(
    ("total", "tasks"),
    [(1, "task 2 differs"), (2, ""), (EXACT + 3, ""), (EXACT, "")],
)
def test_shorter_input_is_refused_where_tasks_past_its_end_are_settled(total: int, tasks: str) -> None:
    ours = Scene(*ALL[:2], ChecksumsRecorded(0, EXACT + 5, b""))
    sends = ours.closing.on_ventilator_state(replace(RUN, total=total), 0.0)
    assert bool(sends) == bool(tasks)
    assert not tasks or f": {tasks};" in str(sends)


def test_shorter_input_is_refused_where_the_group_at_its_end_holds_settled_tasks() -> None:
    ours = Scene(
        BEGAN, ChecksumsRecorded(0, EXACT + 5, b""), TasksSettled(((EXACT, EXACT + 2),), (), is_spilled=False, sizes=())
    )
    sends = ours.closing.on_ventilator_state(replace(RUN, total=EXACT + 3), 0.0)
    assert f": tasks {EXACT + 1} to {EXACT + 4} differ;" in str(sends)
    whole = Scene(
        BEGAN,
        ChecksumsRecorded(0, EXACT + GROUP, b""),
        TasksSettled(((EXACT, EXACT + 2),), (), is_spilled=False, sizes=()),
    )
    assert whole.closing.on_ventilator_state(replace(RUN, total=EXACT + GROUP), 0.0) == []


def test_input_that_broke_off_before_what_is_settled_is_incomplete() -> None:
    ours = Scene(*ALL[:2])
    run = replace(RUN, total=1, reason="a file vanished")
    assert ours.closing.on_ventilator_state(run, 0.0) == entry(
        1, RunStopped("now", "a file vanished", errors.INCOMPLETE)
    )
    assert ours.closing.on_ventilator_state(run, 0.0) == []
