"""`pipe top` and SIGUSR1: running tasks, the reason of a block, and restarts of the watched sink."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.cli import top
from pipeline.cli.terminal import UserConsole
from pipeline.config.settings import Settings
from pipeline.model.errors import PipelineError
from pipeline.model.messages import RunStatus
from pipeline.model.structs import replace
from pipeline.runtime import control_client
from tests.integration.cluster import TASK_FUNCTIONS, TIMEOUT_SECONDS, Cluster
from tests.integration.terminal import Terminal
from tests.support.lab_programs import own_host
from tests.support.processes import wait_until

SLOW = "echo {}; exec sleep 1000"


def once(cluster: Cluster, *words: str, until: Callable[[dict[str, Any]], object] = bool) -> dict[str, Any]:
    """Return the first status of the sink that meets a condition; a sink that still starts is asked again."""
    views: list[dict[str, Any]] = []

    def ask() -> object:
        report = cluster.start("top", "--once", "--json", *words)
        views.extend([json.loads(report.stdout)] if report.wait() == 0 else [])
        return views and until(views[-1])

    wait_until(ask)
    return views[-1]


def tasks(view: dict[str, Any]) -> list[tuple[int, str]]:
    return [(task["task"], task["command"]) for each in view["workers"] for task in each["tasks"]]


@pytest.mark.parametrize("place", [(), ("--at", f"tcp://{own_host()}", "--insecure")], ids=["ipc", "tcp"])
def test_top_json_shows_running_tasks_and_block_reason(cluster: Cluster, place: tuple[str, ...]) -> None:
    cluster.start("sink", *place)
    assert once(cluster, *place)["blocked_on"] == "ventilator"
    cluster.start("ventilate", *place, ":::", "a", "b", "c")
    once(cluster, *place, until=lambda view: view["blocked_on"] == "worker")
    cluster.start("work", "-j", "2", *place, SLOW)
    view = once(
        cluster, *place,
        until=lambda view: len(tasks(view)) == 2 and (view["blocked_on"], view["state"]) == ("slots", "ended")
        and view["workers"][0]["tasks"][0]["seconds"] > 1,
    )  # fmt: skip
    assert tasks(view) == [(1, "echo a; exec sleep 1000"), (2, "echo b; exec sleep 1000")]
    assert view["settled"] == 0
    (worker,) = view["workers"]
    assert worker["slots"] == worker["running"] == 2
    assert worker["memory"] > 1_000_000


def test_top_reports_a_silent_input(cluster: Cluster) -> None:
    read, write = os.pipe()
    cluster.start("work", "true")
    cluster.start("sink")
    ventilator = subprocess.Popen(cluster.command("ventilate"), stdin=read, env=cluster.environment())
    os.close(read)
    once(cluster, until=lambda view: view["blocked_on"] == "input")
    os.close(write)
    assert ventilator.wait(TIMEOUT_SECONDS) == 0


def test_top_survives_a_restarted_sink(cluster: Cluster) -> None:
    out = cluster.path("out")
    sink = cluster.start("sink", "-o", out)
    cluster.start("ventilate", ":::", "a")
    cluster.start("work", SLOW)
    once(cluster)
    top = cluster.start("top", "--json")
    wait_until(lambda: '"settled"' in top.stdout)
    sink.send_signal(signal.SIGKILL)
    sink.wait()
    seen = len(top.stdout.splitlines())
    again = cluster.start("sink", "-o", out)
    wait_until(lambda: len(top.stdout.splitlines()) > seen + 3)
    cluster.start("kill", "--now")
    again.wait()
    assert top.wait() == 0
    assert json.loads(top.stdout.splitlines()[-1])["state"] == "now"


def test_top_without_a_run_exits_with_3(cluster: Cluster) -> None:
    top = cluster.start("top")
    assert top.wait() == 3
    assert "nothing runs there" in top.stderr


def test_top_on_a_terminal_is_live_and_ends_with_the_run(cluster: Cluster) -> None:
    run = cluster.start("run", "--name", "live", "-j", "1", "until [ -e {} ]; do sleep 0.02; done", tasks="1\n2\n")
    once(cluster, "--name", "live")
    top = Terminal(cluster, "top", "--name", "live")
    for task in ("1", "2"):
        top.wait_for_text(f"until [ -e {task} ]")
        cluster.path(task).touch()
    assert top.wait() == 0
    assert run.wait() == 0
    assert "WORKER" in top.screen_text
    assert "done, 2 of 2" not in top.screen_text


@pytest.mark.parametrize("columns", [40, 70])
def test_top_on_a_narrow_terminal_shows_figures_until_q(cluster: Cluster, columns: int) -> None:
    cluster.start("run", "--name", "narrow", "-j", "2", SLOW, ":::", "a", "b")
    once(cluster, "--name", "narrow", until=lambda view: len(tasks(view)) == 2)
    top = Terminal(cluster, "top", "--name", "narrow", columns=columns)
    top.wait_for_text("SLOTS  BUSY")
    top.wait_for_text("task 2, ")
    top.press("x")
    top.press("q")
    assert top.wait() == 0
    assert cluster.start("kill", "--now", "--name", "narrow").wait() == 0


def test_ctrl_c_ends_top_but_not_the_run(cluster: Cluster) -> None:
    run = cluster.start("run", "--name", "kept", SLOW, ":::", "a")
    once(cluster, "--name", "kept")
    top = Terminal(cluster, "top", "--name", "kept")
    top.wait_for_text("SLOTS")
    top.press("\x03")
    assert top.wait() == 0
    assert once(cluster, "--name", "kept")["state"] != "now"
    cluster.start("kill", "--now", "--name", "kept")
    assert run.wait() == 130


STATUS = RunStatus("ab12", "feeding", 50, 0, 100, -1, (), ())
KILLED = replace(STATUS, state="soon")


@pytest.mark.parametrize(
    ("views", "lost"),
    [((STATUS, 3.0, 16.0), True), ((KILLED, 16.0), False), ((replace(KILLED, waiting_for=("w",)), 16.0), False)],
)
@pytest.mark.parametrize("as_json", [True, False])
def test_top_reports_a_sink_that_does_not_return(
    monkeypatch: pytest.MonkeyPatch, views: tuple[RunStatus | float, ...], *, lost: bool, as_json: bool
) -> None:
    monkeypatch.setattr(control_client, "watch_status", lambda *_: iter(views))
    settings = Settings(as_json=as_json)
    screen = UserConsole(settings, 0.0)
    if lost:
        with pytest.raises(PipelineError, match="lost the sink"):
            top.main(settings, screen)
    else:
        assert top.main(settings, screen) == 0


@pytest.mark.parametrize("role", ["run", "sink", "work"])
def test_sigusr1_prints_running_tasks(cluster: Cluster, role: str) -> None:
    if role == "run":
        players = {"run": cluster.start("run", "--name", "asked", SLOW, ":::", "a")}
    else:
        players = {"sink": cluster.start("sink"), "work": cluster.start("work", SLOW)}
        cluster.start("ventilate", ":::", "a")
    where = ("--name", "asked") if role == "run" else ()
    once(cluster, *where, until=tasks)
    players[role].send_signal(signal.SIGUSR1)
    players[role].wait_for_stderr("task 1, ")
    players[role].send_signal(signal.SIGUSR1)
    wait_until(lambda: players[role].stderr.count("echo a; exec sleep 1000") >= 2)


def test_sigusr1_kills_no_child(cluster: Cluster) -> None:
    note = cluster.path("signals")
    run = cluster.start("run", "-j", "1", "--call", f"{TASK_FUNCTIONS}:wait_for", ":::", note)
    wait_until(lambda: Path(f"{note}.begun").exists())
    for each in psutil.Process(run.pid).children(recursive=True):
        each.send_signal(signal.SIGUSR1)
    Path(note).touch()
    assert (run.wait(), run.stdout) == (0, "1\n"), run.stderr


def test_sigusr1_kills_no_station(cluster: Cluster) -> None:
    ventilator = cluster.start("ventilate", ":::", "a")
    ventilator.wait_for_stderr("no sink")
    ventilator.send_signal(signal.SIGUSR1)
    run = cluster.start("run", "--call", "time:sleep", ":::", "a")
    assert run.wait() == 1
    ventilator.send_signal(signal.SIGTERM)
    assert ventilator.wait() == 143
