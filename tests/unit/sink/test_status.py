"""The whole line for those who look on, and why nothing runs."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.model.journal_events import InputEnded, JournalEvent, RunStarted, TasksSettled
from pipeline.model.messages import Heartbeat, Kill, Result, RunningTask, RunStatus, WorkerActivity, WorkerStatus
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.sink.broadcast import StatusBuilder
from pipeline.sink.ledger import Ledger
from pipeline.sink.peers import PeerTable
from pipeline.sink.result_writer import LiveOutput, ResultWriter, WriterConfig
from pipeline.sink.retries import RetryPolicy, RetryQueue

PULSE = Heartbeat("ann", 1, "r", "d", "wc", 2, 1, 0, 2, (), (), 0, 0.0, 5)
FACTS: tuple[JournalEvent, ...] = (
    RunStarted("r", "print"), TasksSettled(((0, 2),), ((1, 2),), is_spilled=False, sizes=()),
    TasksSettled(((3, 4),), (), is_spilled=True, sizes=()), InputEnded(9, ""),
)  # fmt: skip


class Scene:
    """A sink that has heard its ventilator and ann, and writes in order."""

    def __init__(self, *facts: JournalEvent, ordered: bool = True, met: bool = True) -> None:
        self.ledger = Ledger(facts)
        self.audience = PeerTable(self.ledger, 10.0, 0.0)
        limits = WriterConfig(spill_limit=1, keep_order=ordered)
        live = LiveOutput(self.ledger, is_ordered=ordered)
        self.writing = ResultWriter(self.ledger, RetryQueue(RetryPolicy()), live, limits)
        self.view = StatusBuilder(self.ledger, self.audience, self.writing, 0.0, is_ordered=ordered)
        if met:
            self.audience.on_ventilator_state(0.0)

    def why(self, *holding: tuple[int, int]) -> str:
        self.audience.on_heartbeat(replace(PULSE, unfinished=holding), 0.0)
        return self.view.build_status(1.0, None).blocked_on


def test_it_is_the_whole_line() -> None:
    ours = Scene(*FACTS)
    ours.audience.on_heartbeat(PULSE, 0.0)
    ours.audience.on_activity(WorkerActivity("ann", 1.5, 4096, (RunningTask(2, 1, 0.5, "wc 2"),)))
    ours.audience.on_activity(WorkerActivity("bob", 1.5, 4096, ()))
    members = (WorkerStatus("ann", "wc", 2, 0, 5, 0.5, 1.5, 4096, (RunningTask(2, 1, 0.5, "wc 2"),)),)
    status = RunStatus("r", "ended", 3, 1, 9, 2, members, (), elapsed_seconds=0.5, blocked_on="turn")
    assert ours.view.build_status(0.5, None) == status
    ours.audience.on_heartbeat(PULSE, 0.0)  # what a worker runs is still known after its next pulse
    assert ours.view.build_status(0.5, None) == status
    kill = Kill("r", "soon", "^C", 130)
    ended = replace(status, state="soon", waiting_for=("ann", "ventilator"), blocked_on="")
    assert ours.view.publish(0.5, kill) == [Send(Port.CONTROL, ended), Send(Port.USER, ended)]


def test_the_rate_is_that_of_the_last_beats_and_time_begins_with_the_run() -> None:
    ours = Scene()

    def status(now: float) -> Any:
        return ours.view.publish(now, None)[0].message

    assert (status(1.0).elapsed_seconds, status(5.0).tasks_per_second) == (0.0, 0.0)
    ours.ledger.apply(RunStarted("r", "print"))
    ours.ledger.apply(TasksSettled(((0, 20),), (), is_spilled=False, sizes=()))
    assert (status(9.0).elapsed_seconds, status(9.0).tasks_per_second) == (4.0, 20 / 8)


@pytest.mark.parametrize(
    ("holding", "why"), [((), "turn"), (((2, 3),), ""), (((2, 4),), "slots"), (((2, 99),), "slots")]
)
def test_where_something_runs_and_slots_are_free_there_is_no_reason(holding: Any, why: str) -> None:
    assert Scene(*FACTS).why(*holding) == why


def test_nobody_to_read_or_to_run() -> None:
    assert Scene(met=False).view.build_status(1.0, None).blocked_on == "ventilator"
    assert Scene(*FACTS).view.build_status(1.0, None).blocked_on == "worker"


def test_an_input_that_is_silent_is_a_reason_only_while_nothing_runs() -> None:
    ours = Scene(*FACTS[:2], ordered=False)
    ours.view.is_waiting_for_input = True
    assert ours.why() == "input"
    assert ours.why((2, 3)) == ""


def test_an_output_that_takes_nothing_for_a_beat_is_stuck() -> None:
    ours = Scene(*FACTS, ordered=False)
    ours.audience.on_heartbeat(PULSE, 0.0)
    ours.writing.accept(Result("r", "ann", 5, 1, b"x", b"\1\0\0\0", b"", ()))
    first, second = (ours.view.publish(now, None)[0].message for now in (1.0, 2.0))
    assert isinstance(first, RunStatus)
    assert isinstance(second, RunStatus)
    assert (first.blocked_on, second.blocked_on) == ("", "output")


def test_a_full_spill_is_a_reason_whatever_runs() -> None:
    ours = Scene(*FACTS)
    ours.writing.accept(Result("r", "ann", 5, 1, b"xx", b"\2\0\0\0", b"", ()))
    assert ours.why((2, 3)) == "spill"
