"""Whole lines of real processes: what tasks have started outlives no `kill -9`, whoever is killed, however it hides."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from orphans import lives, until
from stage import ACTS, Player, Stage

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
from acts import daemon

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


def started(stage: Stage, *tasks: str) -> dict[str, int]:
    """The pids of the families of these tasks, once they are complete."""
    notes = {task + kind: stage.note(task + kind) for task in tasks for kind in KINDS}
    until(lambda: all(note.exists() and note.read_text().strip() for note in notes.values()))
    return {name: int(note.read_text()) for name, note in notes.items()}


def none_of(pids: dict[str, int]) -> None:
    """They are gone within 2 seconds, and what the machine takes for them when it is busy."""
    until(lambda: not any(map(lives, pids.values())))


def run(stage: Stage, *work: str) -> Player:
    return stage.start("run", "-v", "-j", "2", "--interval", "0.2", "--liveness", "1.5", *work, tasks="one\ntwo\n")


def with_commands(stage: Stage) -> Player:
    return run(stage, COMMAND.replace("@", f"{sys.executable} {ACTS}"))


def with_calls(stage: Stage) -> Player:
    stage.note("theirs.py").write_text(CALLABLE.format(acts=str(ACTS)))
    return run(stage, "--call", "theirs.py:family")


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("start", [with_commands, with_calls])
@pytest.mark.parametrize("who", ["launcher", "worker-1"])
def test_no_orphan_survives_the_kill_of_launcher_or_worker(
    stage: Stage, start: Callable[[Stage], Player], who: str
) -> None:
    player = start(stage)
    family = started(stage, "one", "two")
    os.kill(player.names().get(who, player.pid), signal.SIGKILL)
    none_of(family)
    if who == "launcher":
        until(lambda: not stage.left())


def test_no_orphan_survives_the_kill_of_the_nursery(stage: Stage) -> None:
    player = with_calls(stage)
    family = started(stage, "one", "two")
    nursery = parent(family["one"])
    assert nursery == parent(family["two"])
    os.kill(nursery, signal.SIGKILL)
    none_of(family)
    assert player.names()["worker-1"] != nursery


def test_no_orphan_survives_the_kill_of_a_warm_child_and_the_others_go_on(stage: Stage) -> None:
    with_calls(stage)
    families = started(stage, "one", "two")
    one = {name: pid for name, pid in families.items() if name.startswith("one")}
    os.kill(one["one"], signal.SIGKILL)
    none_of(one)
    assert all(lives(pid) for name, pid in families.items() if name.startswith("two"))


def test_what_a_killed_run_left_is_swept_by_the_next(stage: Stage) -> None:
    player = with_commands(stage)
    started(stage, "one", "two")
    stage.kill_all()
    player.code()
    assert list(stage.runtime.glob("pipe/*/control"))
    assert stage.start("run", "echo", tasks="1\n").code() == 0
    stage.is_empty()


def test_what_a_task_leaves_in_the_background_ends_with_its_worker_and_not_before(stage: Stage) -> None:
    """As xargs and GNU parallel leave it, while they run."""
    wait = "touch waiting; until [ -e go ]; do sleep 0.01; done"
    command = f"case {{}} in first) sleep 1000 & echo $! > left;; *) {wait};; esac"
    player = stage.start("run", "-j", "1", command, tasks="first\nsecond\n")
    until(stage.note("waiting").exists)
    left = int(stage.note("left").read_text())
    assert lives(left)
    stage.note("go").touch()
    assert player.code() == 0
    assert not lives(left)
