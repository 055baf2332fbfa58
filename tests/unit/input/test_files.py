"""Input files: their identity, and reading one after the other. test_source tests their records."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.input.files import InputFiles, display_name, file_identity
from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_input_files_are_opened_one_at_a_time(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        with open(path, "w", encoding="ascii") as file:
            file.write(path)
    before = os.listdir("/proc/self/fd")
    input_files = InputFiles(paths, -1, None)
    for number, path in enumerate(paths, 1):
        assert input_files
        assert input_files.read() == path.encode()
        assert (input_files.name, input_files.opened_count) == (path, number)
        assert input_files.pollables == []
        assert input_files.read() == b""
        input_files.next_file()
    assert not input_files
    input_files.close()
    assert os.listdir("/proc/self/fd") == before


def test_file_identity_is_path_and_state_is_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\n")
    name, state = file_identity(str(path), -1)
    assert file_identity(os.path.relpath(path), -1) == (name, state)
    os.utime(path, ns=(1, 1))
    assert file_identity(str(path), -1) == (name, (2, 1))
    path.write_bytes(b"abc\n")
    assert file_identity(str(path), -1)[0] == name
    assert file_identity(str(path), -1)[1] != state


def test_file_identity_of_pipe_is_always_new() -> None:
    reading, writing = os.pipe()
    assert file_identity("-", reading)[0] != file_identity("-", reading)[0]
    os.close(reading)
    os.close(writing)


def test_file_identity_of_unreadable_file_raises(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file: nowhere"):
        file_identity("nowhere", -1)
    with pytest.raises(UsageError, match="is a directory"):
        file_identity(str(tmp_path), -1)
    with pytest.raises(UsageError, match="cannot read stdin: Bad file descriptor"):
        InputFiles(["-"], -1, None)


def test_display_name_of_dash_is_stdin() -> None:
    assert (display_name("-"), display_name("./-")) == ("stdin", "./-")
