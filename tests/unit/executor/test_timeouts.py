"""Time limits of commands, with real processes."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.executor.limits import TaskLimits
from pipeline.model.events import CancelTasks
from pipeline.model.option_values import Timeout
from pipeline.model.state_machine import NEVER, Port
from tests.support.processes import is_alive
from tests.unit.executor.command_driver import make_driver, read_pid

SHORT = Timeout(seconds=0.3)


def test_timeout_fails_only_the_slow_task() -> None:
    with make_driver("sleep {}; echo {}", slots=1, limits=TaskLimits(SHORT)) as driver:
        assert driver.run_records(b"0", b"1000", b"0") == [b"0\n", b"", b"0\n"]
    (failure,) = driver.failures.values()
    assert (failure.task, failure.kind, failure.code) == (1, "timeout", 15)
    assert failure.text == "timed out after 0.3 s: sleep 1000; echo 1000"
    assert driver.records == {1: b"1000"}


def test_timeout_keeps_earlier_output() -> None:
    with make_driver("echo {}; echo oh >&2; exec sleep 1000", limits=TaskLimits(SHORT)) as driver:
        assert driver.run_records(b"a") == [b"a\n"]
    assert driver.failures[0].stderr_tail == "oh\n"


def test_timeout_with_successful_cleanup_still_fails(tmp_path: Path) -> None:
    with make_driver(
        f"trap 'touch {tmp_path}/cleaned; exit 0' TERM; sleep 1000 & wait; : {{}}", limits=TaskLimits(SHORT)
    ) as driver:
        driver.run_records(b"a")
    assert (driver.failures[0].kind, driver.failures[0].code) == ("timeout", 15)
    assert (tmp_path / "cleaned").exists()


def test_timeout_ignoring_sigterm_is_killed_after_grace(tmp_path: Path) -> None:
    with make_driver(
        f"trap '' TERM; echo $$ > {tmp_path}/pid; sleep 1000; : {{}}", limits=TaskLimits(SHORT, grace_seconds=0.2)
    ) as driver:
        driver.run_records(b"a")
    assert (driver.failures[0].kind, driver.failures[0].code) == ("timeout", 9)
    assert not is_alive(read_pid(tmp_path / "pid"))


def test_timeout_continues_a_suspended_task_to_end_it() -> None:
    with make_driver("kill -STOP $$; sleep 1000; : {}", limits=TaskLimits(SHORT, grace_seconds=1000.0)) as driver:
        driver.run_records(b"a")
    assert driver.failures[0].code == 15


def test_timeout_kills_other_groups_after_grace(tmp_path: Path) -> None:
    stubborn = "set -m; trap '' TERM; sleep 1000 & echo $! > {}; trap - TERM; sleep 1000"
    with make_driver(stubborn, limits=TaskLimits(SHORT, grace_seconds=0.4)) as driver:
        driver.send_records(os.fsencode(tmp_path / "pid"))
        driver.run_until(lambda: 0 in driver.outputs)
        driver.run_until(lambda: not is_alive(read_pid(tmp_path / "pid")))
    assert (driver.failures[0].kind, driver.failures[0].code) == ("timeout", 9)


def test_timeout_lets_background_processes_use_the_grace(tmp_path: Path) -> None:
    slow = f"(trap 'sleep 0.2; touch {tmp_path}/cleaned; exit' TERM; sleep 1000 & wait) & sleep 1000; : {{}}"
    with make_driver(slow, limits=TaskLimits(SHORT, grace_seconds=1000.0)) as driver:
        driver.run_records(b"a")
    assert (tmp_path / "cleaned").exists()
    assert driver.failures[0].code == 15


def test_timeout_in_percent_starts_at_first_success(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = f"case {{}} in long) read x < {gate};; fail) exit 1;; esac; echo {{}}"
    with make_driver(command, limits=TaskLimits(Timeout(median_factor=2.0))) as driver:
        driver.send_records(b"fail", b"long")
        driver.run_until(lambda: 0 in driver.outputs)
        driver.run_until(lambda: driver.executor.deadline == NEVER)
        driver.send_records(b"short", first=2)
        driver.run_until(lambda: len(driver.outputs) == 3)
    assert {task: failure.kind for task, failure in driver.failures.items()} == {0: "exit", 1: "timeout"}


def test_cancel_during_grace_kills_without_report(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    stubborn = f"trap 'touch {tmp_path}/asked' TERM; echo $$ > {pid}; while :; do sleep 0.01; done"
    command = f"case {{}} in ok) echo ok; exit;; esac; {stubborn}"
    with make_driver(command, slots=1, limits=TaskLimits(SHORT, grace_seconds=1000.0)) as driver:
        driver.send_records(b"a")
        driver.run_until((tmp_path / "asked").exists)
        driver.executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
        driver.send_records(b"ok")
        driver.run_until(lambda: 0 in driver.outputs)
    assert driver.outputs == {0: b"ok\n"}
    assert driver.failures == {}
    assert not is_alive(read_pid(pid))
