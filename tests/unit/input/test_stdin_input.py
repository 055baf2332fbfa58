"""StdinSource: identity and readiness of stdin. test_stdin_spool tests how it is spooled."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from pipeline.input.spool_files import SegmentedFile
from pipeline.input.stdin_spool import StdinSource
from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_identity_of_pipe_is_shared_by_its_descriptors() -> None:
    one, two = os.pipe(), os.pipe()
    copy = os.dup(one[0])
    assert StdinSource(one[0]).identity() == StdinSource(copy).identity()
    assert StdinSource(one[0]).identity() != StdinSource(two[0]).identity()
    for fd in (*one, *two, copy):
        os.close(fd)


def test_identity_of_fifo_and_file_is_always_new(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with (tmp_path / "file").open("w+b") as file:
        for fd in (fifo, file.fileno()):
            assert StdinSource(fd).identity() != StdinSource(fd).identity()
    os.close(fifo)


@pytest.mark.parametrize(("kind", "same"), [("fifo", True), ("file", False)])
def test_identity_of_fifo_held_by_parent_is_stable(tmp_path: Path, kind: str, *, same: bool) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()

    def grandchild() -> bool:
        return (StdinSource(0).identity() == StdinSource(0).identity()) is same

    def child() -> bool:
        os.dup2(os.open(tmp_path / kind, os.O_RDONLY | os.O_NONBLOCK), 0)
        return run_forked(grandchild)

    assert run_forked(child)


def run_forked(act: Callable[[], bool]) -> bool:
    """Run `act` in a child, and return its result."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_identity_of_closed_stdin_raises() -> None:
    with pytest.raises(UsageError, match="cannot read stdin"):
        StdinSource(-1).identity()


def test_is_ready_and_is_empty_at_end_of_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    source = StdinSource(reading)
    assert not source.is_ready()
    os.write(writing, b"a")
    assert source.is_ready()
    assert not source.is_empty()
    segments = SegmentedFile(str(tmp_path / "1."), 0)
    assert source.transfer(segments) == 1
    os.close(writing)
    assert source.is_ready()
    assert source.is_empty()
    assert source.transfer(segments) == 0
    segments.close()
    os.close(reading)


def test_is_empty_at_end_of_file_and_dev_null(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a")
    with (tmp_path / "file").open("rb", buffering=0) as file, open(os.devnull, "rb") as null:
        assert not StdinSource(file.fileno()).is_empty()
        file.read()
        assert StdinSource(file.fileno()).is_empty()
        assert StdinSource(null.fileno()).is_empty()


def test_transfer_keeps_rest_for_next_segment(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x" * 2500)
        source, segments = StdinSource(ours.fileno()), SegmentedFile(str(tmp_path / "1."), 0, 1000)
        assert [source.transfer(segments) for _ in range(2)] == [1000, 1000]
        assert source.is_ready()
        assert source.transfer(segments) == 500
        assert not source.is_ready()
        segments.close()
