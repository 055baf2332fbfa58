"""KILL, signals, and the ends that nobody planned: everybody leaves, and no orphan and no file stays."""

from __future__ import annotations

import os
import signal
import sys

import pytest
from orphans import until
from stage import ACTS, Player, Stage

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
FEED = ("--interval", "0.2", "--liveness", "1.5")
TASKS = "".join(f"{number}\n" for number in range(300))
LONG = "echo {} >> started; until [ -e go ]; do sleep 0.02; done; echo {}"
"""A task that ends when the file `go` is there."""
FAMILY = f"sleep 1000 & {sys.executable} {ACTS} daemon; echo >> started; sleep 1000; echo {{}}"
"""A task with a child in the background and a daemon that has left its session."""


def started(stage: Stage, count: int) -> None:
    """Wait until so many tasks run."""
    note = stage.note("started")
    until(lambda: note.exists() and len(note.read_text().splitlines()) >= count)


def three(stage: Stage, command: str, *more: str) -> dict[str, Player]:
    """A line of the three commands, where two tasks run."""
    players = {
        "sink": stage.start("sink", *more),
        "work": stage.start("work", "-j", "2", *more, command),
        "ventilate": stage.start("ventilate", *FEED, *more, tasks=TASKS),
    }
    started(stage, 2)
    return players


# --- a person asks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("signum", "code"), [(INT, 130), (TERM, 143), (HUP, 143)])
def test_asked_once_a_run_lets_its_running_tasks_finish(stage: Stage, signum: int, code: int) -> None:
    run = stage.start("run", "-j", "2", LONG, tasks=TASKS)
    started(stage, 2)
    run.send(signum)
    run.says("pipe: stopping: running tasks finish")
    stage.note("go").touch()
    assert run.code() == code
    assert run.lines == ["0", "1"]
    assert "pipe: 2" in run.err.splitlines()[-1]
    stage.is_empty()


@pytest.mark.parametrize(("signum", "code"), [(INT, 130), (TERM, 143)])
def test_asked_twice_a_run_kills_its_tasks(stage: Stage, signum: int, code: int) -> None:
    run = stage.start("run", "-j", "2", FAMILY, tasks=TASKS)
    started(stage, 2)
    run.send(signum)
    run.says("pipe: stopping: running tasks finish")
    run.send(signum)
    assert run.code() == code
    assert run.lines == []
    stage.is_empty()


@pytest.mark.parametrize("role", ["sink", "ventilate"])
def test_an_interrupt_of_sink_or_ventilator_ends_the_line_after_its_running_tasks(stage: Stage, role: str) -> None:
    players = three(stage, LONG)
    players[role].send(INT)
    players[role].says("pipe: stopping: running tasks finish")
    stage.note("go").touch()
    assert {name: player.code() for name, player in players.items()} == {"sink": 130, "ventilate": 130, "work": 0}
    assert len(players["sink"].lines) < 300
    assert len(stage.note("started").read_text().splitlines()) == len(players["sink"].lines)
    stage.is_empty()


def test_an_interrupted_worker_finishes_what_it_runs_and_the_line_goes_on(stage: Stage) -> None:
    players = three(stage, LONG)
    players["work"].send(INT)
    stage.note("go").touch()
    assert players["work"].code() == 130
    assert {"0", "1"} <= set(players["sink"].lines)
    other = stage.start("work", "-j", "2", LONG)
    assert [players["sink"].code(), players["ventilate"].code(), other.code()] == [0, 0, 0]
    assert sorted(players["sink"].out.split(), key=int) == TASKS.split()
    stage.is_empty()


def test_a_worker_interrupted_twice_kills_what_it_runs(stage: Stage) -> None:
    players = three(stage, FAMILY)
    others = {players["sink"].pid, players["ventilate"].pid}
    players["work"].send(INT)
    players["work"].says("pipe: stopping: running tasks finish, once more to kill them\n")
    players["work"].send(INT)
    assert players["work"].code() == 130
    until(lambda: set(stage.left()) == others)


def test_a_run_under_nohup_does_not_hear_hup(stage: Stage) -> None:
    before = signal.signal(HUP, signal.SIG_IGN)
    try:
        run = stage.start("run", "-j", "2", LONG, tasks="0\n1\n")
    finally:
        signal.signal(HUP, before)
    started(stage, 2)
    run.send(HUP)
    stage.note("go").touch()
    assert run.code() == 0
    assert run.lines == ["0", "1"]


# --- pipe kill -------------------------------------------------------------------------------------


def test_pipe_kill_lets_running_tasks_finish_and_touches_no_other_line(stage: Stage) -> None:
    other = stage.start("run", "--name", "other", "-j", "1", LONG.replace("go", "later"), tasks="one\n")
    started(stage, 1)
    players = three(stage, LONG)
    started(stage, 3)
    kill = stage.start("kill", "--name", "default")
    kill.says("waiting for the goodbye of")
    stage.note("go").touch()
    assert kill.code() == 0
    assert {name: player.code() for name, player in players.items()} == {"sink": 3, "ventilate": 3, "work": 0}
    assert players["sink"].lines == ["0", "1"]
    assert "pipe: the sink ends: pipe kill" in players["sink"].err
    stage.note("later").touch()
    assert other.code() == 0
    assert other.lines == ["one"]
    stage.is_empty()


def test_pipe_kill_now_kills_running_tasks_and_their_families(stage: Stage) -> None:
    players = three(stage, FAMILY)
    kill = stage.start("kill", "--now")
    assert kill.code() == 0
    assert {name: player.code() for name, player in players.items()} == {"sink": 3, "ventilate": 3, "work": 0}
    assert players["sink"].lines == []
    stage.is_empty()


def test_a_worker_that_comes_after_kill_hears_it_too(stage: Stage) -> None:
    players = three(stage, LONG)
    kill = stage.start("kill")
    kill.says("waiting for the goodbye of")
    late = stage.start("work", LONG)
    assert late.code() == 0
    stage.note("go").touch()
    assert kill.code() == 0
    assert players["work"].code() == 0
    assert len(players["sink"].lines) == 2
    stage.is_empty()


# --- kill -9 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["launcher", "sink", "ventilator", "worker-1"])
def test_nothing_outlives_a_killed_member_of_a_run(stage: Stage, who: str) -> None:
    run = stage.start("run", "-v", "-j", "2", *FEED, FAMILY, tasks="1\n2\n")
    started(stage, 2)
    family = set(stage.left())
    assert len(family) >= 4 + 2 * 4
    os.kill(run.names().get(who, run.pid), signal.SIGKILL)
    if who in {"ventilator", "worker-1"}:
        run.says(f"{who} was killed by SIGKILL; starting another")
        run.send(INT)
        run.says("stopping")
        run.send(INT)
    if who == "sink":  # without a journal there is none to follow; the others have been told
        run.says("sink was killed by SIGKILL; there is no journal to go on from")
    assert run.code() == {"launcher": -9, "sink": 3}.get(who, 130)
    until(lambda: not stage.left())


@pytest.mark.parametrize("who", ["keeper", "worker"])
def test_nothing_outlives_a_killed_worker_or_its_keeper(stage: Stage, who: str) -> None:
    players = three(stage, FAMILY)
    work = players["work"]
    others = {players["sink"].pid, players["ventilate"].pid}
    os.kill(work.pid if who == "keeper" else work.below()[0].pid, signal.SIGKILL)
    assert work.code() == (-9 if who == "keeper" else 3)
    until(lambda: set(stage.left()) == others)


def test_what_a_killed_run_left_does_not_stand_in_the_way(stage: Stage) -> None:
    players = three(stage, LONG, "--name", "again")
    stage.kill_all()
    for player in players.values():
        player.code()
    assert {path.name for path in (stage.runtime / "pipe" / "again").iterdir()} >= {"sink.lock", "desk", "control"}
    run = stage.start("run", "--name", "again", "echo", tasks="1\n2\n")
    assert run.code() == 0
    assert run.lines == ["1", "2"]
    stage.is_empty()


@pytest.mark.parametrize("times", [1, 2])
def test_a_full_disk_holds_nobody_who_wants_the_end(stage: Stage, times: int) -> None:
    run = stage.start("run", "-o", "/dev/full", "echo {}", ":::", "a")
    run.says("waiting for room")
    for time in range(times):
        run.send(signal.SIGTERM)
        run.says("stopping" if time == 0 else "gave up")
    assert run.code() == 3
    assert "gave up waiting for room" in run.err
    assert "SIGKILL" not in run.err
    assert "no ventilator" not in run.err
