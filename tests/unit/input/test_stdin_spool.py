"""StdinSpool: no kill loses or doubles a byte of stdin, and none is kept longer than needed."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from pipeline.input import stdin_spool
from pipeline.input.spool_files import STATE_FILES, SegmentedFile, SpoolDirectory, SpoolState
from pipeline.input.stdin_spool import StdinSpool
from pipeline.model.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SEGMENT_BYTES = 1000


def close_quietly(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


def read_all(spool: StdinSpool, until: int = -1) -> bytes:
    """Read to the end, or so many bytes, within some seconds."""
    content, limit = b"", time.monotonic() + 30
    while time.monotonic() < limit:
        if 0 <= until <= len(content) or (part := spool.read()) == b"":
            return content
        content += part or b""
    raise AssertionError(f"no more comes after {len(content)} bytes")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def open_spool(folder: Path, stdin: int) -> StdinSpool:
    return StdinSpool(str(folder / "spool"), stdin, segment_size=SEGMENT_BYTES)


def create_filled(folder: Path, pipe: tuple[int, int], text: bytes, *, ended: bool) -> StdinSpool:
    """Return a spool that has read `text`."""
    os.write(pipe[1], text)
    if ended:
        os.close(pipe[1])
    spool = open_spool(folder, pipe[0])
    assert read_all(spool, -1 if ended else len(text)) == text
    return spool


def reopen(tmp_path: Path, stdin: int, spool: StdinSpool) -> StdinSpool:
    """Close a spool, and open its directory again."""
    spool.close()
    return open_spool(tmp_path, stdin)


def test_read_returns_stdin_and_saves_its_end(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    spool = open_spool(tmp_path, reading)
    assert spool.read() is None
    assert spool.may_block
    os.write(writing, b"a\nb")
    assert (spool.read(), spool.read()) == (b"a\nb", None)
    os.write(writing, b"c" * 2500)
    assert read_all(spool, 2500) == b"c" * 2500
    os.close(writing)
    assert not spool.is_complete
    assert spool.read() == b""
    assert spool.is_complete
    assert not spool.may_block
    assert os.get_blocking(reading)


def test_new_spool_reads_nothing_from_stdin(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"a\n")
    spool = open_spool(tmp_path, pipe[0])
    assert (spool.first, spool.id) == (0, spool.id)
    assert os.read(pipe[0], 10) == b"a\n"


def test_prefetch_stops_at_max_unread_bytes(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stdin_spool, "MAX_UNREAD_BYTES", 3 * SEGMENT_BYTES)
    text = b"0123456789" * 1000
    os.write(pipe[1], text)
    os.close(pipe[1])
    spool = open_spool(tmp_path, pipe[0])
    spool.prefetch()
    assert not spool.wants_input
    assert not spool.is_complete
    first = spool.read() or b""
    assert spool.wants_input
    assert first + read_all(spool) == text


def test_prefetch_error_is_raised_after_earlier_bytes(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.write(pipe[1], b"a\nb\n")
    spool = open_spool(tmp_path, pipe[0])
    spool.prefetch()
    os.write(pipe[1], b"c\n")

    def fail_with_eio(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "splice", fail_with_eio)
    spool.prefetch()
    assert not spool.wants_input
    assert spool.read() == b"a\nb\n"
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        spool.read()


def test_reopened_spool_reads_disk_then_same_pipe(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 2000, ended=False)
    spool_id = spool.id
    os.write(pipe[1], b"more\n")
    spool = reopen(tmp_path, pipe[0], spool)
    assert (spool.id, spool.first, spool.may_block) == (spool_id, 0, False)
    os.close(pipe[1])
    assert read_all(spool) == b"a\n" * 2000 + b"more\n"


def test_complete_spool_needs_no_stdin(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 2000, ended=True)
    os.close(pipe[0])
    spool = reopen(tmp_path, pipe[0], spool)
    assert spool.is_complete
    assert read_all(spool) == b"a\n" * 2000


def test_other_stdin_is_read_from_its_beginning(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 2000, ended=False)
    spool.on_records_read(1000, 2000)
    spool.discard_below(1000)
    spool_id, (reading, writing) = spool.id, os.pipe()
    spool = reopen(tmp_path, reading, spool)
    assert (spool.id, spool.first, spool.may_block) == (spool_id, 0, True)
    assert spool.read() is None
    assert "1.000003" in files(tmp_path / "spool")
    os.write(writing, b"b\n" * 700)
    os.close(writing)
    assert read_all(spool) == b"b\n" * 700
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "2.000000", "2.000001"}
    os.close(reading)
    assert read_all(reopen(tmp_path, reading, spool)) == b"b\n" * 700


def test_other_stdin_without_bytes_keeps_old_spool(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n", ended=False)
    reading, writing = os.pipe()
    spool = reopen(tmp_path, reading, spool)
    assert spool.read() is None
    spool = reopen(tmp_path, pipe[0], spool)
    os.close(pipe[1])
    assert read_all(spool) == b"a\n"
    close_quietly(reading)
    close_quietly(writing)


def test_empty_other_stdin_raises(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n", ended=False)
    reading, writing = os.pipe()
    os.close(writing)
    null = os.open(os.devnull, os.O_RDONLY)
    for stdin in (reading, null):
        spool = reopen(tmp_path, stdin, spool)
        with pytest.raises(UsageError, match="stdin was not read to its end"):
            spool.read()
        os.close(stdin)
    spool.close()
    with pytest.raises(UsageError, match="cannot read stdin: Bad file descriptor"):
        open_spool(tmp_path, reading)
    spool = open_spool(tmp_path, pipe[0])
    os.close(pipe[1])
    assert read_all(spool) == b"a\n"


def test_other_stdin_that_is_a_terminal_raises(tmp_path: Path, pipe: tuple[int, int]) -> None:
    create_filled(tmp_path, pipe, b"a\n", ended=False).close()
    ours, theirs = os.openpty()
    for _ in range(2):  # the lock is released
        with pytest.raises(UsageError, match="stdin was not read to its end"):
            open_spool(tmp_path, theirs)
    os.close(ours)
    os.close(theirs)


def test_file_as_stdin_is_read_again_each_time(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n", ended=False)
    (tmp_path / "lines").write_bytes(b"a\nb\n")
    for _ in range(2):
        with (tmp_path / "lines").open("rb") as file:
            spool = reopen(tmp_path, file.fileno(), spool)
            assert spool.read() == b"a\nb\n"
            assert not spool.is_complete


def test_socket_as_stdin_is_spooled(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        spool = open_spool(tmp_path, ours.fileno())
        assert spool.read() is None
        theirs.sendall(b"x" * 2500)
        assert read_all(spool, 2500) == b"x" * 2500
        theirs.close()
        assert spool.read() == b""
        assert read_all(reopen(tmp_path, -1, spool)) == b"x" * 2500


def test_fifo_opened_again_is_another_stdin(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)
    os.write(writing, b"a\n")
    spool = open_spool(tmp_path, reading)
    assert read_all(spool, 2) == b"a\n"
    spool = reopen(tmp_path, reading, spool)
    os.write(writing, b"a\nb\n")
    os.close(writing)
    assert read_all(spool) == b"a\nb\n"
    os.close(reading)


def test_fifo_held_by_parent_continues(tmp_path: Path) -> None:
    """The FIFO is the stdin of two children in turn, as when the launcher restarts a ventilator."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)

    def launcher() -> bool:
        os.dup2(reading, 0)
        first = run_forked(lambda: read_all(open_spool(tmp_path, 0), 2) == b"a\n")
        os.write(writing, b"b\n")
        os.close(writing)
        return first and run_forked(lambda: read_all(open_spool(tmp_path, 0)) == b"a\nb\n")

    os.write(writing, b"a\n")
    assert run_forked(launcher, hidden=writing)
    os.close(reading)


def run_forked(act: Callable[[], bool], hidden: int = -1) -> bool:
    """Run `act` in a child, and return its result; only the child keeps the descriptor `hidden`."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    close_quietly(hidden)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_discard_below_deletes_settled_segments(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 2000, ended=False)
    for first in range(100, 2001, 100):
        spool.on_records_read(first, 200)
    spool.discard_below(499)
    assert "1.000000" in files(tmp_path / "spool")
    spool.discard_below(500)
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "1.000001", "1.000002", "1.000003"}
    spool.discard_below(1999)
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "1.000003"}
    spool = reopen(tmp_path, pipe[0], spool)
    assert spool.first == 1500
    os.write(pipe[1], b"b\n")
    os.close(pipe[1])
    assert read_all(spool) == b"a\n" * 500 + b"b\n"
    spool.on_records_read(2001, 1002)
    spool.discard_below(2001)
    spool = reopen(tmp_path, -1, spool)
    assert (spool.first, spool.is_complete) == (2001, True)
    assert read_all(spool) == b""


def test_discard_below_keeps_segments_of_long_task(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" + b"x" * 4000 + b"\nb\n", ended=False)
    spool.on_records_read(1, 2)
    spool.on_records_read(2, 4001)
    spool.discard_below(1)
    assert "1.000000" in files(tmp_path / "spool")
    spool.discard_below(2)
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "1.000004"}
    spool = reopen(tmp_path, pipe[0], spool)
    assert (spool.first, read_all(spool, 2)) == (2, b"b\n")


def test_reopen_deletes_stale_segment(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.on_records_read(1000, 2000)
    spool.discard_below(1000)
    left = tmp_path / "spool" / "1.000000"
    left.write_bytes(b"a" * SEGMENT_BYTES)
    reopen(tmp_path, pipe[0], spool)
    assert not left.exists()


def test_discard_below_after_unterminated_record_works(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 499 + b"a", ended=True)
    spool.on_records_read(500, 1000)
    spool.discard_below(500)
    spool = reopen(tmp_path, -1, spool)
    assert (spool.is_complete, read_all(spool)[:2]) == (True, b"a\n")


def test_truncated_complete_spool_reads_other_stdin(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """After a power cut: the end was saved, but a segment has lost its last bytes."""
    spool = create_filled(tmp_path, pipe, b"a\n" * 1000, ended=True)
    os.truncate(tmp_path / "spool" / "1.000001", 10)
    reading, writing = os.pipe()
    spool = reopen(tmp_path, reading, spool)
    assert not spool.is_complete
    os.write(writing, b"b\n")
    os.close(writing)
    assert read_all(spool) == b"b\n"
    os.close(reading)


def test_spool_without_unread_segment_starts_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.on_records_read(700, 1400)
    spool.discard_below(700)
    spool = reopen(tmp_path, pipe[0], spool)
    assert spool.first == 700
    (tmp_path / "spool" / "1.000001").unlink()
    assert reopen(tmp_path, pipe[0], spool).first == 0


def test_second_owner_raises(tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.input.spool_files.LOCK_TIMEOUT_SECONDS", 0.05)
    spool = open_spool(tmp_path, pipe[0])
    with pytest.raises(PipelineError, match="another ventilator"):
        open_spool(tmp_path, pipe[0])
    reopen(tmp_path, pipe[0], spool)


def test_remove_keeps_other_files(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.remove()
    spool.close()
    spool.remove()
    assert not (tmp_path / "spool").exists()
    spool = create_filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    (tmp_path / "spool" / "mine.txt").touch()
    spool.remove()
    assert files(tmp_path / "spool") == {"mine.txt"}


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_full_disk_is_retried(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    ours, theirs = socket.socketpair()
    reading, writing = pipe if kind == "pipe" else (ours.fileno(), theirs.fileno())
    spool = open_spool(tmp_path, reading)
    os.write(writing, b"a" * 1500)

    def fail_with_enospc(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(3):
        with monkeypatch.context() as patch:
            if kind == "pipe":
                patch.setattr(os, "splice", fail_with_enospc)
            patch.setattr(os, "pwrite", fail_with_enospc)
            assert spool.read() is None
            assert "spool: No space left on device" in spool.disk_full_reason
            assert not spool.may_block
    assert read_all(spool, 1500) == b"a" * 1500
    assert spool.disk_full_reason == ""
    theirs.close()
    close_quietly(writing)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail_with_enospc)  # saving the end
        assert spool.read() is None
        assert spool.disk_full_reason
    assert spool.read() == b""
    ours.close()


def test_discard_below_on_full_disk_is_retried(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = create_filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.on_records_read(600, 1200)

    def fail_with_enospc(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fail_with_enospc)
        spool.discard_below(600)
    assert "1.000000" in files(tmp_path / "spool")
    spool.discard_below(600)
    assert "1.000000" not in files(tmp_path / "spool")
    assert reopen(tmp_path, pipe[0], spool).first == 600


def test_other_error_is_raised(tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path, pipe[0])
    os.write(pipe[1], b"a\n")

    def fail_with_eio(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "splice", fail_with_eio)
    with pytest.raises(OSError, match="Input/output error"):
        spool.read()


def test_fsync_syncs_segments_before_saving_end(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = StdinSpool(str(tmp_path / "spool"), pipe[0], fsync=True, segment_size=SEGMENT_BYTES)
    os.write(pipe[1], b"a\n" * 1000)
    os.close(pipe[1])
    assert read_all(spool, 2000) == b"a\n" * 1000
    calls: list[str] = []
    sync, save = SegmentedFile.sync, SpoolDirectory.save

    def record_sync(file: SegmentedFile) -> None:
        calls.append("sync")
        sync(file)

    def record_save(directory: SpoolDirectory, state: SpoolState) -> SpoolState:
        calls.append("save")
        return save(directory, state)

    monkeypatch.setattr(SegmentedFile, "sync", record_sync)
    monkeypatch.setattr(SpoolDirectory, "save", record_save)
    assert spool.read() == b""
    assert calls == ["sync", "save"]


def test_killed_processes_lose_and_double_no_byte(tmp_path: Path) -> None:
    """Children read, log and discard records until they are killed; together they have read the whole input."""
    rng = random.Random(4)
    whole = b"".join(b"%d\n" % number for number in range(150_000))
    reading, writing = os.pipe()
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for low, high in pairwise([0, *sorted(rng.sample(range(len(whole)), 12)), len(whole)]):
        child = fork_child(lambda: read_and_discard(tmp_path, reading, log, whole), writing)
        os.write(writing, whole[low:high])
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    child = fork_child(lambda: read_and_discard(tmp_path, reading, log, whole), writing)
    os.close(writing)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(reading)
    settled = 0
    for line in os.pread(log, 1 << 24, 0).decode().splitlines():
        low, high = (int(number) for number in line.split())
        assert low <= settled
        settled = max(settled, high)
    assert settled == 150_000
    os.close(log)


def fork_child(act: Callable[[], None], hidden: int) -> int:
    """Run `act` in a child without the descriptor `hidden`, and return its pid."""
    child = os.fork()
    if not child:
        try:
            os.close(hidden)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def read_and_discard(folder: Path, stdin: int, log: int, whole: bytes) -> None:
    """Read to the end; compare records with their numbers, log and discard them."""
    spool = StdinSpool(str(folder / "spool"), stdin, segment_size=50_000)
    first, pending = spool.first, b""
    at = whole.index(b"\n%d\n" % first) + 1 if first else 0
    while (part := spool.read()) != b"":
        pending += part or b""
        size = pending.rfind(b"\n") + 1
        assert pending[:size] == whole[at : at + size]
        count = pending.count(b"\n")
        if count:
            os.write(log, b"%d %d\n" % (first, first + count))
            first, at, pending = first + count, at + size, pending[size:]
            spool.on_records_read(first, size)
            spool.discard_below(first)
    assert first == 150_000
