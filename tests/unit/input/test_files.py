"""The files of the input: what tells them apart, and one after the other. Their records are in test_source."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from pipeline.input.files import InputFiles, display_name, file_identity
from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path


def test_each_is_opened_in_its_turn_and_closed(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in "ab"]
    for path in paths:
        with open(path, "w", encoding="ascii") as file:
            file.write(path)
    before = os.listdir("/proc/self/fd")
    infiles = InputFiles(paths, -1, None)
    for number, path in enumerate(paths, 1):
        assert infiles
        assert infiles.read() == path.encode()
        assert (infiles.name, infiles.opened_count) == (path, number)
        assert infiles.pollables == []
        assert infiles.read() == b""
        infiles.next_file()
    assert not infiles
    infiles.close()
    assert os.listdir("/proc/self/fd") == before


def test_a_file_is_known_by_its_place_and_its_state_by_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\n")
    name, state = file_identity(str(path), -1)
    assert file_identity(os.path.relpath(path), -1) == (name, state)
    os.utime(path, ns=(1, 1))
    assert file_identity(str(path), -1) == (name, (2, 1))
    path.write_bytes(b"abc\n")
    assert file_identity(str(path), -1)[0] == name
    assert file_identity(str(path), -1)[1] != state


def test_what_cannot_be_read_twice_is_another_one_each_time() -> None:
    reading, writing = os.pipe()
    assert file_identity("-", reading)[0] != file_identity("-", reading)[0]
    os.close(reading)
    os.close(writing)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file: nowhere"):
        file_identity("nowhere", -1)
    with pytest.raises(UsageError, match="is a directory"):
        file_identity(str(tmp_path), -1)
    with pytest.raises(UsageError, match="cannot read stdin: Bad file descriptor"):
        InputFiles(["-"], -1, None)


def test_stdin_is_called_stdin() -> None:
    assert (display_name("-"), display_name("./-")) == ("stdin", "./-")
