"""SegmentedFile: bytes in many files, which can be opened again."""

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

SEGMENT_BYTES = 1000


def prefix(folder: Path) -> str:
    return str(folder / "1.")


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def append_all(file: SegmentedFile, data: bytes) -> None:
    while data:
        data = data[file.append(data) :]


def read_all(file: SegmentedFile, start: int = 0) -> bytes:
    """Return all bytes from `start` on."""
    content = b""
    while part := file.read(start + len(content), 10**9):
        content += part
    return content


@pytest.mark.parametrize("seed", range(10))
def test_read_after_reopen_returns_appended_bytes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    file, expected, deleted = SegmentedFile(prefix(tmp_path), 0, SEGMENT_BYTES), b"", 0
    for _ in range(20):
        data = rng.randbytes(rng.choice([0, 1, 10, SEGMENT_BYTES - 1, SEGMENT_BYTES, 3 * SEGMENT_BYTES + 7]))
        append_all(file, data)
        expected += data
        assert file.end == len(expected)
        deleted = rng.randint(deleted, len(expected))
        file.delete_below(deleted)
        assert len(file._open_fds) <= 2
        assert read_all(file, deleted) == expected[deleted:]
        assert all(int(name[2:]) >= deleted // SEGMENT_BYTES for name in files(tmp_path))
        if rng.random() < 0.5:
            file.close()
            file = SegmentedFile(prefix(tmp_path), deleted, SEGMENT_BYTES)
            assert file.end == len(expected)


def test_unused_file_creates_no_segment(tmp_path: Path) -> None:
    file = SegmentedFile(prefix(tmp_path), 0, SEGMENT_BYTES)
    assert read_all(file) == b""
    file.delete_below(5 * SEGMENT_BYTES)
    file.close()
    assert files(tmp_path) == []


def test_delete_below_removes_whole_segments_only(tmp_path: Path) -> None:
    file = SegmentedFile(prefix(tmp_path), 0, SEGMENT_BYTES)
    append_all(file, b"x" * 2500)
    assert files(tmp_path) == ["1.000000", "1.000001", "1.000002"]
    file.delete_below(999)
    assert len(files(tmp_path)) == 3
    file.delete_below(1000)
    assert files(tmp_path) == ["1.000001", "1.000002"]
    file.delete_below(9999)
    assert files(tmp_path) == ["1.000002"]
    append_all(file, b"y")
    assert read_all(file, 2499) == b"xy"


def test_splice_moves_whole_pipe_until_its_end(tmp_path: Path) -> None:
    file = SegmentedFile(prefix(tmp_path), 0, SEGMENT_BYTES)
    reading, writing = os.pipe()
    with pytest.raises(BlockingIOError):
        file.splice(reading, SEGMENT_BYTES)
    expected = random.Random(1).randbytes(20_500)
    os.write(writing, expected)
    assert file.splice(reading, 10) == 10
    while file.end < len(expected):
        assert file.splice(reading, 10**9) > 0
    assert os.get_blocking(reading)
    os.close(writing)
    assert file.splice(reading, SEGMENT_BYTES) == 0
    assert read_all(file) == expected
    os.close(reading)


def test_splice_of_regular_file_raises(tmp_path: Path) -> None:
    with (tmp_path / "plain").open("w+b") as plain, pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        SegmentedFile(prefix(tmp_path), 0, SEGMENT_BYTES).splice(plain.fileno(), 10)


def test_splice_in_killed_processes_loses_no_byte(tmp_path: Path) -> None:
    """Processes are killed while they move bytes of a pipe; together they have moved all of them."""
    rng, expected = random.Random(2), random.Random(3).randbytes(4 << 20)
    reading, writing = os.pipe()
    for low, high in pairwise([0, *sorted(rng.sample(range(len(expected)), 12)), len(expected)]):
        child = os.fork()
        if not child:
            try:
                splice_all(tmp_path, reading)
            finally:
                os._exit(1)
        os.write(writing, expected[low:high])
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    os.close(writing)
    splice_all(tmp_path, reading)
    assert read_all(SegmentedFile(prefix(tmp_path), 0, 100_000)) == expected
    os.close(reading)


def splice_all(folder: Path, pipe: int) -> None:
    """Move all bytes of a pipe to its end."""
    file = SegmentedFile(prefix(folder), 0, 100_000)
    while True:
        try:
            if not file.splice(pipe, 1 << 20):
                break
        except BlockingIOError:
            continue
    file.close()


def test_sync_without_and_with_segments_works(tmp_path: Path) -> None:
    file = SegmentedFile(prefix(tmp_path), 0, SEGMENT_BYTES)
    file.sync()
    append_all(file, b"x" * SEGMENT_BYTES)
    file.sync()
    assert files(tmp_path) == ["1.000000"]
