"""Workers and tasks that die or freeze: nothing is lost, nothing is written twice, and only the guilty task fails."""

from __future__ import annotations

import os
import signal

import pytest
from orphans import until
from stage import ACTS, Player, Stage

pytestmark = pytest.mark.untraced

FEED = ("--interval", "0.2", "--liveness", "1.5")
NUMBERS = sorted(map(str, range(200)))
TASKS = "".join(f"{number}\n" for number in range(200))
SLOW = "[ {} -lt 190 ] || until [ -e gate ]; do sleep 0.02; done; sleep 0.01; echo {}"
"""The last tasks wait for the test, so that it always strikes in the middle of the run."""


def line(stage: Stage, workers: int) -> tuple[Player, Player, list[Player]]:
    """Sink, ventilator, and workers that are in the middle of it."""
    sink = stage.start("sink", "--liveness", "1.5", "--interval", "0.2")
    work = [stage.start("work", "-j", "2", SLOW) for _ in range(workers)]
    until(lambda: all(worker.below() for worker in work))
    vent = stage.start("ventilate", *FEED, tasks=TASKS)
    until(lambda: len(sink.lines) > 20)
    return sink, vent, work


@pytest.mark.parametrize("who", ["worker", "keeper"])
def test_a_killed_worker_loses_nothing(stage: Stage, who: str) -> None:
    sink, vent, work = line(stage, 2)
    os.kill(work[0].below()[0].pid if who == "worker" else work[0].pid, signal.SIGKILL)
    stage.note("gate").touch()
    assert work[0].code() == (3 if who == "worker" else -9)
    assert [vent.code(), sink.code(), work[1].code()] == [0, 0, 0]
    assert sink.lines == NUMBERS
    assert ("pipe: the worker was killed by SIGKILL\n" in work[0].err) is (who == "worker")
    stage.is_empty()


def test_a_frozen_worker_is_lost_and_what_it_says_later_is_dropped(stage: Stage) -> None:
    sink, vent, work = line(stage, 2)
    frozen = work[0].below()[0]
    frozen.suspend()
    vent.says("fell silent")
    frozen.resume()
    stage.note("gate").touch()
    assert [vent.code(), sink.code(), work[0].code(), work[1].code()] == [0, 0, 0, 0]
    assert sink.lines == NUMBERS
    stage.is_empty()


def test_all_workers_frozen_at_once_go_on_where_they_were(stage: Stage) -> None:
    sink, vent, work = line(stage, 2)
    frozen = [worker.below()[0] for worker in work]
    for each in frozen:
        each.suspend()
    until(lambda: vent.err.count("fell silent") == 2)
    for each in frozen:
        each.resume()
    stage.note("gate").touch()
    assert [vent.code(), sink.code(), *(worker.code() for worker in work)] == [0, 0, 0, 0]
    assert sink.lines == NUMBERS


def test_a_task_that_holds_the_gil_for_longer_than_the_liveness_is_no_death(stage: Stage) -> None:
    run = stage.start("run", "-v", "-j", "2", "--interval", "0.2", "--liveness", "1", "--call", f"{ACTS}:hold_the_gil",
                      tasks="long:2.5\nshort:0\nother:0\n")  # fmt: skip
    assert run.code() == 0
    assert run.lines == ["long", "other", "short"]
    assert sorted(stage.note("executed").read_text().split()) == ["long", "other", "short"]
    assert "silent" not in run.err


def test_a_dead_executor_fails_its_task_alone_and_says_how_it_died(stage: Stage) -> None:
    good = [f"good-{number}" for number in range(100)]
    bad = {"segfault": "killed by SIGSEGV", "exit": "exited with 7", "kill": "killed by SIGKILL"}
    bad |= {"abort": "killed by SIGABRT", "raise": "ValueError: raise"}
    tasks = [*good[:50], *bad, *good[50:]]
    run = stage.start("run", "-j", "2", "--call", f"{ACTS}:die", tasks="\n".join(tasks))
    assert run.code() == 1
    assert run.lines == sorted(good)
    for number, how in enumerate(bad.values(), start=51):
        assert f"pipe: task {number}: {how}\n" in run.err
    assert "105 tasks, 5 failed" in run.err.splitlines()[-1]
    stage.is_empty()


@pytest.mark.parametrize("asked", [(), ("-v",)], ids=["quiet", "verbose"])
def test_commands_that_die_fail_alone_and_the_first_exit_code_is_named(stage: Stage, asked: tuple[str, ...]) -> None:
    command = "case {} in k*) kill -9 $$;; s*) kill -SEGV $$;; e*) exit 7;; esac; echo {}"
    run = stage.start("run", "-j", "2", *asked, command, tasks="one\nkill\ntwo\nsegv\nthree\nexit\nfour\n")
    assert run.code() == 1
    assert run.lines == ["four", "one", "three", "two"]
    for named in ("task 2: SIGKILL: ", "task 4: SIGSEGV: "):
        assert f"pipe: {named}" in run.err
    assert run.err.count("pipe: task 6: exit 7: ") == 1
    assert "7 tasks, 3 failed" in run.err.splitlines()[-1]


def test_a_worker_killed_under_the_launcher_is_replaced_and_its_tasks_run_again(stage: Stage) -> None:
    run = stage.start("run", "-v", "-j", "2", *FEED, SLOW, tasks=TASKS)
    until(lambda: len(run.lines) > 20)
    os.kill(run.names()["worker-1"], signal.SIGKILL)
    run.says("pipe: worker-1 was killed by SIGKILL; starting another in 0.5 s\n")
    stage.note("gate").touch()
    assert run.code() == 0
    assert run.lines == NUMBERS
    assert run.err.count("has a context of its own") == 4
    stage.is_empty()


def test_a_worker_that_a_task_takes_along_is_replaced_until_the_task_is_convicted(stage: Stage) -> None:
    run = stage.start("run", "-j", "1", "--crash-limit", "1", *FEED, "kill -9 $PPID; echo {}", tasks="1\n")
    assert run.code() == 1
    assert run.err.count("worker-1 was killed by SIGKILL; starting another in") >= 2
    assert run.lines == []
    assert "1 task, 1 failed" in run.err.splitlines()[-1]
    stage.is_empty()


def test_verbose_names_each_process_and_its_own_context(stage: Stage) -> None:
    run = stage.start("run", "-v", "-w", "2", "echo", tasks="1\n")
    assert run.code() == 0
    names = run.names()
    assert sorted(names) == ["sink", "ventilator", "worker-1", "worker-2"]
    roles = {name.partition("-")[0]: pid for name, pid in names.items()}
    for role, pid in roles.items():
        assert f"pipe: {role} {pid} has a context of its own, 0x" in run.err
    assert run.err.count("has a context of its own") == len(set(names.values())) == 4
