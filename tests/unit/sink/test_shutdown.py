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

STARTED = RunStarted("r", "print")
STATE = VentilatorState("r", 1, "print", "ended", 0, "")
ALL = (STARTED, TasksSettled(((0, 2),), ((1, 2),), is_spilled=False, sizes=(9,)), InputEnded(2, ""))


class Scenario:
    """A shutdown controller with its ledger and writer."""

    def __init__(self, *events: JournalEvent, halt: HaltCondition | None = None, has_journal: bool = False) -> None:
        self.ledger = Ledger(events)
        self.writer = ResultWriter(
            self.ledger,
            RetryQueue(RetryPolicy()),
            LiveOutput(self.ledger, is_ordered=True),
            WriterConfig(1000, keep_order=True),
        )
        self.shutdown = ShutdownController(self.ledger, self.writer, halt, 1.0, has_journal=has_journal)


def control(kill: Kill) -> list[Send]:
    return [Send(Port.CONTROL, kill)]


def entry(number: int, *events: JournalEvent) -> list[Send]:
    return [Send(Port.JOURNAL, JournalEntry(number, events))]


@pytest.mark.parametrize(
    ("end", "code"),
    [
        (InputEnded(2, ""), errors.TASKS_FAILED),
        (InputEnded(2, "a file vanished"), errors.INCOMPLETE),
    ],
)
def test_complete_run_is_announced_once(end: InputEnded, code: int) -> None:
    scenario = Scenario(*ALL[:2])
    assert scenario.shutdown.tick(0.0) == []
    scenario.ledger.append(end)
    assert scenario.shutdown.tick(0.0) == []
    scenario.ledger.commit(1)
    kill = Kill("r", "done", end.reason, code)
    assert scenario.shutdown.tick(0.0) == control(kill)
    assert scenario.shutdown.tick(0.0) == []
    assert (scenario.shutdown.kill, scenario.shutdown.exit_code) == (kill, code)


def test_run_without_id_is_never_done() -> None:
    scenario = Scenario()
    scenario.ledger.apply(InputEnded(0, ""))
    assert scenario.shutdown.tick(0.0) == []


def test_stop_is_journaled_before_kill() -> None:
    scenario = Scenario(STARTED)
    assert scenario.shutdown.request_stop("soon", "^C", 5.0) == entry(1, RunStopped("soon", "^C", errors.INTERRUPTED))
    assert scenario.shutdown.request_stop("soon", "^C", 5.5) == []
    assert (scenario.shutdown.tick(5.9), scenario.shutdown.kill) == ([], None)
    scenario.ledger.commit(1)
    assert scenario.shutdown.tick(5.9) == control(Kill("r", "soon", "^C", errors.INTERRUPTED))
    assert scenario.shutdown.tick(9.0) == []
    assert scenario.shutdown.request_stop("now", "SIGTERM", 9.0) == entry(
        2, RunStopped("now", "SIGTERM", errors.TERMINATED)
    )
    scenario.ledger.commit(2)
    assert scenario.shutdown.tick(9.0) == control(Kill("r", "now", "SIGTERM", errors.TERMINATED))
    assert scenario.shutdown.exit_code == errors.INTERRUPTED


def test_stuck_journal_delays_kill_by_one_interval() -> None:
    scenario = Scenario(STARTED)
    scenario.shutdown.request_stop("soon", "^C", 5.0)
    assert scenario.shutdown.deadline == 6.0
    assert scenario.shutdown.tick(6.0) == control(Kill("r", "soon", "^C", errors.INTERRUPTED))
    scenario.ledger.commit(1)
    assert scenario.shutdown.tick(7.0) == []
    assert scenario.shutdown.deadline == NEVER


def test_stop_before_run_is_announced_at_once() -> None:
    assert Scenario().shutdown.request_stop("now", "^C", 5.0) == control(Kill("", "now", "^C", errors.INTERRUPTED))


def test_stop_while_run_is_being_journaled_is_journaled_too() -> None:
    scenario = Scenario()
    scenario.ledger.append(STARTED)
    kill = Kill("", "soon", "^C", errors.INTERRUPTED)
    stopped = entry(2, RunStopped("soon", "^C", errors.INTERRUPTED))
    assert scenario.shutdown.request_stop("soon", "^C", 0.0) == [*control(kill), *stopped]


def test_restarted_sink_announces_journaled_stop() -> None:
    scenario = Scenario(STARTED, RunStopped("soon", "--halt now,fail=1", errors.TASKS_FAILED))
    assert scenario.shutdown.tick(0.0) == control(Kill("r", "soon", "--halt now,fail=1", errors.TASKS_FAILED))


def test_changed_input_names_tasks_from_one() -> None:
    scenario = Scenario(STARTED)
    (single,) = scenario.shutdown.on_input_changed(6, 7, 5.0)
    assert isinstance(single.message, Kill)
    assert (single.message.mode, single.message.exit_code, ": task 7 differs\nhint: " in single.message.reason) == (
        "now",
        2,
        True,
    )
    assert scenario.shutdown.on_input_changed(6, 7, 5.0) == []
    (many,) = Scenario(STARTED).shutdown.on_input_changed(6, 9, 5.0)
    assert isinstance(many.message, Kill)
    assert ": tasks 7 to 9 differ\nhint: " in many.message.reason


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("now,fail=1", errors.TASKS_FAILED), ("soon,success=1", errors.OK), ("now,done=2", errors.TASKS_FAILED),
        ("now,fail=2", None), ("soon,done=3", None), ("now,done=50%", None),
    ],
)  # fmt: skip
def test_halt_condition_met_stops_run(text: str, code: int | None) -> None:
    scenario = Scenario(*ALL[:2], halt=parse_halt(text))
    stop = RunStopped("now" if text.startswith("now") else "soon", f"--halt {text}", code or 0)
    assert scenario.shutdown.is_halt_due is (code is not None)
    assert scenario.shutdown.tick(5.0) == ([] if code is None else entry(1, stop))
    assert not scenario.shutdown.is_halt_due  # it is requested


def test_halt_after_end_or_without_condition_is_ignored() -> None:
    assert not Scenario(*ALL).shutdown.is_halt_due
    scenario = Scenario(*ALL, halt=parse_halt("now,fail=1"))
    scenario.shutdown.request_stop("soon", "^C", 4.0)
    scenario.shutdown.tick(5.0)
    assert not scenario.shutdown.is_halt_due
    assert scenario.shutdown.tick(5.0) == []


@pytest.mark.parametrize(
    ("failure", "code"), [("disk full", errors.INCOMPLETE), (errors.STDOUT_CLOSED_REASON, errors.STDOUT_CLOSED)]
)
def test_write_failure_stops_run_without_journal(failure: str, code: int) -> None:
    scenario = Scenario(STARTED)
    assert scenario.shutdown.fail("", 5.0) == []
    assert not scenario.shutdown.has_failed
    assert scenario.shutdown.fail(failure, 5.0) == control(Kill("r", "now", failure, code))
    assert scenario.shutdown.fail("again", 5.0) == []
    shutdown = scenario.shutdown
    assert (scenario.shutdown.has_failed, shutdown.exit_code, shutdown.stop_reason) == (True, code, failure)
    assert scenario.shutdown.drain() is None


def result(first: int) -> Result:
    return Result("r", "ann", first, 1, b"x", b"\1\0\0\0", b"", ())


def test_drain_without_journal_writes_spilled() -> None:
    scenario = Scenario(STARTED)
    assert scenario.shutdown.drain() is None
    scenario.ledger.spilled.add(4, 5)
    assert scenario.shutdown.drain() == [Send(Port.SPILL, FetchSpilled(4))]
    assert scenario.shutdown.drain() == []


def test_drain_with_journal_suspends_run() -> None:
    scenario = Scenario(STARTED, has_journal=True)
    scenario.ledger.spilled.add(4, 5)
    scenario.writer.accept(result(0))
    assert scenario.shutdown.drain() == []
    scenario.writer.on_committed(Committed("output", 1))
    assert scenario.shutdown.drain() == entry(2, SinkSuspended())
    assert scenario.shutdown.drain() == []
    scenario.ledger.commit(2)
    assert scenario.shutdown.drain() is None


def test_drain_of_complete_run_does_not_suspend() -> None:
    scenario = Scenario(*ALL, has_journal=True)
    scenario.ledger.apply(InputEnded(2, ""))
    scenario.shutdown.tick(0.0)
    assert scenario.shutdown.drain() is None
    assert Scenario(has_journal=True).shutdown.drain() is None  # the run never started


def test_stopping_run_gives_up_waiting_for_space() -> None:
    scenario = Scenario(STARTED)
    scenario.shutdown.on_disk_full(Waiting("disk", "out: no space"))
    assert scenario.shutdown.tick(1000.0) == []
    scenario.shutdown.request_stop("soon", "SIGTERM", 1000.0)
    scenario.ledger.commit(1)
    assert scenario.shutdown.tick(1000.0) == control(Kill("r", "soon", "SIGTERM", errors.TERMINATED))
    assert scenario.shutdown.tick(1009.9) == []
    scenario.shutdown.on_disk_full(Waiting("disk", active=False))
    assert scenario.shutdown.tick(1010.0) == []
    scenario.shutdown.on_disk_full(Waiting("disk", "out: no space"))
    assert scenario.shutdown.tick(1020.0) == []
    scenario.shutdown.on_disk_full(Waiting("disk", "out: no space"))  # reported again: it still waits
    reason = "out: no space: gave up waiting for space"
    assert scenario.shutdown.tick(1030.0) == control(Kill("r", "now", reason, errors.INCOMPLETE))
    assert (scenario.shutdown.has_failed, scenario.shutdown.drain()) == (True, None)


def test_stop_now_does_not_wait_for_space() -> None:
    scenario = Scenario(STARTED)
    scenario.shutdown.request_stop("now", "SIGTERM", 0.0)
    scenario.ledger.commit(1)
    scenario.shutdown.tick(0.0)
    assert not scenario.shutdown.has_failed
    scenario.shutdown.on_disk_full(Waiting("disk", "out: no space"))
    scenario.shutdown.tick(1.0)
    assert scenario.shutdown.has_failed


@pytest.mark.parametrize(
    ("total", "tasks"),
    [(1, "task 2 differs"), (2, ""), (EXACT + 3, ""), (EXACT, "")],
)
def test_shorter_input_with_settled_tasks_after_end_is_refused(total: int, tasks: str) -> None:
    scenario = Scenario(*ALL[:2], ChecksumsRecorded(0, EXACT + 5, b""))
    sends = scenario.shutdown.on_ventilator_state(replace(STATE, total=total), 0.0)
    assert bool(sends) == bool(tasks)
    assert not tasks or f": {tasks}\\nhint: " in str(sends)


def test_shorter_input_with_settled_tasks_in_group_is_refused() -> None:
    scenario = Scenario(
        STARTED,
        ChecksumsRecorded(0, EXACT + 5, b""),
        TasksSettled(((EXACT, EXACT + 2),), (), is_spilled=False, sizes=()),
    )
    sends = scenario.shutdown.on_ventilator_state(replace(STATE, total=EXACT + 3), 0.0)
    assert f": tasks {EXACT + 1} to {EXACT + 4} differ\\nhint: " in str(sends)
    complete = Scenario(
        STARTED,
        ChecksumsRecorded(0, EXACT + GROUP, b""),
        TasksSettled(((EXACT, EXACT + 2),), (), is_spilled=False, sizes=()),
    )
    assert complete.shutdown.on_ventilator_state(replace(STATE, total=EXACT + GROUP), 0.0) == []


def test_broken_input_before_settled_tasks_is_incomplete() -> None:
    scenario = Scenario(*ALL[:2])
    run = replace(STATE, total=1, reason="a file vanished")
    assert scenario.shutdown.on_ventilator_state(run, 0.0) == entry(
        1, RunStopped("now", "a file vanished", errors.INCOMPLETE)
    )
    assert scenario.shutdown.on_ventilator_state(run, 0.0) == []
