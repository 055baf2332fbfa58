"""SpoolDirectory: one owner, atomic state, and no changes to other files."""

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

SAVED = SpoolState("id", "pipe", 2, 3, 4, 5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "spool"


def files(path: Path) -> set[str]:
    return {entry.name for entry in path.iterdir()}


@pytest.mark.parametrize("fsync", [False, True])
def test_load_returns_last_saved_state(path: Path, *, fsync: bool) -> None:
    directory = SpoolDirectory(str(path), fsync=fsync)
    assert directory.load() is None
    directory.save(SpoolState("first", ""))
    assert directory.save(SAVED) == SAVED
    directory.close()
    directory.close()
    assert SpoolDirectory(str(path)).load() == SAVED


def test_spool_files_are_private(path: Path) -> None:
    directory = SpoolDirectory(str(path))
    directory.save(SAVED)
    assert path.stat().st_mode & 0o077 == 0
    assert (path / STATE_FILES[0]).stat().st_mode & 0o077 == 0
    directory.close()


def test_failing_save_keeps_previous_state(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = SpoolDirectory(str(path))
    directory.save(SAVED)
    pwrite = os.pwrite
    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", lambda fd, text, at: pwrite(fd, text[:30], at))
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                directory.save(SpoolState("other", ""))
        assert directory.load() == SAVED
    assert directory.save(SpoolState("other", "")) == directory.load() == SpoolState("other", "")
    directory.close()


def test_save_does_not_grow_state_files(path: Path) -> None:
    directory = SpoolDirectory(str(path))
    directory.save(SAVED)
    sizes = [(path / name).stat().st_size for name in STATE_FILES]
    for number in range(5):
        directory.save(SpoolState("id", "pipe", 10**9, 10**18 + number, 10**18, 10**18))
        assert directory.load() == SpoolState("id", "pipe", 10**9, 10**18 + number, 10**18, 10**18)
        assert [(path / name).stat().st_size for name in STATE_FILES] == sizes
    directory.close()


@pytest.mark.parametrize("text", ["{", "[]", "00000000 [1, {}]", "\xff"])
def test_load_with_both_state_files_damaged_raises(path: Path, text: str) -> None:
    directory = SpoolDirectory(str(path))
    directory.save(SpoolState("before", ""))
    directory.save(SAVED)
    (path / STATE_FILES[0]).write_bytes(text.encode("latin-1"))
    assert directory.load() == SpoolState("before", "")
    (path / STATE_FILES[1]).write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match="spool is damaged"):
        directory.load()
    directory.close()


def test_load_of_empty_state_file_is_none(path: Path) -> None:
    directory = SpoolDirectory(str(path))
    (path / STATE_FILES[0]).touch()
    assert directory.load() is None
    directory.save(SAVED)
    directory.close()


def test_remove_stale_keeps_current_segments(path: Path) -> None:
    directory = SpoolDirectory(str(path))
    directory.save(SAVED)
    for name in ("1.000005", "2.000000", "2.000001", "2.000002", "12.000002", "mine.txt", "2.5"):
        (path / name).touch()
    directory.remove_stale(2, 1)
    assert files(path) == {*STATE_FILES, "lock", "2.000001", "2.000002", "mine.txt", "2.5"}
    directory.remove()
    assert files(path) == {"mine.txt", "2.5"}


def test_remove_deletes_empty_directory(path: Path) -> None:
    directory = SpoolDirectory(str(path))
    directory.save(SAVED)
    directory.remove()
    directory.remove()
    assert not path.exists()


def test_lock_is_released_when_owner_is_killed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.input.spool_files.LOCK_TIMEOUT_SECONDS", 0.05)
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            _spool = SpoolDirectory(str(path))
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


def test_spool_directory_at_a_file_raises(tmp_path: Path) -> None:
    (tmp_path / "spool").touch()
    with pytest.raises(UsageError, match=r"cannot spool stdin in .*spool: File exists"):
        SpoolDirectory(str(tmp_path / "spool"))
