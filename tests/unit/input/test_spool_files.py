"""The tape: one run of bytes over many files, whoever opens them again."""

from __future__ import annotations

import errno
import os
import random
import signal
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from pipeline.input.spool_files import SegmentedFile

if TYPE_CHECKING:
    from pathlib import Path

EACH = 1000


def stem(folder: Path) -> str:
    return str(folder / "1.")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def add(tape: SegmentedFile, data: bytes) -> None:
    while data:
        data = data[tape.append(data) :]


def text(tape: SegmentedFile, start: int = 0) -> bytes:
    """All from `start` on."""
    found = b""
    while part := tape.read(start + len(found), 10**9):
        found += part
    return found


@pytest.mark.parametrize("seed", range(10))
def test_what_was_added_is_read_back_by_whoever_opens_it_again(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    tape, whole, dropped = SegmentedFile(stem(tmp_path), 0, EACH), b"", 0
    for _ in range(20):
        data = rng.randbytes(rng.choice([0, 1, 10, EACH - 1, EACH, 3 * EACH + 7]))
        add(tape, data)
        whole += data
        assert tape.end == len(whole)
        dropped = rng.randint(dropped, len(whole))
        tape.delete_below(dropped)
        assert len(tape._open_fds) <= 2
        assert text(tape, dropped) == whole[dropped:]
        assert all(int(name[2:]) >= dropped // EACH for name in files(tmp_path))
        if rng.random() < 0.5:
            tape.close()
            tape = SegmentedFile(stem(tmp_path), dropped, EACH)
            assert tape.end == len(whole)


def test_nothing_is_made_before_it_is_needed(tmp_path: Path) -> None:
    tape = SegmentedFile(stem(tmp_path), 0, EACH)
    assert text(tape) == b""
    tape.delete_below(5 * EACH)
    tape.close()
    assert files(tmp_path) == []


def test_a_file_is_dropped_when_all_of_it_may_be(tmp_path: Path) -> None:
    tape = SegmentedFile(stem(tmp_path), 0, EACH)
    add(tape, b"x" * 2500)
    assert files(tmp_path) == ["1.000000", "1.000001", "1.000002"]
    tape.delete_below(999)
    assert len(files(tmp_path)) == 3
    tape.delete_below(1000)
    assert files(tmp_path) == ["1.000001", "1.000002"]
    tape.delete_below(9999)
    assert files(tmp_path) == ["1.000002"]
    add(tape, b"y")
    assert text(tape, 2499) == b"xy"


def test_a_pipe_is_moved_whole_and_its_end_is_seen(tmp_path: Path) -> None:
    tape = SegmentedFile(stem(tmp_path), 0, EACH)
    reading, writing = os.pipe()
    with pytest.raises(BlockingIOError):
        tape.splice(reading, EACH)
    whole = random.Random(1).randbytes(20_500)
    os.write(writing, whole)
    assert tape.splice(reading, 10) == 10
    while tape.end < len(whole):
        assert tape.splice(reading, 10**9) > 0
    assert os.get_blocking(reading)
    os.close(writing)
    assert tape.splice(reading, EACH) == 0
    assert text(tape) == whole
    os.close(reading)


def test_what_is_no_pipe_cannot_be_spliced(tmp_path: Path) -> None:
    with (tmp_path / "plain").open("w+b") as plain, pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        SegmentedFile(stem(tmp_path), 0, EACH).splice(plain.fileno(), 10)


def test_no_kill_takes_anything_back(tmp_path: Path) -> None:
    """One after the other is killed while it moves a pipe; what they moved is what was said."""
    rng, whole = random.Random(2), random.Random(3).randbytes(4 << 20)
    reading, writing = os.pipe()
    for low, high in pairwise([0, *sorted(rng.sample(range(len(whole)), 12)), len(whole)]):
        child = os.fork()
        if not child:
            try:
                move(tmp_path, reading)
            finally:
                os._exit(1)
        os.write(writing, whole[low:high])
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    os.close(writing)
    move(tmp_path, reading)
    assert text(SegmentedFile(stem(tmp_path), 0, 100_000)) == whole
    os.close(reading)


def move(folder: Path, pipe: int) -> None:
    """All that there is, to the end."""
    tape = SegmentedFile(stem(folder), 0, 100_000)
    while True:
        try:
            if not tape.splice(pipe, 1 << 20):
                break
        except BlockingIOError:
            continue
    tape.close()


def test_sync_takes_what_is_there(tmp_path: Path) -> None:
    tape = SegmentedFile(stem(tmp_path), 0, EACH)
    tape.sync()
    add(tape, b"x" * EACH)
    tape.sync()
    assert files(tmp_path) == ["1.000000"]
