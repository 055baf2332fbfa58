"""`pipe top` and SIGUSR1: what runs now, why nothing does, and through restarts of what is watched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest
from orphans import until
from stage import ACTS, Stage
from terminal import Terminal

from pipeline import onlookers
from pipeline.cli import top
from pipeline.cli.screen import Screen
from pipeline.words.errors import PipelineError
from pipeline.words.messages import Status
from pipeline.words.settings import Settings
from pipeline.words.structs import replace

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
    top = Terminal(stage, "top", "--name", "live")
    assert top.code() == 0
    assert run.code() == 0
    assert "WORKER" in top.seen
    assert "sleep 2" in top.seen
    assert "done, 2 of 2" not in top.seen


@pytest.mark.parametrize("columns", [40, 70])
def test_a_narrow_terminal_shows_the_figures_and_q_ends_it(stage: Stage, columns: int) -> None:
    stage.start("run", "--name", "narrow", "-j", "2", SLOW, ":::", "a", "b")
    until(lambda: stage.start("top", "--once", "--name", "narrow").code() == 0)
    until(lambda: len(tasks(once(stage, "--name", "narrow"))) == 2)
    top = Terminal(stage, "top", "--name", "narrow", columns=columns)
    top.shows("SLOTS  BUSY")
    top.shows("task 2, ")
    top.press("x")
    top.press("q")
    assert top.code() == 0
    assert stage.start("kill", "--now", "--name", "narrow").code() == 0


def test_ctrl_c_ends_it_and_changes_nothing(stage: Stage) -> None:
    run = stage.start("run", "--name", "kept", SLOW, ":::", "a")
    until(lambda: stage.start("top", "--once", "--name", "kept").code() == 0)
    top = Terminal(stage, "top", "--name", "kept")
    top.shows("SLOTS")
    top.press("\x03")
    assert top.code() == 0
    assert once(stage, "--name", "kept")["state"] != "now"
    stage.start("kill", "--now", "--name", "kept")
    assert run.code() == 3


STATUS = Status("ab12", "feeding", 50, 0, 100, -1, (), ())
KILLED = replace(STATUS, state="soon")


@pytest.mark.parametrize(
    ("views", "lost"),
    [((STATUS, 3.0, 16.0), True), ((KILLED, 16.0), False), ((replace(KILLED, awaited=("w",)), 16.0), False)],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_sink_that_does_not_come_back_is_told(
    monkeypatch: pytest.MonkeyPatch, views: tuple[Status | float, ...], *, lost: bool, as_json: bool
) -> None:
    monkeypatch.setattr(onlookers, "watch", lambda *_: iter(views))
    settings = Settings(as_json=as_json)
    screen = Screen(settings, 0.0)
    if lost:
        with pytest.raises(PipelineError, match="the sink was lost"):
            top.main(settings, screen)
    else:
        assert top.main(settings, screen) == 0


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


def test_no_child_dies_of_the_question(stage: Stage) -> None:
    note = stage.note("signals")
    run = stage.start("run", "-j", "1", "--call", f"{ACTS}:wait_for", ":::", note)
    until(lambda: Path(f"{note}.begun").exists())
    for each in psutil.Process(run.pid).children(recursive=True):
        each.send_signal(signal.SIGUSR1)
    Path(note).touch()
    assert (run.code(), run.out) == (0, "1\n"), run.err


def test_nobody_dies_of_the_question(stage: Stage) -> None:
    ventilator = stage.start("ventilate", ":::", "a")
    ventilator.says("no sink", 30)
    ventilator.send(signal.SIGUSR1)
    run = stage.start("run", "--call", "time:sleep", ":::", "a")
    assert run.code() == 1
    ventilator.send(signal.SIGTERM)
    assert ventilator.code() == 143
