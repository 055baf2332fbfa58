"""The oracle reports each violation; otherwise the fault tests would prove nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.oracle import (
    ACKS_FILE,
    DEAD_LETTERS_FILE,
    OUTPUT_FILE,
    TASKS_FILE,
    find_excessive,
    find_violations,
)
from tests.integration.recorded_tasks import EXECUTION_LOG
from tests.integration.variants import VARIANTS

NEVER = float("inf")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of a correct run of four tasks, the last of which fails."""
    (tmp_path / TASKS_FILE).write_text("0 0.1\n1 0.1\n2 0.1\n3 fail\n")
    (tmp_path / OUTPUT_FILE).write_text("got 1\ngot 0\ngot 2\n")
    (tmp_path / EXECUTION_LOG).write_text("".join(f"{n} {what} 5\n" for n in range(3) for what in ("start", "end")))
    add(tmp_path, EXECUTION_LOG, "3 start 5")
    (tmp_path / DEAD_LETTERS_FILE).write_text(json.dumps({"task": "3 fail"}) + "\n")
    (tmp_path / ACKS_FILE).write_text("[10.0, [[0, 2]]]\n[11.0, [[0, 4]]]\n")
    return tmp_path


def add(folder: Path, name: str, line: str) -> None:
    with open(folder / name, "a") as file:
        file.write(line + "\n")


def drop(folder: Path, name: str, line: str) -> None:
    text = (folder / name).read_text()
    assert f"{line}\n" in text
    (folder / name).write_text(text.replace(f"{line}\n", ""))


def test_correct_run_has_no_violation(folder: Path) -> None:
    assert find_violations(folder, []) == []


def test_variants_are_compared_with_their_own_evidence(folder: Path) -> None:
    (ordered,) = find_violations(folder, [], VARIANTS["order"])
    assert ordered.startswith("the output is out of order")
    (stored,) = find_violations(folder, [], VARIANTS["results"])
    assert stored.startswith("--results has []")
    drop(folder, OUTPUT_FILE, "got 1")
    assert find_violations(folder, [], VARIANTS["halt"]) == []
    add(folder, OUTPUT_FILE, "got 2")
    assert find_violations(folder, [], VARIANTS["halt"]) == ["'got 2' is in the output 2 times, not 1"]
    add(folder, EXECUTION_LOG, "3 start 6")
    (folder / OUTPUT_FILE).write_text("got 0\ngot 1\ngot 2\n")
    assert find_violations(folder, [], VARIANTS["retries"]) == []
    assert len(find_violations(folder, [])) == 1


def test_run_without_dead_letters_and_acks_has_no_violation(folder: Path) -> None:
    (folder / DEAD_LETTERS_FILE).unlink()
    (folder / ACKS_FILE).unlink()
    assert find_violations(folder, []) == []


@pytest.mark.parametrize(
    ("what", "name", "line", "violation"),
    [
        (add, OUTPUT_FILE, "got 1", "'got 1' is in the output 2 times, not 1"),
        (add, OUTPUT_FILE, "got 3", "'got 3' is in the output 1 times, not 0"),
        (add, OUTPUT_FILE, "go", "'go' is in the output 1 times, not 0"),
        (drop, OUTPUT_FILE, "got 2", "'got 2' is in the output 0 times, not 1"),
        (add, DEAD_LETTERS_FILE, json.dumps({"task": "3 fail"}), "task 3, fail: 2 dead letters"),
        (add, DEAD_LETTERS_FILE, json.dumps({"task": "1 0.1"}), "task 1, 0.1: 1 dead letters"),
        (add, EXECUTION_LOG, "1 start 6", "task 1 was begun 2 times; 0 losses touched it"),
        (drop, EXECUTION_LOG, "1 start 5", "task 1 was begun 0 times; 0 losses touched it"),
        (drop, EXECUTION_LOG, "2 end 5", "task 2 never ended"),
        (add, ACKS_FILE, "[12.0, [[0, 4], [5, 6]]]", "an Ack spoke of task 5"),
        (add, "out.journal", "", "out.journal was left behind"),
    ],
)
def test_each_violation_is_reported(folder: Path, what: object, name: str, line: str, violation: str) -> None:
    what(folder, name, line)  # type: ignore[operator]
    (broken,) = find_violations(folder, [])
    assert broken.partition(" (")[0] == violation


@pytest.mark.parametrize(("number", "lost", "excused"), [(1, 9.0, True), (1, 10.5, False), (2, 10.5, True)])
def test_worker_loss_excuses_reruns_of_unacked_tasks(folder: Path, number: int, lost: float, *, excused: bool) -> None:
    add(folder, EXECUTION_LOG, f"{number} start 6")
    assert (find_violations(folder, [lost]) == []) is excused
    add(folder, EXECUTION_LOG, f"{number} start 7")
    assert find_violations(folder, [lost]) != []  # one loss excuses one execution


def test_excessive_process_is_named(tmp_path: Path) -> None:
    script = "import sys; held = [open('/dev/null') for _ in range(120)]; print('there', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=tmp_path
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"there\n"
        (named,) = find_excessive([process.pid])
        assert "descriptors: " in named
        assert find_excessive([1 << 30]) == set()  # a dead process uses nothing
        process.communicate()
