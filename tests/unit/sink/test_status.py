"""The status of the run, and why no tasks run."""

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

HEARTBEAT = Heartbeat("ann", 1, "r", "d", "wc", 2, 1, 0, 2, (), (), 0, 0.0, 5)
EVENTS: tuple[JournalEvent, ...] = (
    RunStarted("r", "print"), TasksSettled(((0, 2),), ((1, 2),), is_spilled=False, sizes=()),
    TasksSettled(((3, 4),), (), is_spilled=True, sizes=()), InputEnded(9, ""),
)  # fmt: skip


class Scenario:
    """A sink that knows its ventilator and writes in order."""

    def __init__(self, *events: JournalEvent, is_ordered: bool = True, has_ventilator: bool = True) -> None:
        self.ledger = Ledger(events)
        self.peers = PeerTable(self.ledger, 10.0, 0.0)
        config = WriterConfig(spill_limit=1, keep_order=is_ordered)
        live_output = LiveOutput(self.ledger, is_ordered=is_ordered)
        self.writer = ResultWriter(self.ledger, RetryQueue(RetryPolicy()), live_output, config)
        self.status_builder = StatusBuilder(self.ledger, self.peers, self.writer, 0.0, is_ordered=is_ordered)
        if has_ventilator:
            self.peers.on_ventilator_state(0.0)

    def blocked_on(self, *unfinished: tuple[int, int]) -> str:
        self.peers.on_heartbeat(replace(HEARTBEAT, unfinished=unfinished), 0.0)
        return self.status_builder.build_status(1.0, None).blocked_on


def test_status_contains_progress_and_workers() -> None:
    scenario = Scenario(*EVENTS)
    scenario.peers.on_heartbeat(HEARTBEAT, 0.0)
    scenario.peers.on_activity(WorkerActivity("ann", 1.5, 4096, (RunningTask(2, 1, 0.5, "wc 2"),)))
    scenario.peers.on_activity(WorkerActivity("bob", 1.5, 4096, ()))
    workers = (WorkerStatus("ann", "wc", 2, 0, 5, 0.5, 1.5, 4096, (RunningTask(2, 1, 0.5, "wc 2"),)),)
    status = RunStatus("r", "ended", 3, 1, 9, 2, workers, (), elapsed_seconds=0.5, blocked_on="turn")
    assert scenario.status_builder.build_status(0.5, None) == status
    scenario.peers.on_heartbeat(HEARTBEAT, 0.0)  # the activity is still known after the next heartbeat
    assert scenario.status_builder.build_status(0.5, None) == status
    kill = Kill("r", "soon", "^C", 130)
    ended = replace(status, state="soon", waiting_for=("ann", "ventilator"), blocked_on="")
    assert scenario.status_builder.publish(0.5, kill) == [Send(Port.CONTROL, ended), Send(Port.USER, ended)]


def test_rate_and_time_start_with_run() -> None:
    scenario = Scenario()

    def status(now: float) -> Any:
        return scenario.status_builder.publish(now, None)[0].message

    assert (status(1.0).elapsed_seconds, status(5.0).tasks_per_second) == (0.0, 0.0)
    scenario.ledger.apply(RunStarted("r", "print"))
    scenario.ledger.apply(TasksSettled(((0, 20),), (), is_spilled=False, sizes=()))
    assert (status(9.0).elapsed_seconds, status(9.0).tasks_per_second) == (4.0, 20 / 8)


@pytest.mark.parametrize(
    ("unfinished", "blocked_on"), [((), "turn"), (((2, 3),), ""), (((2, 4),), "slots"), (((2, 99),), "slots")]
)
def test_running_task_with_free_slots_is_not_blocked(unfinished: Any, blocked_on: str) -> None:
    assert Scenario(*EVENTS).blocked_on(*unfinished) == blocked_on


def test_missing_peer_blocks_run() -> None:
    assert Scenario(has_ventilator=False).status_builder.build_status(1.0, None).blocked_on == "ventilator"
    assert Scenario(*EVENTS).status_builder.build_status(1.0, None).blocked_on == "worker"


def test_silent_input_blocks_only_idle_run() -> None:
    scenario = Scenario(*EVENTS[:2], is_ordered=False)
    scenario.status_builder.is_waiting_for_input = True
    assert scenario.blocked_on() == "input"
    assert scenario.blocked_on((2, 3)) == ""


def test_output_without_commit_between_statuses_is_stuck() -> None:
    scenario = Scenario(*EVENTS, is_ordered=False)
    scenario.peers.on_heartbeat(HEARTBEAT, 0.0)
    scenario.writer.accept(Result("r", "ann", 5, 1, b"x", b"\1\0\0\0", b"", ()))
    first, second = (scenario.status_builder.publish(now, None)[0].message for now in (1.0, 2.0))
    assert isinstance(first, RunStatus)
    assert isinstance(second, RunStatus)
    assert (first.blocked_on, second.blocked_on) == ("", "output")


def test_full_spill_blocks_running_tasks_too() -> None:
    scenario = Scenario(*EVENTS)
    scenario.writer.accept(Result("r", "ann", 5, 1, b"xx", b"\2\0\0\0", b"", ()))
    assert scenario.blocked_on((2, 3)) == "spill"
