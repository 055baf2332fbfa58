"""Workers and tasks that die or freeze: each result is written once, and only the faulty task fails."""

from __future__ import annotations

import os
import re
import signal

import psutil
import pytest

from tests.integration.cluster import TASK_FUNCTIONS, Cluster, PipeProcess
from tests.support.processes import wait_until

FEED = ("--interval", "0.2", "--liveness", "1.5")
NUMBERS = sorted(map(str, range(200)))
TASKS = "".join(f"{number}\n" for number in range(200))
SLOW = "[ {} -lt 190 ] || { echo $PPID >> held; until [ -e gate ]; do sleep 0.02; done; }; sleep 0.01; echo {}"
"""The last tasks write down the pid of their worker and wait for the test, so that the fault happens in the middle."""


def line(cluster: Cluster, workers: int) -> tuple[PipeProcess, PipeProcess, list[PipeProcess]]:
    """Start sink, ventilator and workers, and wait until each worker holds tasks that wait for the gate.

    A worker that has only started is unknown to the ventilator, which then cannot lose it.
    """
    sink = cluster.start("sink", "--liveness", "1.5", "--interval", "0.2")
    work = [cluster.start("work", "-j", "2", SLOW) for _ in range(workers)]
    vent = cluster.start("ventilate", *FEED, tasks=TASKS)
    held = cluster.path("held")
    wait_until(held.exists)
    wait_until(lambda: len(set(held.read_text().split())) == workers)
    return sink, vent, work


def freeze(vent: PipeProcess, work: list[PipeProcess]) -> list[psutil.Process]:
    """Suspend the workers, and wait until the ventilator has lost each; the name of a worker contains its pid."""
    frozen = [worker.children()[0] for worker in work]
    for each in frozen:
        each.suspend()
    for each in frozen:
        wait_until(lambda pid=each.pid: re.search(rf"warning: lost worker \S+\.{pid}\.", vent.stderr))  # type: ignore[misc]
    return frozen


@pytest.mark.parametrize("target", ["worker", "supervisor"])
def test_killed_worker_loses_no_task(cluster: Cluster, target: str) -> None:
    sink, vent, work = line(cluster, 2)
    os.kill(work[0].children()[0].pid if target == "worker" else work[0].pid, signal.SIGKILL)
    cluster.path("gate").touch()
    assert work[0].wait() == (3 if target == "worker" else -9)
    assert [vent.wait(), sink.wait(), work[1].wait()] == [0, 0, 0]
    assert sink.lines == NUMBERS
    assert ("pipe: error: the worker was killed by SIGKILL\n" in work[0].stderr) is (target == "worker")
    cluster.assert_empty()


def test_frozen_worker_is_lost_and_its_late_results_dropped(cluster: Cluster) -> None:
    sink, vent, work = line(cluster, 2)
    freeze(vent, work[:1])[0].resume()
    cluster.path("gate").touch()
    assert [vent.wait(), sink.wait(), work[0].wait(), work[1].wait()] == [0, 0, 0, 0]
    assert sink.lines == NUMBERS
    cluster.assert_empty()


def test_all_workers_frozen_at_once_continue(cluster: Cluster) -> None:
    sink, vent, work = line(cluster, 2)
    for each in freeze(vent, work):
        each.resume()
    cluster.path("gate").touch()
    assert [vent.wait(), sink.wait(), *(worker.wait() for worker in work)] == [0, 0, 0, 0]
    assert sink.lines == NUMBERS


def test_task_that_holds_the_gil_does_not_lose_its_worker(cluster: Cluster) -> None:
    run = cluster.start("run", "-v", "-j", "2", "--interval", "0.2", "--liveness", "1", "--call",
    f"{TASK_FUNCTIONS}:hold_the_gil",
                      tasks="long:2.5\nshort:0\nother:0\n")  # fmt: skip
    assert run.wait() == 0
    assert run.lines == ["long", "other", "short"]
    assert sorted(cluster.path("executed").read_text().split()) == ["long", "other", "short"]
    assert "lost worker" not in run.stderr


def test_dead_executor_fails_only_its_task_with_the_cause(cluster: Cluster) -> None:
    good = [f"good-{number}" for number in range(100)]
    bad = {"segfault": "killed by SIGSEGV", "exit": "exited with 7", "kill": "killed by SIGKILL"}
    bad |= {"abort": "killed by SIGABRT", "raise": "ValueError: raise"}
    tasks = [*good[:50], *bad, *good[50:]]
    run = cluster.start("run", "-j", "2", "--call", f"{TASK_FUNCTIONS}:die", tasks="\n".join(tasks))
    assert run.wait() == 1
    assert run.lines == sorted(good)
    for number, how in enumerate(bad.values(), start=51):
        assert f"pipe: task {number}: {how}\n" in run.stderr
    assert "105 tasks, 5 failed" in run.stderr.splitlines()[-1]
    cluster.assert_empty()


@pytest.mark.parametrize("asked", [(), ("-v",)], ids=["quiet", "verbose"])
def test_failing_commands_report_the_first_exit_code(cluster: Cluster, asked: tuple[str, ...]) -> None:
    command = "case {} in k*) kill -9 $$;; s*) kill -SEGV $$;; e*) exit 7;; esac; echo {}"
    run = cluster.start("run", "-j", "2", *asked, command, tasks="one\nkill\ntwo\nsegv\nthree\nexit\nfour\n")
    assert run.wait() == 1
    assert run.lines == ["four", "one", "three", "two"]
    for named in ("task 2: SIGKILL: ", "task 4: SIGSEGV: "):
        assert f"pipe: {named}" in run.stderr
    assert run.stderr.count("pipe: task 6: exit 7: ") == 1
    assert "7 tasks, 3 failed" in run.stderr.splitlines()[-1]


def test_verbose_names_each_process_and_its_context(cluster: Cluster) -> None:
    run = cluster.start("run", "-v", "-w", "2", "echo", tasks="1\n")
    assert run.wait() == 0
    names = run.station_pids()
    assert sorted(names) == ["sink", "ventilator", "worker-1", "worker-2"]
    roles = {name.partition("-")[0]: pid for name, pid in names.items()}
    for role, pid in roles.items():
        assert f"pipe: {role} {pid} created ZeroMQ context 0x" in run.stderr
    assert run.stderr.count("created ZeroMQ context") == len(set(names.values())) == 4
