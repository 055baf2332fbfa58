"""Each task has its own directory below --results DIR, whatever its arguments are and whenever it is written."""

from __future__ import annotations

import json
import os
import random
import struct
from pathlib import Path

import pytest

from pipeline.model.events import WriteResult
from pipeline.model.messages import Result, Shape
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.output.result_folders import FolderDestination

LONG = "x" * 300
ROWS: list[object] = [
    *["a", "a", "a", "A", "", "", ".", ".", "..", "../..", "../../r", "/", "//"],
    *["\\", "\\_", "\\e", "\\.", "a\\#2", "\\#3"],
    *["a\nb", "a\\nb", "a\0b", "a\0b", "a\tb", "\udcff\udcfe", "\udcff\udcfe", " ", "-", "~", "stdout", "seq", "1"],
    *[LONG, LONG, f"{LONG}y", f"{LONG}stdout", "\\" * 300, "/" * 127, "ü" * 200, "🙂" * 64],
    *[[], ["", ""], ["", "2"], ["a", "b"], ["a", "b"], ["..", ".."], ["a"] * 50, ["a"] * 50, [LONG] * 20],
    *[{"": ""}, {"..": ".."}, {"a": "stdout"}, {"a": "x"}, {"a": "x", "stdout": "y"}, {"a": "x", "seq": "y", "t": "z"}],
    *[{LONG: LONG}, {"1": "a"}, {"2": "b", "1": "a"}, {"a/b": "c"}, {"a": "x", "stdout.new": "y"}],
]  # fmt: skip


def make_result(task: int, row: object, run: str = "run") -> Result:
    shape: Shape = "line" if isinstance(row, str) else "columns"
    record = row.encode(errors="surrogateescape") if isinstance(row, str) else json.dumps(row).encode()
    metrics = encode_metrics(TaskMetrics(1.0, 0.0, 1.0, 0.0, 0, 1, 0, b"c", record))
    stdout = b"%s %d" % (run.encode(), task + 1)
    return Result(run, "h.1.a", task, 1, stdout, struct.pack("<I", len(stdout)), b"", (), 0, b"", metrics, shape)


def write(path: Path, results: list[Result]) -> None:
    folders = FolderDestination(str(path))
    folders.open()
    for result in results:
        folders.write(WriteResult(1, result))
    folders.flush()


def read(path: Path) -> dict[str, str]:
    """Return the output of each task by its directory, and check the layout."""
    folders = {}
    for folder, _, files in os.walk(path):
        if files:
            assert sorted(files) == ["seq", "stderr", "stdout"]
            folders[folder], number = (Path(folder, name).read_text() for name in ("stdout", "seq"))
            assert folders[folder].split()[1] == number
    return folders


@pytest.mark.parametrize("order", range(4))
def test_each_task_has_its_own_directory(tmp_path: Path, order: int) -> None:
    path, shuffled = tmp_path / "up" / "up" / "r", random.Random(order)
    results = [make_result(task, row) for task, row in enumerate(ROWS)]
    if order:
        shuffled.shuffle(results)
    half = len(results) // 2
    write(path, results[:half])
    first = read(path)
    write(path, shuffled.sample(results[:half], half) + results[half:])  # a restarted sink writes what it may lack
    folders = read(path)
    assert sorted(folders.values()) == sorted(f"run {task + 1}" for task in range(len(ROWS)))
    assert folders == folders | first
    assert [os.listdir(parent) for parent in (tmp_path, tmp_path / "up", path.parent)] == [["up"], ["up"], ["r"]]


def test_equal_tasks_are_numbered_after_the_first(tmp_path: Path) -> None:
    write(tmp_path, [make_result(task, "a") for task in range(3)])
    assert {os.path.relpath(path, tmp_path) for path in read(tmp_path)} == {"1/a", "1/a\\#2", "1/a\\#3"}


def test_directory_of_an_earlier_run_is_used_again(tmp_path: Path) -> None:
    write(tmp_path, [make_result(task, name, "old") for task, name in enumerate("cba")])
    write(tmp_path, [make_result(task, name, "new") for task, name in enumerate("abb")])
    folders = {os.path.relpath(path, tmp_path): text for path, text in read(tmp_path).items()}
    assert folders == {"1/a": "new 1", "1/b": "new 2", "1/b\\#3": "new 3", "1/c": "old 1"}


def test_file_system_without_fractions_of_seconds_keeps_all_directories(tmp_path: Path) -> None:
    for task in range(3):
        write(tmp_path, [make_result(task, "a")])
        for seq in tmp_path.rglob("seq"):
            os.utime(seq, (1_800_000_000, 1_800_000_000))
    assert sorted(read(tmp_path).values()) == ["run 1", "run 2", "run 3"]


def test_file_in_the_way_of_a_directory_is_kept(tmp_path: Path) -> None:
    (tmp_path / "1").write_text("mine")
    write(tmp_path, [make_result(0, "a")])
    assert (tmp_path / "1").read_text() == "mine"
    assert (tmp_path / "\\#1" / "stdout").read_text() == "run 1"
