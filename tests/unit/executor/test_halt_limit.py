"""Executors in a run with --halt: they start nothing that could be too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from pipeline.executor.child_channel import HaltGate
from pipeline.executor.command_executor import DryRunExecutor
from pipeline.model.events import HaltLimit, ReleaseQueued, TasksFinished, TasksReleased
from pipeline.model.messages import Chunk, RecordFormat
from pipeline.model.option_values import HaltEvent, count_halt_events
from pipeline.model.state_machine import Adapter, Message, Port
from tests.support.processes import wait_until
from tests.unit.executor import call_driver
from tests.unit.executor.call_driver import CallDriver, StartDriver
from tests.unit.executor.command_driver import CommandDriver, make_driver

start, module = call_driver.start, call_driver.module

RECORDS = [f"{number % 3}" for number in range(3, 60)]
"""Tasks that fail, unless they are 0."""
LIMITS: list[tuple[HaltEvent, int, int]] = [
    ("fail", 1, 2), ("fail", 5, 8), ("success", 1, 1), ("success", 4, 10), ("done", 1, 1), ("done", 20, 20),
]  # fmt: skip
"""Halt event, limit, and how many tasks of RECORDS are run then."""


def finished_count(messages: Sequence[Message]) -> int:
    return sum(message.result.count for message in messages if isinstance(message, TasksFinished))


def run_to_limit(driver: CallDriver | CommandDriver, event: HaltEvent, limit: int) -> None:
    """Run RECORDS as a worker does that gets no Ack; return when the executor waits."""
    driver.executor.send(Port.EXECUTOR, RecordFormat(halt_event=event))
    driver.executor.send(Port.EXECUTOR, HaltLimit(limit))
    body = "".join(f"{record}\n" for record in RECORDS).encode()
    driver.executor.send(Port.EXECUTOR, Chunk("r", 1, 1, 0, len(RECORDS), body))
    seen, left = 0, limit

    def is_limit_reached() -> bool:
        nonlocal seen, left
        for message in driver.messages[seen:]:
            if isinstance(message, TasksFinished):
                left -= count_halt_events(event, message.result.count, len(message.result.failures))
                driver.executor.send(Port.EXECUTOR, HaltLimit(left))
        seen = len(driver.messages)
        return left <= 0

    driver.run_until(is_limit_reached)


def release(driver: CallDriver | CommandDriver) -> tuple[tuple[int, int], ...]:
    driver.executor.send(Port.EXECUTOR, ReleaseQueued())
    driver.run_until(lambda: isinstance(driver.messages[-1], TasksReleased))
    last = driver.messages[-1]
    assert isinstance(last, TasksReleased)
    return last.ranges


@pytest.mark.parametrize(("event", "limit", "ran"), LIMITS)
def test_command_executor_starts_nothing_after_the_limit(event: HaltEvent, limit: int, ran: int) -> None:
    with make_driver("exit {}", slots=1) as driver:
        run_to_limit(driver, event, limit)
        assert (finished_count(driver.messages), release(driver)) == (ran, ((ran, len(RECORDS)),))


@pytest.mark.parametrize(("event", "limit", "ran"), LIMITS)
def test_call_executor_starts_nothing_after_the_limit(
    start: StartDriver, module: Callable[[str], str], event: HaltEvent, limit: int, ran: int
) -> None:
    driver = start(module("def value(task): return 1 // (task == '0')") + ":value", slots=1)
    run_to_limit(driver, event, limit)
    assert (finished_count(driver.messages), release(driver)) == (ran, ((ran, len(RECORDS)),))


@pytest.mark.parametrize("is_call", [True, False])
def test_executor_continues_when_the_run_goes_on(
    start: StartDriver, module: Callable[[str], str], *, is_call: bool
) -> None:
    if is_call:
        driver = start(module("def value(task): return 1 // (task == '0')") + ":value")
        run_to_limit(driver, "fail", 1)
        driver.executor.send(Port.EXECUTOR, HaltLimit(100))
        driver.run_until(lambda: finished_count(driver.messages) == len(RECORDS))
        return
    with make_driver("exit {}") as commands:
        run_to_limit(commands, "fail", 1)
        commands.executor.send(Port.EXECUTOR, HaltLimit(100))
        commands.run_until(lambda: finished_count(commands.messages) == len(RECORDS))


def test_dry_run_shows_nothing_after_the_limit() -> None:
    executor: Adapter = DryRunExecutor(("echo {}",))
    executor.send(Port.EXECUTOR, RecordFormat(halt_event="done"))
    executor.send(Port.EXECUTOR, HaltLimit(3))
    executor.send(Port.EXECUTOR, Chunk("r", 1, 1, 0, 9, b"x\n" * 9))
    assert finished_count(executor.receive()) == 3


def test_halt_gate_ends_a_batch_for_good() -> None:
    gate = HaltGate(2)
    flags = gate.filter([1, 0, 1, 1])
    assert [next(flags), next(flags)] == [1, 0]
    gate.set(2, is_closed=True)
    assert gate.is_closed
    assert list(flags) == []
    gate.set(2, is_closed=False)
    assert not gate.is_closed
    assert list(flags) == []  # a task in the middle would be left out


def test_released_call_executor_reports_finished_tasks_first(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        def value(task):
            if task == "slow":
                open({str(tmp_path / "started")!r}, "w").close()
                time.sleep(60)
    """)
    driver = start(path + ":value", slots=1)
    driver.send_records("first")
    driver.run(1)  # now a batch may have four tasks
    driver.send_records("a", "b", "slow", "c", first=1)
    wait_until((tmp_path / "started").exists)
    assert release(driver) == ((4, 5),)
    assert finished_count(driver.messages) == 3
