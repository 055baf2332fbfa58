"""A spool's folder: one owner, notes that are whole, and nobody else's files."""

from __future__ import annotations

import errno
import os
import signal
from typing import TYPE_CHECKING

import pytest

from pipeline.input.spool_files import STATE_FILES, SpoolDirectory, SpoolState
from pipeline.model.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

NOTED = SpoolState("id", "pipe", 2, 3, 4, 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "spool"


def files(path: Path) -> set[str]:
    return {each.name for each in path.iterdir()}


@pytest.mark.parametrize("disk", [False, True])
def test_the_next_owner_finds_what_was_noted_last(path: Path, *, disk: bool) -> None:
    folder = SpoolDirectory(str(path), fsync=disk)
    assert folder.load() is None
    folder.save(SpoolState("first", ""))
    assert folder.save(NOTED) == NOTED
    folder.close()
    folder.close()
    assert SpoolDirectory(str(path)).load() == NOTED


def test_it_is_private(path: Path) -> None:
    folder = SpoolDirectory(str(path))
    folder.save(NOTED)
    assert path.stat().st_mode & 0o077 == 0
    assert (path / STATE_FILES[0]).stat().st_mode & 0o077 == 0
    folder.close()


def test_a_note_that_fails_leaves_the_one_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SpoolDirectory(str(path))
    folder.save(NOTED)
    real = os.pwrite
    for _ in range(3):
        with monkeypatch.context() as disk:
            disk.setattr(os, "pwrite", lambda fd, text, at: real(fd, text[:30], at))
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                folder.save(SpoolState("other", ""))
        assert folder.load() == NOTED
    assert folder.save(SpoolState("other", "")) == folder.load() == SpoolState("other", "")
    folder.close()


def test_there_is_room_for_notes_from_the_beginning(path: Path) -> None:
    folder = SpoolDirectory(str(path))
    folder.save(NOTED)
    sizes = [(path / name).stat().st_size for name in STATE_FILES]
    for number in range(5):
        folder.save(SpoolState("id", "pipe", 10**9, 10**18 + number, 10**18, 10**18))
        assert folder.load() == SpoolState("id", "pipe", 10**9, 10**18 + number, 10**18, 10**18)
        assert [(path / name).stat().st_size for name in STATE_FILES] == sizes
    folder.close()


@pytest.mark.parametrize("text", ["{", "[]", "00000000 [1, {}]", "\xff"])
def test_a_damaged_note_is_refused_unless_the_other_is_whole(path: Path, text: str) -> None:
    folder = SpoolDirectory(str(path))
    folder.save(SpoolState("before", ""))
    folder.save(NOTED)
    (path / STATE_FILES[0]).write_bytes(text.encode("latin-1"))
    assert folder.load() == SpoolState("before", "")
    (path / STATE_FILES[1]).write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="spool is damaged"):
        folder.load()
    folder.close()


def test_who_was_killed_before_the_first_word_has_noted_nothing(path: Path) -> None:
    folder = SpoolDirectory(str(path))
    (path / STATE_FILES[0]).touch()
    assert folder.load() is None
    folder.save(NOTED)
    folder.close()


def test_only_segments_of_other_lives_and_below_the_lowest_are_swept(path: Path) -> None:
    folder = SpoolDirectory(str(path))
    folder.save(NOTED)
    for name in ("1.000005", "2.000000", "2.000001", "2.000002", "12.000002", "mine.txt", "2.5"):
        (path / name).touch()
    folder.remove_stale(2, 1)
    assert files(path) == {*STATE_FILES, "lock", "2.000001", "2.000002", "mine.txt", "2.5"}
    folder.remove()
    assert files(path) == {"mine.txt", "2.5"}


def test_the_folder_goes_when_it_is_empty(path: Path) -> None:
    folder = SpoolDirectory(str(path))
    folder.save(NOTED)
    folder.remove()
    folder.remove()
    assert not path.exists()


def test_one_owner_at_a_time_until_it_is_killed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.input.spool_files.LOCK_TIMEOUT_SECONDS", 0.05)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _folder = SpoolDirectory(str(path))
            os.write(writing, b".")
            signal.pause()
        finally:
            os._exit(1)
    os.read(reading, 1)
    with pytest.raises(PipelineError, match="is in use by another ventilator"):
        SpoolDirectory(str(path))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    SpoolDirectory(str(path)).close()
    os.close(reading)
    os.close(writing)


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(UsageError, match=r"cannot spool stdin in .*spool: File exists"):
        SpoolDirectory(str(tmp_path / "spool"))
