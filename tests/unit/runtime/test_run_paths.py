"""Paths beside an output, inputs that can be read twice, and removal of the files of a run."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config.settings import Settings
from pipeline.input.spool_files import SpoolDirectory
from pipeline.model.errors import PipelineError
from pipeline.model.records import ArgumentSource
from pipeline.model.structs import replace
from pipeline.runtime import run_files


@pytest.fixture
def pipe() -> Iterator[int]:
    """Yield a stdin that cannot be read twice."""
    read, write = os.pipe()
    yield read
    os.close(read)
    os.close(write)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[int]:
    """Yield a stdin that can be read twice."""
    (tmp_path / "in").write_text("1\n")
    with open(tmp_path / "in") as file:
        yield file.fileno()


@pytest.mark.parametrize(
    ("settings", "journal", "spill", "spool"),
    [
        (Settings(), "", "", ""),
        (Settings(output="o"), "o.journal", "o.journal.spill", "o.spool"),
        (Settings(output="o", journal="j"), "j", "j.spill", "o.spool"),
        (Settings(journal="j"), "j", "j.spill", "j.spool"),
        (Settings(output="o", no_spool=True), "o.journal", "o.journal.spill", ""),
        (Settings(output="o", spool="s"), "o.journal", "o.journal.spill", "s"),
        (Settings(spool="s"), "", "", "s"),
        (Settings(output="/dev/null"), "", "", ""),
        (Settings(output="/dev/null", journal="j"), "j", "j.spill", "j.spool"),
    ],
)
def test_paths_are_beside_the_output(settings: Settings, journal: str, spill: str, spool: str) -> None:
    places = (run_files.journal_path(settings), run_files.spill_path(settings), run_files.spool_path(settings))
    assert places == (journal, spill, spool)


def test_paths_of_existing_output(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.touch()
    assert run_files.journal_path(Settings(output=str(out))) == f"{out}.journal"
    os.mkfifo(tmp_path / "fifo")
    assert run_files.journal_path(Settings(output=str(tmp_path / "fifo"))) == ""


def test_dead_letters_are_replaced_only_if_they_may_be_read(pipe: int, plain: int, tmp_path: Path) -> None:
    bad, other = tmp_path / "bad", str(tmp_path / "in")
    settings = Settings(failed=str(bad), from_failed=True)
    piped = replace(settings, files=(other, f"/dev/fd/{pipe}"))
    for _ in range(2):  # the answer stays the same when the file exists
        assert run_files.unfinished_path(piped) == f"{bad}.unfinished"
        assert run_files.unfinished_path(replace(settings, files=(other, f"/dev/fd/{plain}"))) == ""
        assert run_files.unfinished_path(replace(piped, failed="/dev/null")) == ""
        assert run_files.unfinished_path(replace(piped, from_failed=False)) == ""
        bad.touch()
    assert run_files.unfinished_path(replace(settings, files=(str(bad),))) == f"{bad}.unfinished"


def test_needs_spool_only_for_unseekable_stdin(pipe: int, plain: int, tmp_path: Path) -> None:
    settings = Settings(output=str(tmp_path / "out"))
    assert run_files.needs_spool(settings, pipe)
    assert not run_files.needs_spool(settings, plain)
    assert not run_files.needs_spool(Settings(output="o", no_spool=True), pipe)
    assert not run_files.needs_spool(Settings(output="o", argument_sources=(ArgumentSource(":::", ("a",)),)), pipe)
    assert not run_files.needs_spool(Settings(output="o", files=("f",)), pipe)
    assert run_files.needs_spool(Settings(output="o", files=("f", "-")), pipe)
    assert not run_files.needs_spool(Settings(), pipe)
    (tmp_path / "out.spool").mkdir()
    assert run_files.needs_spool(settings, plain)  # the spool has the input of another stdin, and may be complete


def test_can_reread_input(pipe: int, plain: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    named, fifo = str(tmp_path / "in"), str(tmp_path / "fifo")
    assert run_files.can_reread_input(Settings(argument_sources=(ArgumentSource(":::", ()),)), pipe)
    assert run_files.can_reread_input(Settings(files=(named,)), pipe)
    assert run_files.can_reread_input(Settings(), plain)
    assert run_files.can_reread_input(Settings(output="o"), pipe)
    assert not run_files.can_reread_input(Settings(), pipe)
    assert not run_files.can_reread_input(Settings(output="o", no_spool=True), pipe)
    assert not run_files.can_reread_input(Settings(output="o", files=(named, fifo)), plain)
    assert not run_files.can_reread_input(Settings(files=(named, "-")), pipe)


def test_remove_run_files_keeps_other_files(tmp_path: Path) -> None:
    settings = Settings(output=str(tmp_path / "out"), spool=str(tmp_path / "spool"))
    for name in ("out", "out.journal"):
        (tmp_path / name).touch()
    (tmp_path / "out.journal.spill").mkdir()
    (tmp_path / "out.journal.spill" / "1").touch()
    SpoolDirectory(settings.spool).close()
    (tmp_path / "spool" / "1.000000").touch()
    (tmp_path / "spool" / "precious").touch()
    run_files.remove_run_files(settings)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["out", "precious", "spool"]
    run_files.remove_run_files(settings)
    run_files.remove_run_files(Settings())


def test_remove_run_files_journal_in_use_raises(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_files, "LOCK_WAIT_SECONDS", 0.0)
    path = tmp_path / "out.journal"
    path.touch()
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(PipelineError, match=r"out\.journal is in use by a running pipeline"):
            run_files.remove_run_files(Settings(output=str(tmp_path / "out")))
    assert path.exists()
    run_files.ensure_unlocked(str(path))


def test_remove_run_files_failure_is_named(tmp_path: Path) -> None:
    (tmp_path / "out.journal.spill" / "inner").mkdir(parents=True)
    with pytest.raises(PipelineError, match=r"cannot remove .*out\.journal\.spill/inner: Is a directory"):
        run_files.remove_run_files(Settings(output=str(tmp_path / "out")))


def test_temporary_files_are_beside_a_file_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    places = {output: run_files.temporary_folder(Settings(output=output)) for output in ("", "o", "fifo", "/dev/null")}
    assert places == {"": None, "o": ".", "fifo": None, "/dev/null": None}
    assert run_files.temporary_folder(Settings(output=f"{tmp_path}/o")) == str(tmp_path)
    assert run_files.temporary_folder(Settings(output=f"{tmp_path}/missing/o")) is None
