"""The inlet: when two stdins are one, whether there is anything to say. How it is spooled is in test_spool."""

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


def test_a_pipe_is_the_same_for_all_who_have_it_and_no_other() -> None:
    one, two = os.pipe(), os.pipe()
    twin = os.dup(one[0])
    assert StdinSource(one[0]).identity() == StdinSource(twin).identity()
    assert StdinSource(one[0]).identity() != StdinSource(two[0]).identity()
    for fd in (*one, *two, twin):
        os.close(fd)


def test_what_has_a_name_and_nobody_holds_is_never_the_same(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    fifo = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    with (tmp_path / "file").open("w+b") as file:
        for fd in (fifo, file.fileno()):
            assert StdinSource(fd).identity() != StdinSource(fd).identity()
    os.close(fifo)


@pytest.mark.parametrize(("kind", "same"), [("fifo", True), ("file", False)])
def test_a_named_pipe_that_our_parent_holds_is_the_same_but_a_file_is_read_again(
    tmp_path: Path, kind: str, *, same: bool
) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "file").touch()

    def grandchild() -> bool:
        return (StdinSource(0).identity() == StdinSource(0).identity()) is same

    def child() -> bool:
        os.dup2(os.open(tmp_path / kind, os.O_RDONLY | os.O_NONBLOCK), 0)
        return forked(grandchild)

    assert forked(child)


def forked(act: Callable[[], bool]) -> bool:
    """Whether it came true in a child of ours."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_not_open_has_no_origin() -> None:
    with pytest.raises(UsageError, match="cannot read stdin"):
        StdinSource(-1).identity()


def test_it_is_ready_and_empty_at_its_end(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    inlet = StdinSource(reading)
    assert not inlet.is_ready()
    os.write(writing, b"a")
    assert inlet.is_ready()
    assert not inlet.is_empty()
    tape = SegmentedFile(str(tmp_path / "1."), 0)
    assert inlet.transfer(tape) == 1
    os.close(writing)
    assert inlet.is_ready()
    assert inlet.is_empty()
    assert inlet.transfer(tape) == 0
    tape.close()
    os.close(reading)


def test_a_file_and_dev_null_may_be_empty(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"a")
    with (tmp_path / "file").open("rb", buffering=0) as file, open(os.devnull, "rb") as null:
        assert not StdinSource(file.fileno()).is_empty()
        file.read()
        assert StdinSource(file.fileno()).is_empty()
        assert StdinSource(null.fileno()).is_empty()


def test_what_does_not_fit_into_a_segment_stays_in_hand(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"x" * 2500)
        inlet, tape = StdinSource(ours.fileno()), SegmentedFile(str(tmp_path / "1."), 0, 1000)
        assert [inlet.transfer(tape) for _ in range(2)] == [1000, 1000]
        assert inlet.is_ready()
        assert inlet.transfer(tape) == 500
        assert not inlet.is_ready()
        tape.close()
