"""Stopping by Kill, by signals and by crashes: all processes end, and no orphan and no file remains."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from tests.integration.cluster import TASK_FUNCTIONS, Cluster, PipeProcess
from tests.support.processes import wait_until

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
FEED = ("--interval", "0.2", "--liveness", "1.5")
TASKS = "".join(f"{number}\n" for number in range(300))
LONG = "echo {} >> started; until [ -e go ]; do sleep 0.02; done; echo {}"
"""A task that ends when the file `go` exists."""
FAMILY = f"sleep 1000 & {sys.executable} {TASK_FUNCTIONS} daemon; echo >> started; sleep 1000; echo {{}}"
"""A task with a child in the background and a daemon that has left its session."""


def started(cluster: Cluster, count: int) -> None:
    """Wait until `count` tasks have started."""
    note = cluster.path("started")
    wait_until(lambda: note.exists() and len(note.read_text().splitlines()) >= count)


def heard(cluster: Cluster) -> dict[str, str]:
    """Return the environment in which stations record what they receive; see `wait_for_kill`."""
    return {"PIPE_FAILPOINT": f"record:{cluster.path('heard')}"}


def wait_for_kill(cluster: Cluster) -> None:
    """Wait until the worker has received Kill: only from then on it starts no task."""
    wait_until(lambda: "worker.kill-received" in cluster.path("heard").read_text())


def three(cluster: Cluster, command: str, *more: str) -> dict[str, PipeProcess]:
    """Start the three commands, and wait until two tasks run."""
    players = {
        "sink": cluster.start("sink", *more),
        "work": cluster.start("work", "-j", "2", *more, command, **heard(cluster)),
        "ventilate": cluster.start("ventilate", *FEED, *more, tasks=TASKS),
    }
    started(cluster, 2)
    return players


# --- a person asks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("signum", "code"), [(INT, 130), (TERM, 143), (HUP, 143)])
def test_first_interrupt_finishes_running_tasks(cluster: Cluster, signum: int, code: int) -> None:
    run = cluster.start("run", "-j", "2", LONG, tasks=TASKS, **heard(cluster))
    started(cluster, 2)
    run.send_signal(signum)
    run.wait_for_stderr("pipe: stopping after running tasks finish")
    wait_for_kill(cluster)
    cluster.path("go").touch()
    assert run.wait() == code
    assert run.lines == ["0", "1"]
    assert "\npipe: 2" in run.stderr
    cluster.assert_empty()


@pytest.mark.parametrize(("signum", "code"), [(INT, 130), (TERM, 143)])
def test_second_interrupt_kills_running_tasks(cluster: Cluster, signum: int, code: int) -> None:
    run = cluster.start("run", "-j", "2", FAMILY, tasks=TASKS)
    started(cluster, 2)
    run.send_signal(signum)
    run.wait_for_stderr("pipe: stopping after running tasks finish")
    run.send_signal(signum)
    assert run.wait() == code
    assert run.lines == []
    cluster.assert_empty()


@pytest.mark.parametrize("role", ["sink", "ventilate"])
def test_interrupted_station_ends_the_run_after_running_tasks(cluster: Cluster, role: str) -> None:
    players = three(cluster, LONG)
    players[role].send_signal(INT)
    wait_for_kill(cluster)
    cluster.path("go").touch()
    assert {name: player.wait() for name, player in players.items()} == {"sink": 130, "ventilate": 130, "work": 0}
    assert "pipe: stopping after running tasks finish" in players[role].stderr
    assert players["sink"].lines == ["0", "1"]
    cluster.assert_empty()


def test_interrupted_worker_finishes_and_the_run_continues(cluster: Cluster) -> None:
    players = three(cluster, LONG)
    players["work"].send_signal(INT)
    players["work"].wait_for_stderr("pipe: stopping after running tasks finish")
    cluster.path("go").touch()
    assert players["work"].wait() == 130
    assert {"0", "1"} <= set(players["sink"].lines)
    other = cluster.start("work", "-j", "2", LONG)
    assert [players["sink"].wait(), players["ventilate"].wait(), other.wait()] == [0, 0, 0]
    assert sorted(players["sink"].stdout.split(), key=int) == TASKS.split()
    cluster.assert_empty()


def test_worker_interrupted_twice_kills_its_tasks(cluster: Cluster) -> None:
    players = three(cluster, FAMILY)
    others = {players["sink"].pid, players["ventilate"].pid}
    players["work"].send_signal(INT)
    players["work"].wait_for_stderr("pipe: stopping after running tasks finish; press Ctrl-C again to kill them\n")
    players["work"].send_signal(INT)
    assert players["work"].wait() == 130
    wait_until(lambda: set(cluster.living_pids()) == others)


def test_run_under_nohup_ignores_sighup(cluster: Cluster) -> None:
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        run = cluster.start("run", "-j", "2", LONG, tasks="0\n1\n")
    finally:
        signal.signal(HUP, before)
    started(cluster, 2)
    run.send_signal(HUP)
    cluster.path("go").touch()
    assert run.wait() == 0
    assert run.lines == ["0", "1"]


# --- pipe kill -------------------------------------------------------------------------------------


def test_pipe_kill_finishes_tasks_of_one_pipeline_only(cluster: Cluster) -> None:
    other = cluster.start("run", "--name", "other", "-j", "1", LONG.replace("go", "later"), tasks="one\n")
    started(cluster, 1)
    players = three(cluster, LONG)
    started(cluster, 3)
    kill = cluster.start("kill", "--name", "default")
    kill.wait_for_stderr("waiting for ")
    wait_for_kill(cluster)
    cluster.path("go").touch()
    assert kill.wait() == 0
    assert {name: player.wait() for name, player in players.items()} == {"sink": 130, "ventilate": 130, "work": 0}
    assert players["sink"].lines == ["0", "1"]
    assert "pipe: error: sink stopped: pipe kill" in players["sink"].stderr
    cluster.path("later").touch()
    assert other.wait() == 0
    assert other.lines == ["one"]
    cluster.assert_empty()


def test_pipe_kill_now_kills_tasks_and_their_children(cluster: Cluster) -> None:
    players = three(cluster, FAMILY)
    kill = cluster.start("kill", "--now")
    assert kill.wait() == 0
    assert {name: player.wait() for name, player in players.items()} == {"sink": 130, "ventilate": 130, "work": 0}
    assert players["sink"].lines == []
    cluster.assert_empty()


def test_worker_started_after_kill_exits_too(cluster: Cluster) -> None:
    players = three(cluster, LONG)
    kill = cluster.start("kill")
    kill.wait_for_stderr("waiting for ")
    late = cluster.start("work", LONG)
    assert late.wait() == 0
    wait_for_kill(cluster)
    cluster.path("go").touch()
    assert kill.wait() == 0
    assert players["work"].wait() == 0
    assert len(players["sink"].lines) == 2
    cluster.assert_empty()


# --- kill -9 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["launcher", "sink", "ventilator", "worker-1"])
def test_no_process_outlives_a_killed_process_of_a_run(cluster: Cluster, target: str) -> None:
    run = cluster.start("run", "-v", "-j", "2", *FEED, FAMILY, tasks="1\n2\n")
    started(cluster, 2)
    wait_until(lambda: len(cluster.living_pids()) >= 4 + 2 * 4)
    os.kill(run.station_pids().get(target, run.pid), signal.SIGKILL)
    if target in {"ventilator", "worker-1"}:
        run.wait_for_stderr(f"{target} was killed by SIGKILL; restarting")
        run.send_signal(INT)
        run.wait_for_stderr("stopping")
        run.send_signal(INT)
    if target == "sink":  # without a journal the sink is not restarted; the others receive a signal
        run.wait_for_stderr("sink was killed by SIGKILL; cannot restart it without a journal")
    assert run.wait() == {"launcher": -9, "sink": 3}.get(target, 130)
    wait_until(lambda: not cluster.living_pids())


@pytest.mark.parametrize("target", ["supervisor", "worker"])
def test_no_process_outlives_a_killed_worker_or_supervisor(cluster: Cluster, target: str) -> None:
    players = three(cluster, FAMILY)
    work = players["work"]
    others = {players["sink"].pid, players["ventilate"].pid}
    os.kill(work.pid if target == "supervisor" else work.children()[0].pid, signal.SIGKILL)
    assert work.wait() == (-9 if target == "supervisor" else 3)
    wait_until(lambda: set(cluster.living_pids()) == others)


def test_files_of_a_killed_run_do_not_block_the_next(cluster: Cluster) -> None:
    players = three(cluster, LONG, "--name", "again")
    cluster.kill_all()
    for player in players.values():
        player.wait()
    assert {path.name for path in (cluster.runtime_folder / "pipe" / "again").iterdir()} >= {
        "sink.lock",
        "registry",
        "control",
    }
    run = cluster.start("run", "--name", "again", "echo", tasks="1\n2\n")
    assert run.wait() == 0
    assert run.lines == ["1", "2"]
    cluster.assert_empty()


@pytest.mark.parametrize("times", [1, 2])
def test_full_disk_does_not_block_a_stop(cluster: Cluster, times: int) -> None:
    run = cluster.start("run", "-o", "/dev/full", "echo {}", ":::", "a")
    run.wait_for_stderr("paused, will resume when space is available")
    for time in range(times):
        run.send_signal(signal.SIGTERM)
        run.wait_for_stderr("stopping" if time == 0 else "gave up")
    assert run.wait() == 3
    assert "gave up waiting for space" in run.stderr
    assert "SIGKILL" not in run.stderr
    assert "no ventilator" not in run.stderr
