"""The spool: no byte of stdin is lost or doubled, whoever is killed, and none is kept for longer than needed."""

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

from pipeline.input import stdin_spool as spool_module
from pipeline.input.spool_files import STATE_FILES, SegmentedFile, SpoolDirectory, SpoolState
from pipeline.input.stdin_spool import StdinSpool
from pipeline.model.errors import PipelineError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

EACH = 1000


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe to stand in for stdin."""
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        shut(fd)


def shut(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:
        return


def rest(spool: StdinSpool, until: int = -1) -> bytes:
    """What it says to its end, or so many bytes; it must come within some seconds."""
    found, limit = b"", time.monotonic() + 30
    while time.monotonic() < limit:
        if 0 <= until <= len(found) or (part := spool.read()) == b"":
            return found
        found += part or b""
    raise AssertionError(f"no more comes after {len(found)} bytes")


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def begin(folder: Path, stdin: int) -> StdinSpool:
    return StdinSpool(str(folder / "spool"), stdin, segment_size=EACH)


def filled(folder: Path, pipe: tuple[int, int], text: bytes, *, ended: bool) -> StdinSpool:
    """A spool that has read all of this."""
    os.write(pipe[1], text)
    if ended:
        os.close(pipe[1])
    spool = begin(folder, pipe[0])
    assert rest(spool, -1 if ended else len(text)) == text
    return spool


def again(tmp_path: Path, stdin: int, spool: StdinSpool) -> StdinSpool:
    """The next life on the same folder."""
    spool.close()
    return begin(tmp_path, stdin)


def test_what_is_said_comes_out_and_its_end_is_noted(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    spool = begin(tmp_path, reading)
    assert spool.read() is None
    assert spool.may_block
    os.write(writing, b"a\nb")
    assert (spool.read(), spool.read()) == (b"a\nb", None)
    os.write(writing, b"c" * 2500)
    assert rest(spool, 2500) == b"c" * 2500
    os.close(writing)
    assert not spool.is_complete
    assert spool.read() == b""
    assert spool.is_complete
    assert not spool.may_block
    assert os.get_blocking(reading)


def test_nothing_is_taken_before_it_is_asked_for(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"a\n")
    spool = begin(tmp_path, pipe[0])
    assert (spool.first, spool.id) == (0, spool.id)
    assert os.read(pipe[0], 10) == b"a\n"


def test_ahead_of_its_reading_it_takes_so_much_and_no_more(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "MAX_UNREAD_BYTES", 3 * EACH)
    text = b"0123456789" * 1000
    os.write(pipe[1], text)
    os.close(pipe[1])
    spool = begin(tmp_path, pipe[0])
    spool.prefetch()
    assert not spool.wants_input
    assert not spool.is_complete
    first = spool.read() or b""
    assert spool.wants_input
    assert first + rest(spool) == text


def test_a_fault_ahead_of_the_reading_is_told_when_all_before_it_was_read(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    os.write(pipe[1], b"a\nb\n")
    spool = begin(tmp_path, pipe[0])
    spool.prefetch()
    os.write(pipe[1], b"c\n")

    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "splice", broken)
    spool.prefetch()
    assert not spool.wants_input
    assert spool.read() == b"a\nb\n"
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        spool.read()


def test_the_next_life_reads_all_that_is_not_forgotten_and_then_the_same_pipe(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 2000, ended=False)
    name = spool.id
    os.write(pipe[1], b"more\n")
    spool = again(tmp_path, pipe[0], spool)
    assert (spool.id, spool.first, spool.may_block) == (name, 0, False)
    os.close(pipe[1])
    assert rest(spool) == b"a\n" * 2000 + b"more\n"


def test_once_it_is_complete_stdin_is_not_needed(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 2000, ended=True)
    os.close(pipe[0])
    spool = again(tmp_path, pipe[0], spool)
    assert spool.is_complete
    assert rest(spool) == b"a\n" * 2000


def test_another_stdin_is_the_input_given_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 2000, ended=False)
    spool.on_records_read(1000, 2000)
    spool.discard_below(1000)
    name, (reading, writing) = spool.id, os.pipe()
    spool = again(tmp_path, reading, spool)
    assert (spool.id, spool.first, spool.may_block) == (name, 0, True)
    assert spool.read() is None
    assert "1.000003" in files(tmp_path / "spool")
    os.write(writing, b"b\n" * 700)
    os.close(writing)
    assert rest(spool) == b"b\n" * 700
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "2.000000", "2.000001"}
    os.close(reading)
    assert rest(again(tmp_path, reading, spool)) == b"b\n" * 700


def test_before_the_other_stdin_has_spoken_the_old_one_may_come_back(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n", ended=False)
    reading, writing = os.pipe()
    spool = again(tmp_path, reading, spool)
    assert spool.read() is None
    spool = again(tmp_path, pipe[0], spool)
    os.close(pipe[1])
    assert rest(spool) == b"a\n"
    shut(reading)
    shut(writing)


def test_an_empty_stdin_or_none_is_not_the_input_given_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n", ended=False)
    reading, writing = os.pipe()
    os.close(writing)
    null = os.open(os.devnull, os.O_RDONLY)
    for stdin in (reading, null):
        spool = again(tmp_path, stdin, spool)
        with pytest.raises(UsageError, match="stdin was not read to its end"):
            spool.read()
        os.close(stdin)
    spool.close()
    with pytest.raises(UsageError, match="cannot read stdin: Bad file descriptor"):
        begin(tmp_path, reading)
    spool = begin(tmp_path, pipe[0])
    os.close(pipe[1])
    assert rest(spool) == b"a\n"


def test_a_terminal_is_not_asked_for_it_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    filled(tmp_path, pipe, b"a\n", ended=False).close()
    ours, theirs = os.openpty()
    for _ in range(2):  # the folder is let go of
        with pytest.raises(UsageError, match="stdin was not read to its end"):
            begin(tmp_path, theirs)
    os.close(ours)
    os.close(theirs)


def test_a_file_as_stdin_is_read_from_where_it_stands_each_time(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n", ended=False)
    (tmp_path / "lines").write_bytes(b"a\nb\n")
    for _ in range(2):
        with (tmp_path / "lines").open("rb") as file:
            spool = again(tmp_path, file.fileno(), spool)
            assert spool.read() == b"a\nb\n"
            assert not spool.is_complete


def test_a_socket_as_stdin(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        spool = begin(tmp_path, ours.fileno())
        assert spool.read() is None
        theirs.sendall(b"x" * 2500)
        assert rest(spool, 2500) == b"x" * 2500
        theirs.close()
        assert spool.read() == b""
        assert rest(again(tmp_path, -1, spool)) == b"x" * 2500


def test_a_named_pipe_opened_anew_is_another_one(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)
    os.write(writing, b"a\n")
    spool = begin(tmp_path, reading)
    assert rest(spool, 2) == b"a\n"
    spool = again(tmp_path, reading, spool)
    os.write(writing, b"a\nb\n")
    os.close(writing)
    assert rest(spool) == b"a\nb\n"
    os.close(reading)


def test_a_named_pipe_that_the_parent_holds_goes_on(tmp_path: Path) -> None:
    """Two children of this process, whose stdin it is, one after the other: as the launcher restarts a ventilator."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(path, os.O_WRONLY)

    def launcher() -> bool:
        os.dup2(reading, 0)
        first = forked(lambda: rest(begin(tmp_path, 0), 2) == b"a\n")
        os.write(writing, b"b\n")
        os.close(writing)
        return first and forked(lambda: rest(begin(tmp_path, 0)) == b"a\nb\n")

    os.write(writing, b"a\n")
    assert forked(launcher, hidden=writing)
    os.close(reading)


def forked(act: Callable[[], bool], hidden: int = -1) -> bool:
    """Whether it came true in a child of ours; `hidden` is a descriptor that only the child keeps."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if act() else 1
        finally:
            os._exit(code)
    shut(hidden)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_segments_go_when_all_their_tasks_are_settled(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 2000, ended=False)
    for first in range(100, 2001, 100):
        spool.on_records_read(first, 200)
    spool.discard_below(499)
    assert "1.000000" in files(tmp_path / "spool")
    spool.discard_below(500)
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "1.000001", "1.000002", "1.000003"}
    spool.discard_below(1999)
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "1.000003"}
    spool = again(tmp_path, pipe[0], spool)
    assert spool.first == 1500
    os.write(pipe[1], b"b\n")
    os.close(pipe[1])
    assert rest(spool) == b"a\n" * 500 + b"b\n"
    spool.on_records_read(2001, 1002)
    spool.discard_below(2001)
    spool = again(tmp_path, -1, spool)
    assert (spool.first, spool.is_complete) == (2001, True)
    assert rest(spool) == b""


def test_a_task_over_many_segments_keeps_them_all(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" + b"x" * 4000 + b"\nb\n", ended=False)
    spool.on_records_read(1, 2)
    spool.on_records_read(2, 4001)
    spool.discard_below(1)
    assert "1.000000" in files(tmp_path / "spool")
    spool.discard_below(2)
    assert files(tmp_path / "spool") == {*STATE_FILES, "lock", "1.000004"}
    spool = again(tmp_path, pipe[0], spool)
    assert (spool.first, rest(spool, 2)) == (2, b"b\n")


def test_a_segment_that_a_killed_one_had_no_time_to_delete_is_swept(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.on_records_read(1000, 2000)
    spool.discard_below(1000)
    left = tmp_path / "spool" / "1.000000"
    left.write_bytes(b"a" * EACH)
    again(tmp_path, pipe[0], spool)
    assert not left.exists()


def test_the_end_of_a_file_without_newline_is_no_more_than_there_is(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 499 + b"a", ended=True)
    spool.on_records_read(500, 1000)
    spool.discard_below(500)
    spool = again(tmp_path, -1, spool)
    assert (spool.is_complete, rest(spool)[:2]) == (True, b"a\n")


def test_the_spool_of_a_power_cut_is_given_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """Its end was noted, but a file has lost its own."""
    spool = filled(tmp_path, pipe, b"a\n" * 1000, ended=True)
    os.truncate(tmp_path / "spool" / "1.000001", 10)
    reading, writing = os.pipe()
    spool = again(tmp_path, reading, spool)
    assert not spool.is_complete
    os.write(writing, b"b\n")
    os.close(writing)
    assert rest(spool) == b"b\n"
    os.close(reading)


def test_a_spool_that_has_lost_what_is_still_to_be_read_is_given_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.on_records_read(700, 1400)
    spool.discard_below(700)
    spool = again(tmp_path, pipe[0], spool)
    assert spool.first == 700
    (tmp_path / "spool" / "1.000001").unlink()
    assert again(tmp_path, pipe[0], spool).first == 0


def test_one_owner_at_a_time(tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.input.spool_files.LOCK_TIMEOUT_SECONDS", 0.05)
    spool = begin(tmp_path, pipe[0])
    with pytest.raises(PipelineError, match="another ventilator"):
        begin(tmp_path, pipe[0])
    again(tmp_path, pipe[0], spool)


def test_remove_leaves_nothing_but_what_is_not_ours(tmp_path: Path, pipe: tuple[int, int]) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.remove()
    spool.close()
    spool.remove()
    assert not (tmp_path / "spool").exists()
    spool = filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    (tmp_path / "spool" / "mine.txt").touch()
    spool.remove()
    assert files(tmp_path / "spool") == {"mine.txt"}


@pytest.mark.parametrize("kind", ["pipe", "socket"])
def test_a_full_disk_is_waited_for(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    ours, theirs = socket.socketpair()
    reading, writing = pipe if kind == "pipe" else (ours.fileno(), theirs.fileno())
    spool = begin(tmp_path, reading)
    os.write(writing, b"a" * 1500)

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for _ in range(3):
        with monkeypatch.context() as disk:
            if kind == "pipe":
                disk.setattr(os, "splice", full)
            disk.setattr(os, "pwrite", full)
            assert spool.read() is None
            assert "spool: No space left on device" in spool.disk_full_reason
            assert not spool.may_block
    assert rest(spool, 1500) == b"a" * 1500
    assert spool.disk_full_reason == ""
    theirs.close()
    shut(writing)
    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)  # the note that this was the end
        assert spool.read() is None
        assert spool.disk_full_reason
    assert spool.read() == b""
    ours.close()


def test_what_cannot_be_forgotten_now_is_forgotten_later(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = filled(tmp_path, pipe, b"a\n" * 1000, ended=False)
    spool.on_records_read(600, 1200)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "pwrite", full)
        spool.discard_below(600)
    assert "1.000000" in files(tmp_path / "spool")
    spool.discard_below(600)
    assert "1.000000" not in files(tmp_path / "spool")
    assert again(tmp_path, pipe[0], spool).first == 600


def test_any_other_fault_is_raised(tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    spool = begin(tmp_path, pipe[0])
    os.write(pipe[1], b"a\n")

    def broken(*_: object, **__: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "splice", broken)
    with pytest.raises(OSError, match="Input/output error"):
        spool.read()


def test_for_the_disk_all_is_synced_before_the_end_is_noted(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = StdinSpool(str(tmp_path / "spool"), pipe[0], fsync=True, segment_size=EACH)
    os.write(pipe[1], b"a\n" * 1000)
    os.close(pipe[1])
    assert rest(spool, 2000) == b"a\n" * 1000
    story: list[str] = []
    sync, save = SegmentedFile.sync, SpoolDirectory.save

    def synced(tape: SegmentedFile) -> None:
        story.append("sync")
        sync(tape)

    def noted(folder: SpoolDirectory, what: SpoolState) -> SpoolState:
        story.append("noted")
        return save(folder, what)

    monkeypatch.setattr(SegmentedFile, "sync", synced)
    monkeypatch.setattr(SpoolDirectory, "save", noted)
    assert spool.read() == b""
    assert story == ["sync", "noted"]


def test_whoever_is_killed_whenever_no_byte_is_lost_or_doubled(tmp_path: Path) -> None:
    """Children read, note what came and forget it, and are killed; together they have read what was said."""
    rng = random.Random(4)
    whole = b"".join(b"%d\n" % number for number in range(150_000))
    reading, writing = os.pipe()
    log = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    for low, high in pairwise([0, *sorted(rng.sample(range(len(whole)), 12)), len(whole)]):
        child = born(lambda: live(tmp_path, reading, log, whole), writing)
        os.write(writing, whole[low:high])
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    child = born(lambda: live(tmp_path, reading, log, whole), writing)
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


def born(act: Callable[[], None], hidden: int) -> int:
    """A child that does this and leaves, without that descriptor."""
    child = os.fork()
    if not child:
        try:
            os.close(hidden)
            act()
            os._exit(0)
        finally:
            os._exit(1)
    return child


def live(folder: Path, stdin: int, log: int, whole: bytes) -> None:
    """Read to the end; note what came, which must be what it is called, and forget it; then leave."""
    spool = StdinSpool(str(folder / "spool"), stdin, segment_size=50_000)
    first, held = spool.first, b""
    at = whole.index(b"\n%d\n" % first) + 1 if first else 0
    while (part := spool.read()) != b"":
        held += part or b""
        size = held.rfind(b"\n") + 1
        assert held[:size] == whole[at : at + size]
        count = held.count(b"\n")
        if count:
            os.write(log, b"%d %d\n" % (first, first + count))
            first, at, held = first + count, at + size, held[size:]
            spool.on_records_read(first, size)
            spool.discard_below(first)
    assert first == 150_000
