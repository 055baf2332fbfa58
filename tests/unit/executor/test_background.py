"""What tasks leave in the background, with real processes below a script, which inherits them."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tests.support.processes import is_alive, run_script

SCRIPT = """
import json
from pipeline.system.processes import become_subreaper
from tests.unit.executor.command_driver import make_driver

def has_left(path):
    pids = open(path).read().split() if os.path.exists(path) else []
    return len(pids) == 3 and all(map(is_executed, pids))

def is_executed(pid):
    return not os.path.exists(f"/proc/{pid}") or open(f"/proc/{pid}/cmdline").read()[:5] in ("sleep", "")

become_subreaper()
start = "sleep 1000 & echo $! >> $0/$1.left; setsid sleep 2000 & echo $! >> $0/$1.left; env -i sleep 3000 & "
start += "echo $! >> $0/$1.left; "
with make_driver("sh", "-c", start + os.environ["CODE"], sys.argv[1], "{}") as driver:
    driver.send_records(b"good", b"bad")
    paths = [f"{sys.argv[1]}/{name}.left" for name in ("good", "bad")]
    driver.run_until(lambda: len(driver.outputs) == int(os.environ["ENDED"]) and all(map(has_left, paths)))
    ended = driver.executor.end_background(keep=sys.argv[2] == "keep")
print(json.dumps(ended and [ended.count, ended.pid, ended.command, ended.is_failed_only]))
"""


def run(folder: Path, keep: str, code: str, ended: int = 2) -> tuple[list[object] | None, dict[str, list[int]]]:
    """Run two tasks with this code; return the report, and what each task has left."""
    os.environ.update(CODE=code, ENDED=str(ended))
    process = run_script(SCRIPT, folder, keep)
    output, errors = process.communicate(timeout=30)
    assert errors == ""
    return json.loads(output), {name: left_by(folder / f"{name}.left") for name in ("good", "bad")}


def left_by(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()]


@pytest.fixture(autouse=True)
def kill_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.setenv("CODE", "")
    monkeypatch.setenv("ENDED", "")
    yield
    for path in tmp_path.glob("*.left"):
        for pid in filter(is_alive, left_by(path)):
            os.kill(pid, signal.SIGKILL)


def test_background_is_ended_and_counted(tmp_path: Path) -> None:
    report, left = run(tmp_path, "", 'test "$1" = good')
    pids = sorted(left["good"] + left["bad"])
    assert report is not None
    assert (report[0], report[1], report[3]) == (6, pids[0], False)
    assert str(report[2]).endswith("sleep 1000")
    assert not any(map(is_alive, pids))


def test_kept_background_is_that_of_successful_tasks(tmp_path: Path) -> None:
    report, left = run(tmp_path, "keep", 'test "$1" = good')
    assert report is not None
    assert report[0] == len(left["bad"]) == 3
    assert report[3] is True
    assert all(map(is_alive, left["good"]))
    assert not any(map(is_alive, left["bad"]))


def test_background_of_a_running_task_is_ended_and_not_counted(tmp_path: Path) -> None:
    report, left = run(tmp_path, "keep", 'test "$1" = good || exec sleep 4000', ended=1)
    assert report is not None
    assert (report[0], report[1:3]) == (1, [left["bad"][1], "sleep 2000"])
    assert all(map(is_alive, left["good"]))
    assert not any(map(is_alive, left["bad"]))


def test_no_background_is_no_report(tmp_path: Path) -> None:
    report, _ = run(tmp_path, "keep", "kill -9 $(cat $0/$1.left)")
    assert report is None
