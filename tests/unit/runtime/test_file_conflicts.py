"""Files that a run would both read and write, or write twice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from pipeline.config.settings import Settings
from pipeline.model.errors import USAGE, UsageError
from pipeline.model.records import ArgumentSource
from pipeline.runtime.file_conflicts import FileMarks, RunFile, check_conflicts, input_files, output_files

ENDPOINT = "ipc:///run/pipe/default/results"
INPUTS: dict[str, dict[str, Any]] = {
    "-a": {"files": ("other", "f")},
    "absolute": {"files": ("{folder}/f",)},
    "hard link": {"files": ("hard",)},
    "symbolic link": {"files": ("soft",)},
    "::::": {"argument_sources": (ArgumentSource(":::", ("x",)), ArgumentSource("::::+", ("other", "f")))},
    "stdin": {},
    "-": {"files": ("other", "-")},
    ":::: -": {"argument_sources": (ArgumentSource("::::", ("-",)),)},
    "--call": {"call": "f.py:function", "argument_sources": (ArgumentSource(":::", ("x",)),)},
    "--init": {"init": "f.py:function", "argument_sources": (ArgumentSource(":::", ("x",)),)},
}
"""Ways to read f; f.py is another name of it."""
OUTPUTS: dict[str, dict[str, Any]] = {
    "-o": {"output": "f"},
    "--failed": {"failed": "f"},
    "--joblog": {"joblog": "f"},
    "--journal": {"journal": "f"},
    "--results": {"results_folder": "f"},
    "--spool": {"spool": "f"},
    "the journal": {"output": "e"},
    "the database's journal": {"output": "d.sqlite"},
    "stdout": {},
    "stderr": {"output": "/dev/null"},
}
"""Ways to write f; e.journal and d.sqlite-journal are other names of it."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory, with the file f and its other names."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "f").write_text("1\n")
    (tmp_path / "other").write_text("2\n")
    (tmp_path / "soft").symlink_to("f")
    for name in ("hard", "f.py", "e.journal", "d.sqlite-journal"):
        os.link(tmp_path / "f", tmp_path / name)
    return tmp_path


@contextmanager
def redirected(fd: int, path: str) -> Iterator[None]:
    """Open a file as a standard stream."""
    saved, file = os.dup(fd), os.open(path, os.O_RDWR)
    os.dup2(file, fd)
    try:
        yield
    finally:
        os.dup2(saved, fd)
        os.close(saved)
        os.close(file)


def check(settings: Settings) -> None:
    check_conflicts(input_files(settings), output_files(settings))


@pytest.mark.parametrize("written", OUTPUTS)
@pytest.mark.parametrize("read", INPUTS)
def test_output_that_is_an_input_is_refused(folder: Path, read: str, written: str) -> None:
    given = {**INPUTS[read], **OUTPUTS[written]}
    given["files"] = tuple(name.format(folder=folder) for name in given.get("files", ()))
    stdin = "f" if read in {"stdin", "-", ":::: -"} else "other"
    stdout = "f" if written == "stdout" else os.devnull
    stderr = "f" if written == "stderr" else os.devnull
    streams = redirected(0, stdin), redirected(1, stdout), redirected(2, stderr)
    with streams[0], streams[1], streams[2], pytest.raises(UsageError) as raised:
        check(Settings(**given))
    assert raised.value.exit_code == USAGE
    assert f"{written} " in str(raised.value)
    assert "are the same file" in str(raised.value)
    assert (folder / "f").read_text() == "1\n"


@pytest.mark.parametrize(("first", "second"), [*combinations(list(OUTPUTS)[:8], 2)])
@pytest.mark.usefixtures("folder")
def test_output_that_is_another_output_is_refused(first: str, second: str) -> None:
    given = {**OUTPUTS[first], **OUTPUTS[second]}
    if "output" in OUTPUTS[first].keys() & OUTPUTS[second].keys() or {first, second} == {"--journal", "the journal"}:
        given = {"output": "e", "joblog": "e.journal"}
    with pytest.raises(UsageError, match="are the same file"):
        check(Settings(**given, files=("other",)))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"output": "new", "failed": "./new"}, "-o new and --failed ./new are the same file"),
        ({"output": "new", "failed": "folder/../new"}, "-o new and --failed folder/../new are the same file"),
        ({"output": "new", "joblog": "dangling"}, "-o new and --joblog dangling are the same file"),
        ({"output": "new", "results_folder": "new"}, "-o new and --results new are the same file"),
        ({"output": "new", "failed": "new.journal"}, "--failed new.journal and the journal new.journal are"),
        ({"output": "r.sqlite", "joblog": "r.sqlite-journal"}, "the database's journal r.sqlite-journal and --joblog"),
        ({"spool": "no/such", "results_folder": "no/../no/such"}, "--results no/../no/such and --spool no/such are"),
        ({"from_failed": True, "failed": "other", "output": "other.unfinished"}, "-o other.unfinished and --failed"),
    ],
)
def test_output_that_does_not_exist_is_compared(folder: Path, given: dict[str, Any], message: str) -> None:
    (folder / "folder").mkdir()
    (folder / "dangling").symlink_to("new")
    with pytest.raises(UsageError) as raised:
        check(Settings(**given, files=("other",)))
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize(
    "given",
    [
        {"output": "/dev/null", "failed": "/dev/null", "files": ("/dev/null",)},
        {"output": "/dev/stdout", "joblog": "/dev/stdout", "failed": "/dev/stderr"},
        {"output": "fifo", "files": ("fifo",)},
        {"output": "r.sqlite", "failed": "bad", "joblog": "log", "results_folder": "r", "files": ("f", "hard", "f")},
        {"output": "results/all", "results_folder": "results", "joblog": "results/log", "files": ("results/in",)},
        {"output": "o", "journal": "j", "spool": "s"},
        {"failed": "f", "from_failed": True, "files": ("soft",)},
    ],
)
def test_files_that_may_coincide_are_accepted(folder: Path, given: dict[str, Any]) -> None:
    os.mkfifo(folder / "fifo")
    (folder / "results").mkdir()
    for name in ("o", "r.sqlite", "r.sqlite-journal", "o.journal", "results/in"):
        (folder / name).touch()
    with redirected(0, "fifo"), redirected(1, "fifo"), redirected(2, "fifo"):
        check(Settings(**given))


@pytest.mark.usefixtures("folder")
def test_stdout_and_stderr_may_be_joined() -> None:
    with redirected(1, "other"), redirected(2, "other"):
        check(Settings(files=("f",)))


@pytest.mark.parametrize("name", ["f", "other"])
@pytest.mark.usefixtures("folder")
def test_joined_stderr_is_refused_where_stdout_has_no_results(name: str) -> None:
    joined = redirected(1, name), redirected(2, name)
    with joined[0], joined[1], pytest.raises(UsageError, match=r"stderr .*are the same file"):
        check(Settings(files=("f",), output="other"))


@pytest.mark.parametrize("first", ["ventilator", "sink"])
@pytest.mark.parametrize("path", ["f", "hard", "soft"])
def test_second_station_refuses_a_file_of_both(folder: Path, first: str, path: str) -> None:
    second = {"ventilator": "sink", "sink": "ventilator"}[first]
    marks, others = FileMarks(ENDPOINT, first), FileMarks(ENDPOINT, second)
    marks.add([RunFile("x", "f"), RunFile("x", "other", may_be_input=True)], 9)
    others.add(
        [RunFile("y", "other"), RunFile("y", "/dev/null"), RunFile("y", "missing"), RunFile("y", str(folder))], 9
    )
    with pytest.raises(UsageError, match=f"put of this pipeline's {first}"):
        others.add([RunFile("y", path)], 9)
    marks.close()
    others.close()
    others.add([RunFile("y", path)], 9)
    others.close()


@pytest.mark.usefixtures("folder")
def test_marks_of_other_pipelines_and_equal_stations_do_not_conflict() -> None:
    marks = [FileMarks(ENDPOINT, "sink"), FileMarks(ENDPOINT, "sink"), FileMarks(ENDPOINT + "2", "ventilator")]
    marks += [FileMarks("tcp://*:5558", "sink"), FileMarks("tcp://localhost:6558", "ventilator")]
    for each in marks:
        each.add([RunFile("x", "f")], 9)
    with pytest.raises(UsageError):
        FileMarks("tcp://127.0.0.1:5558", "ventilator").add([RunFile("x", "f")], 9)
    for each in marks:
        each.close()
