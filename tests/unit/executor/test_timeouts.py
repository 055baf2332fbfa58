"""Commands that run too long, with real processes: who is stopped, who is killed, and what is left of it: nothing."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.executor.limits import TaskLimits
from pipeline.model.events import CancelTasks
from pipeline.model.option_values import Timeout
from pipeline.model.state_machine import NEVER, Port
from tests.unit.executor.command_driver import is_alive, make_driver, read_pid

SHORT = Timeout(seconds=0.3)


def test_a_task_that_runs_too_long_is_stopped_and_fails_and_the_others_go_on() -> None:
    with make_driver("sleep {}; echo {}", slots=1, limits=TaskLimits(SHORT)) as it:
        assert it.run_records(b"0", b"1000", b"0") == [b"0\n", b"", b"0\n"]
    (note,) = it.failures.values()
    assert (note.task, note.kind, note.code) == (1, "timeout", 15)
    assert note.text == "timed out after 0.3 s: sleep 1000; echo 1000"
    assert it.records == {1: b"1000"}


def test_what_it_wrote_before_is_kept() -> None:
    with make_driver("echo {}; echo oh >&2; exec sleep 1000", limits=TaskLimits(SHORT)) as it:
        assert it.run_records(b"a") == [b"a\n"]
    assert it.failures[0].stderr_tail == "oh\n"


def test_who_cleans_up_and_ends_well_has_failed_nevertheless(tmp_path: Path) -> None:
    with make_driver(
        f"trap 'touch {tmp_path}/cleaned; exit 0' TERM; sleep 1000 & wait; : {{}}", limits=TaskLimits(SHORT)
    ) as it:
        it.run_records(b"a")
    assert (it.failures[0].kind, it.failures[0].code) == ("timeout", 15)
    assert (tmp_path / "cleaned").exists()


def test_who_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    with make_driver(
        f"trap '' TERM; echo $$ > {tmp_path}/pid; sleep 1000; : {{}}", limits=TaskLimits(SHORT, grace_seconds=0.2)
    ) as it:
        it.run_records(b"a")
    assert (it.failures[0].kind, it.failures[0].code) == ("timeout", 9)
    assert not is_alive(read_pid(tmp_path / "pid"))


def test_who_is_suspended_is_woken_to_end() -> None:
    with make_driver("kill -STOP $$; sleep 1000; : {}", limits=TaskLimits(SHORT, grace_seconds=1000.0)) as it:
        it.run_records(b"a")
    assert it.failures[0].code == 15


def test_what_it_started_in_groups_of_its_own_has_its_grace_and_is_killed_then(tmp_path: Path) -> None:
    stubborn = "set -m; trap '' TERM; sleep 1000 & echo $! > {}; trap - TERM; sleep 1000"
    with make_driver(stubborn, limits=TaskLimits(SHORT, grace_seconds=0.4)) as it:
        it.send_records(os.fsencode(tmp_path / "pid"))
        it.run_until(lambda: 0 in it.outputs)
        it.run_until(lambda: not is_alive(read_pid(tmp_path / "pid")))
    assert (it.failures[0].kind, it.failures[0].code) == ("timeout", 9)


def test_what_it_started_may_end_in_the_grace_after_it(tmp_path: Path) -> None:
    slow = f"(trap 'sleep 0.2; touch {tmp_path}/cleaned; exit' TERM; sleep 1000 & wait) & sleep 1000; : {{}}"
    with make_driver(slow, limits=TaskLimits(SHORT, grace_seconds=1000.0)) as it:
        it.run_records(b"a")
    assert (tmp_path / "cleaned").exists()
    assert it.failures[0].code == 15


def test_a_limit_in_percent_waits_for_the_first_that_ends_well(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    command = f"case {{}} in long) read x < {gate};; fail) exit 1;; esac; echo {{}}"
    with make_driver(command, limits=TaskLimits(Timeout(median_factor=2.0))) as it:
        it.send_records(b"fail", b"long")
        it.run_until(lambda: 0 in it.outputs)
        it.run_until(lambda: it.executor.deadline == NEVER)
        it.send_records(b"short", first=2)
        it.run_until(lambda: len(it.outputs) == 3)
    assert {task: note.kind for task, note in it.failures.items()} == {0: "exit", 1: "timeout"}


def test_a_task_cancelled_in_its_grace_is_killed_and_not_told(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    stubborn = f"trap 'touch {tmp_path}/asked' TERM; echo $$ > {pid}; while :; do sleep 0.01; done"
    command = f"case {{}} in ok) echo ok; exit;; esac; {stubborn}"
    with make_driver(command, slots=1, limits=TaskLimits(SHORT, grace_seconds=1000.0)) as it:
        it.send_records(b"a")
        it.run_until((tmp_path / "asked").exists)
        it.executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
        it.send_records(b"ok")
        it.run_until(lambda: 0 in it.outputs)
    assert it.outputs == {0: b"ok\n"}
    assert it.failures == {}
    assert not is_alive(read_pid(pid))
