"""No child of a task outlives a `kill -9` of any process of the pipeline, even if it has left its session."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cluster import TASK_FUNCTIONS, Cluster, PipeProcess
from tests.support.processes import is_alive, wait_until

KINDS = ("", "-sh", "-stubborn", "-daemon", "-late")
COMMAND = """
echo $$ > {0}
sh -c 'sleep 1000 & echo $! > {0}-sh; wait' &
sh -c 'trap "" TERM HUP INT; echo $$ > {0}-stubborn; while :; do sleep 1000; done' &
@ daemon {0}-daemon
(setsid sh -c 'sleep 0.1; sleep 1000 & echo $! > {0}-late; wait' &)
sleep 1000
""".replace("{0}", "{}")
"""A task that waits for its child, one that ignores signals, a daemon, and one that gets a child of its own later."""
CALLABLE = """
import os, signal, sys, time
sys.path.insert(0, os.path.dirname({acts!r}))
from task_functions import daemon

def note(name, pid):
    with open(name, "w") as file:
        file.write(str(pid))

def family(task):
    for what in ("-sh", "-stubborn"):
        child = os.fork()
        if child == 0:
            if what == "-stubborn":
                for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
                    signal.signal(signum, signal.SIG_IGN)
            time.sleep(1000)
        note(task + what, child)
    daemon(task + "-daemon")
    os.system(f"(setsid sh -c 'sleep 0.1; sleep 1000 & echo $! > {{task}}-late; wait' &)")
    note(task, os.getpid())
    time.sleep(1000)
"""


def started(cluster: Cluster, *tasks: str) -> dict[str, int]:
    """Wait for all processes of these tasks, and return their pids."""
    notes = {task + kind: cluster.path(task + kind) for task in tasks for kind in KINDS}
    wait_until(lambda: all(note.exists() and note.read_text().strip() for note in notes.values()))
    return {name: int(note.read_text()) for name, note in notes.items()}


def none_of(pids: dict[str, int]) -> None:
    """Wait until none of these processes is alive."""
    wait_until(lambda: not any(map(is_alive, pids.values())))


def run(cluster: Cluster, *work: str) -> PipeProcess:
    return cluster.start("run", "-v", "-j", "2", "--interval", "0.2", "--liveness", "1.5", *work, tasks="one\ntwo\n")


def with_commands(cluster: Cluster) -> PipeProcess:
    return run(cluster, COMMAND.replace("@", f"{sys.executable} {TASK_FUNCTIONS}"))


def with_calls(cluster: Cluster) -> PipeProcess:
    cluster.path("theirs.py").write_text(CALLABLE.format(acts=str(TASK_FUNCTIONS)))
    return run(cluster, "--call", "theirs.py:family")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("start", [with_commands, with_calls])
@pytest.mark.parametrize("target", ["launcher", "worker-1"])
def test_no_orphan_survives_killed_launcher_or_worker(
    cluster: Cluster, start: Callable[[Cluster], PipeProcess], target: str
) -> None:
    player = start(cluster)
    family = started(cluster, "one", "two")
    os.kill(player.station_pids().get(target, player.pid), signal.SIGKILL)
    none_of(family)
    if target == "launcher":
        wait_until(lambda: not cluster.living_pids())


def test_no_orphan_survives_a_killed_fork_server(cluster: Cluster) -> None:
    player = with_calls(cluster)
    family = started(cluster, "one", "two")
    nursery = parent(family["one"])
    assert nursery == parent(family["two"])
    os.kill(nursery, signal.SIGKILL)
    none_of(family)
    assert player.station_pids()["worker-1"] != nursery


def test_no_orphan_survives_a_killed_warm_process(cluster: Cluster) -> None:
    with_calls(cluster)
    families = started(cluster, "one", "two")
    one = {name: pid for name, pid in families.items() if name.startswith("one")}
    os.kill(one["one"], signal.SIGKILL)
    none_of(one)
    assert all(is_alive(pid) for name, pid in families.items() if name.startswith("two"))


def test_next_run_removes_files_of_a_killed_run(cluster: Cluster) -> None:
    player = with_commands(cluster)
    started(cluster, "one", "two")
    cluster.kill_all()
    player.wait()
    assert list(cluster.runtime_folder.glob("pipe/*/control"))
    assert cluster.start("run", "echo", tasks="1\n").wait() == 0
    cluster.assert_empty()


def test_background_process_of_a_task_ends_with_its_worker(cluster: Cluster) -> None:
    """As in xargs and GNU parallel, it survives its task."""
    wait = "touch waiting; until [ -e go ]; do sleep 0.01; done"
    command = f"case {{}} in first) sleep 1000 & echo $! > left;; *) {wait};; esac"
    player = cluster.start("run", "-j", "1", command, tasks="first\nsecond\n")
    wait_until(cluster.path("waiting").exists)
    left = int(cluster.path("left").read_text())
    assert is_alive(left)
    cluster.path("go").touch()
    assert player.wait() == 0
    assert not is_alive(left)
    assert f"warning: ended 1 process that tasks left in the background: it was {left}, sleep 1000" in player.stderr


def test_kept_background_of_successful_commands_outlives_the_run(cluster: Cluster) -> None:
    command = "sleep 1000 & echo $! > {}; setsid sleep 1000 & echo $! >> {}; [ {} = good ]"
    player = cluster.start("run", "-w", "2", "-j", "1", "--keep-background", command, tasks="good\nbad\n")
    assert player.wait() == 1
    assert "warning: ended 2 processes that failed tasks left in the background" in player.stderr
    assert all(is_alive(int(pid)) for pid in cluster.path("good").read_text().split())
    assert not any(is_alive(int(pid)) for pid in cluster.path("bad").read_text().split())
