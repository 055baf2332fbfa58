"""`pipe top` and SIGUSR1: what runs now, why nothing does, and through restarts of what is watched."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from typing import Any

import pytest
from orphans import until
from stage import Stage

SLOW = "echo {}; exec sleep 1000"


def once(stage: Stage, *words: str) -> dict[str, Any]:
    told = stage.start("top", "--once", "--json", *words)
    assert told.code() == 0, told.err
    found: dict[str, Any] = json.loads(told.out)
    return found


def tasks(view: dict[str, Any]) -> list[tuple[int, str]]:
    return [(task["task"], task["command"]) for each in view["workers"] for task in each["tasks"]]


@pytest.mark.parametrize("place", [(), ("--at", "tcp://127.0.0.1", "--insecure")], ids=["ipc", "tcp"])
def test_it_tells_scripts_what_runs_and_why_nothing_more_does(stage: Stage, place: tuple[str, ...]) -> None:
    stage.start("sink", *place)
    until(lambda: stage.start("top", "--once", *place).code() == 0)
    assert once(stage, *place)["why"] == "ventilator"
    stage.start("ventilate", *place, ":::", "a", "b", "c")
    until(lambda: once(stage, *place)["why"] == "worker")
    stage.start("work", "-j", "2", *place, SLOW)
    until(lambda: len(tasks(once(stage, *place))) == 2)
    view = once(stage, *place)
    assert tasks(view) == [(1, "echo a; exec sleep 1000"), (2, "echo b; exec sleep 1000")]
    assert (view["why"], view["settled"], view["state"]) == ("slots", 0, "ended")
    (worker,) = view["workers"]
    assert worker["slots"] == worker["running"] == 2
    assert worker["memory"] > 1_000_000
    until(lambda: once(stage, *place)["workers"][0]["tasks"][0]["seconds"] > 1)


def test_it_says_when_the_input_is_silent(stage: Stage) -> None:
    read, write = os.pipe()
    stage.start("work", "true")
    stage.start("sink")
    ventilator = subprocess.Popen(stage.words("ventilate"), stdin=read, env=stage.environment())
    os.close(read)
    until(lambda: stage.start("top", "--once").code() == 0 and once(stage)["why"] == "input")
    os.close(write)
    assert ventilator.wait(30) == 0


def test_it_survives_a_sink_that_is_killed_and_started_again(stage: Stage) -> None:
    out = stage.note("out")
    sink = stage.start("sink", "-o", out)
    stage.start("ventilate", ":::", "a")
    stage.start("work", SLOW)
    until(lambda: stage.start("top", "--once").code() == 0)
    top = stage.start("top", "--json")
    until(lambda: '"settled"' in top.out)
    sink.send(signal.SIGKILL)
    sink.code()
    seen = len(top.out.splitlines())
    again = stage.start("sink", "-o", out)
    until(lambda: len(top.out.splitlines()) > seen + 3)
    stage.start("kill", "--now")
    again.code()
    assert top.code() == 0
    assert json.loads(top.out.splitlines()[-1])["state"] == "now"


def test_where_nothing_runs_it_says_so(stage: Stage) -> None:
    top = stage.start("top")
    assert top.code() == 3
    assert "nothing runs there" in top.err


def test_on_a_terminal_it_is_live_and_ends_with_the_run(stage: Stage) -> None:
    run = stage.start("run", "--name", "live", "-j", "1", "sleep {}", tasks="1\n2\n")
    until(lambda: stage.start("top", "--once", "--name", "live").code() == 0)
    ours, theirs = pty.openpty()
    top = subprocess.Popen(stage.words("top", "--name", "live"), stdout=theirs, stderr=theirs, env=stage.environment())
    os.close(theirs)
    seen = b""
    try:
        while piece := os.read(ours, 65536):
            seen += piece
    except OSError:  # its end is closed
        pass
    os.close(ours)
    assert top.wait(30) == 0
    assert run.code() == 0
    assert b"WORKER" in seen
    assert b"sleep 2" in seen


@pytest.mark.parametrize("role", ["run", "sink", "work"])
def test_who_is_asked_by_a_signal_tells_what_runs(stage: Stage, role: str) -> None:
    if role == "run":
        players = {"run": stage.start("run", "--name", "asked", SLOW, ":::", "a")}
    else:
        players = {"sink": stage.start("sink"), "work": stage.start("work", SLOW)}
        stage.start("ventilate", ":::", "a")
    where = ("--name", "asked") if role == "run" else ()
    until(lambda: stage.start("top", "--once", *where).code() == 0 and tasks(once(stage, *where)) != [])
    players[role].send(signal.SIGUSR1)
    players[role].says("task 1, ")
    players[role].send(signal.SIGUSR1)
    until(lambda: players[role].err.count("echo a; exec sleep 1000") >= 2)


def test_nobody_dies_of_the_question(stage: Stage) -> None:
    ventilator = stage.start("ventilate", ":::", "a")
    ventilator.says("no sink", 30)
    ventilator.send(signal.SIGUSR1)
    run = stage.start("run", "--call", "time:sleep", ":::", "a")
    assert run.code() == 1
    ventilator.send(signal.SIGTERM)
    assert ventilator.code() == 143
