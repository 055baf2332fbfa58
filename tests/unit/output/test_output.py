"""ResultOutput: whole results in order, to files, pipes and terminals that may be slow or closed."""

from __future__ import annotations

import errno
import os
import pty
import resource
import select
import socket
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from pipeline.model.errors import STDOUT_CLOSED_REASON, PipelineError, UsageError
from pipeline.model.events import Committed, Waiting, WriteResult
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.state_machine import NEVER, Message, Port
from pipeline.output.file_writer import ATOMIC_WRITE_BYTES, MAX_IOVECS, NonblockingWriter
from pipeline.output.formats import FailureReporter, dead_letter
from pipeline.output.output import OutputFiles, ResultOutput
from pipeline.storage import disk_io
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMEOUT_SECONDS = 30.0
LONG_LINE = b"x" * 999 + b"\n"


def write(output: ResultOutput, number: int, text: bytes, errors: bytes = b"") -> None:
    """Send one result."""
    output.send(Port.OUTPUT, WriteResult(number, Result("run", "worker", number, 1, text, b"", errors, ())))


@contextmanager
def streams() -> Iterator[tuple[int, int]]:
    """Replace stdout and stderr by pipes, and yield their read ends.

    This is not a fixture: pytest's capture moves both descriptors between the set-up and the test.
    """
    saved = os.dup(1), os.dup(2)
    (out, new_out), (err, new_err) = os.pipe(), os.pipe()
    os.dup2(new_out, 1)
    os.dup2(new_err, 2)
    os.close(new_out)
    os.close(new_err)
    try:
        yield out, err
    finally:
        for fd, original in enumerate(saved, 1):
            os.dup2(original, fd)
            os.close(original)
        os.close(out)
        os.close(err)


def close_reader(reading: int) -> None:
    """Close the read end of a pipe, and put /dev/null at its number."""
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), reading)


def read_all(fd: int) -> bytes:
    """Return what is in the pipe now."""
    return os.read(fd, 1 << 20) if select.select([fd], [], [], 0)[0] else b""


def is_readable(output: ResultOutput, timeout: float) -> bool:
    """Return whether a file of the output becomes ready in time."""
    files = [file for file in output.pollables() if isinstance(file, int)]
    return bool(select.select(files, [], [], timeout)[0])


def drain(output: ResultOutput, fd: int, size: int) -> tuple[bytes, list[Message]]:
    """Read `size` bytes; call the output as the event loop does, only when its files are ready."""
    content, messages = b"", list[Message]()
    limit = time.monotonic() + TIMEOUT_SECONDS
    while len(content) < size:
        assert time.monotonic() < limit, f"{len(content)} of {size} bytes"
        content += os.read(fd, 1 << 16) if select.select([fd], [], [], 0)[0] else b""
        if output.pollables() and is_readable(output, 0.1):
            messages += output.receive()
    return content, messages


def test_receive_writes_pending_results_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out"
    output = ResultOutput(str(path))
    expected = []
    for number in range(3 * MAX_IOVECS):
        expected.append(b"%d\n" % number if number % 7 else b"")
        write(output, number, expected[-1])
    assert not path.exists()
    assert output.deadline == 0.0
    assert output.receive() == [Committed("output", 3 * MAX_IOVECS - 1, sizes=(sum(map(len, expected)),))]
    assert path.read_bytes() == b"".join(expected)
    assert output.receive() == []
    assert output.deadline == NEVER
    assert output.pollables() == []
    output.close()
    output.close()


def test_result_without_output_is_committed(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"))
    write(output, 1, b"")
    assert output.receive() == [Committed("output", 1, sizes=(0,))]


def test_existing_file_is_replaced_by_first_result(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("precious")
    output = ResultOutput(str(path))
    assert output.receive() == []
    output.close()
    assert path.read_text() == "precious"
    output = ResultOutput(str(path))
    write(output, 1, b"new\n")
    assert output.receive() == [Committed("output", 1, sizes=(4,))]
    output.finish()
    assert path.read_text() == "new\n"


def test_finish_without_results_leaves_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    output = ResultOutput(str(path))
    output.finish()
    output.close()
    assert path.read_bytes() == b""


def test_result_writes_to_stdout_and_stderr() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        write(output, 1, b"one\n", b"oh\n")
        write(output, 2, b"two\n", b"dear\n")
        assert output.receive() == [Committed("output", 2, sizes=(8,))]
        assert [read_all(fd) for fd in (out, err)] == [b"one\ntwo\n", b"oh\ndear\n"]


FAILURES = (
    TaskFailure(0, "exit", 3, "exit 3: false", "", 0),
    TaskFailure(1, "signal", 9, "SIGKILL: x\n\x1b[2J", "", 0),
    TaskFailure(2, "exception", 1, "ValueError: oh", "", 0),
    TaskFailure(5, "exit", 4, "exit 4: f", "", 0),
    TaskFailure(6, "exit", 4, "exit 4: f", "", 0),
    TaskFailure(9, "lost", 7, "exited with 7", "", 0),
)
FIRST = "pipe: task 1: exit 3: false\n"
NAMED = "pipe: task 2: SIGKILL: x??[2J\npipe: task 3: ValueError: oh\n"
LAST = "pipe: task 10: exited with 7\n"
MORE = "pipe: more tasks failed with an exit code; use -v to list each, --failed FILE to save them\n"


@pytest.mark.parametrize(
    ("verbose", "exits"), [(False, MORE), (True, "pipe: task 6: exit 4: f\npipe: task 7: exit 4: f\n")]
)
def test_failure_reporter_lists_first_exit_code_only(*, verbose: bool, exits: str) -> None:
    failed = Result("run", "worker", 0, 10, b"", b"", b"oh\n", FAILURES)
    expected = f"oh\n{FIRST}{NAMED}{exits}{LAST}".encode()
    assert FailureReporter(verbose=verbose, is_stderr_captured=False).messages(failed) == expected
    with streams() as (out, err):
        output = ResultOutput(verbose=verbose)
        output.send(Port.OUTPUT, WriteResult(1, failed))
        assert output.receive() == [Committed("output", 1, sizes=(0,))]
        assert [read_all(fd) for fd in (out, err)] == [b"", expected]


def test_stderr_of_tasks_can_be_shown_by_callback() -> None:
    with streams() as (_, err):
        shown: list[bytes] = []
        output = ResultOutput(show_stderr=shown.append)
        write(output, 1, b"one\n", b"oh\n")
        write(output, 2, b"two\n")
        assert output.receive() == [Committed("output", 2, sizes=(8,))]
        assert shown == [b"oh\n"]
        assert read_all(err) == b""


def test_slow_reader_does_not_block_receive() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        for number in range(2000):
            write(output, number, LONG_LINE, b"!" if number == 1999 else b"")
        (committed,) = output.receive()
        assert isinstance(committed, Committed)
        assert 0 < committed.number < 1999
        assert output.deadline == NEVER
        assert not is_readable(output, 0)
        assert read_all(err) == b""
        content, messages = drain(output, out, 2000 * len(LONG_LINE))
        assert content == LONG_LINE * 2000
        numbers = [committed.number, *(message.number for message in messages if isinstance(message, Committed))]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 1999
        assert read_all(err) == b"!"
        assert os.get_blocking(1)
        output.close()


def test_result_is_committed_after_its_stderr() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        write(output, 1, b"one\n", LONG_LINE * 200)
        assert output.receive() == []
        assert read_all(out) == b"one\n"
        assert drain(output, err, 200 * len(LONG_LINE)) == (LONG_LINE * 200, [Committed("output", 1, sizes=(4,))])


def test_closed_stderr_does_not_stop_results() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        close_reader(err)
        write(output, 1, b"one\n", b"oh\n")
        write(output, 2, b"two\n", b"oh\n")
        assert output.receive() == [Committed("output", 2, sizes=(8,))]
        assert read_all(out) == b"one\ntwo\n"


def test_closed_stdout_is_reported_once() -> None:
    with streams() as (out, _):
        output = ResultOutput()
        write(output, 1, b"one\n")
        assert output.receive() == [Committed("output", 1, sizes=(4,))]
        close_reader(out)
        write(output, 2, b"two\n")
        assert output.receive() == [Committed("output", 1, STDOUT_CLOSED_REASON, (4,))]
        write(output, 3, b"three\n")
        assert output.receive() == []
        assert output.pollables() == []
        assert output.deadline == NEVER


def test_results_before_a_write_failure_are_committed(tmp_path: Path) -> None:
    """A file size limit causes a short write, then an error."""
    path = tmp_path / "out"
    output = ResultOutput(str(path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        for number in range(10):
            write(output, number, LONG_LINE)
        assert output.receive() == [Committed("output", 5, f"{path}: File too large after 6000 bytes", (6000,))]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == LONG_LINE * 6


@pytest.mark.parametrize(("path", "reason"), [("/", "is a directory"), ("/nowhere/x", "no such directory: /nowhere")])
def test_output_not_writable_raises(path: str, reason: str) -> None:
    with pytest.raises(UsageError, match=f"cannot write {path}: {reason}"):
        ResultOutput(path)


def test_removed_directory_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = str(folder / "out")
    late, empty = ResultOutput(path), ResultOutput(path)
    folder.rmdir()
    write(late, 1, b"one\n")
    assert late.deadline == 0.0
    assert late.receive() == [Committed("output", -1, f"{path}: No such file or directory after 0 bytes")]
    with pytest.raises(PipelineError, match=f"cannot write {path}"):
        empty.finish()


def test_output_without_stdout_raises() -> None:
    with streams():
        os.close(1)
        with pytest.raises(UsageError, match=STDOUT_CLOSED_REASON):
            ResultOutput()


def flush_all(writer: NonblockingWriter, fd: int, size: int) -> bytes:
    """Read `size` bytes while flushing."""
    content = b""
    limit = time.monotonic() + TIMEOUT_SECONDS
    while len(content) < size:
        assert time.monotonic() < limit
        if select.select([fd], [], [], 0)[0]:
            content += os.read(fd, 1 << 16)
        writer.flush()
    return content


def test_flush_to_socket_writes_what_fits() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        writer = NonblockingWriter(theirs.fileno())
        writer.add(LONG_LINE * 2000)
        writer.flush()
        assert writer.is_blocked
        assert ATOMIC_WRITE_BYTES <= writer.written_bytes < writer.queued_bytes
        assert os.get_blocking(theirs.fileno())
        assert select.select([writer.writable_fd()], [], [], 0)[0] == []
        assert flush_all(writer, ours.fileno(), writer.queued_bytes) == LONG_LINE * 2000
        assert not writer.is_blocked
        assert select.select([writer.writable_fd()], [], [], TIMEOUT_SECONDS)[0]
        writer.close()


def test_flush_to_stopped_terminal_does_not_block() -> None:
    controller, terminal = pty.openpty()
    writer = NonblockingWriter(terminal)
    writer.add(b"y" * 100_000)
    writer.flush()
    assert writer.is_blocked
    assert os.get_blocking(terminal)
    assert flush_all(writer, controller, 100_000) == b"y" * 100_000
    writer.close()
    os.close(controller)
    os.close(terminal)


def receive_all(output: ResultOutput, number: int) -> list[Message]:
    """Return its messages until it has committed result `number`, or failed."""
    messages: list[Message] = []
    limit = time.monotonic() + TIMEOUT_SECONDS
    while not any(
        isinstance(message, Committed) and (message.number >= number or message.failure) for message in messages
    ):
        assert time.monotonic() < limit, messages
        messages += output.receive()
    return messages


def test_failed_tasks_are_written_as_dead_letters(tmp_path: Path) -> None:
    path, failed = tmp_path / "out", tmp_path / "failed"
    failed.write_text("of the previous run")
    output = ResultOutput(OutputFiles(str(path), str(failed)))
    assert failed.read_text() == "of the previous run"
    failures = (TaskFailure(4, "exit", 3, "exit 3", "tail", 2), TaskFailure(6, "lost", 9, "SIGKILL", "", 3))
    both = Result("run", "worker", 4, 3, b"five\n", b"", b"", failures, 2, b"fisix")
    write(output, 0, b"zero\n")
    output.send(Port.OUTPUT, WriteResult(1, both))
    write(output, 2, b"two\n")
    expected = dead_letter(both, failures[0], b"fi") + dead_letter(both, failures[1], b"six")
    assert output.receive() == [Committed("output", 2, sizes=(14, len(expected)))]
    assert (path.read_bytes(), failed.read_bytes()) == (b"zero\nfive\ntwo\n", expected)
    output.sync()
    output.close()


def test_failures_without_failed_file_are_committed(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"))
    output.send(
        Port.OUTPUT,
        WriteResult(1, Result("run", "worker", 0, 1, b"", b"", b"", (TaskFailure(0, "exit", 1, "x", "", 0),))),
    )
    assert output.receive() == [Committed("output", 1, sizes=(0,))]


def test_failed_file_without_failures_is_empty(tmp_path: Path) -> None:
    output = ResultOutput(OutputFiles(str(tmp_path / "out"), str(tmp_path / "failed")))
    output.finish()
    assert (tmp_path / "failed").read_bytes() == b""


def test_committed_sizes_end_at_last_whole_result() -> None:
    """With a slow reader, bytes after the last whole result are not counted."""
    with streams() as (out, _):
        output = ResultOutput()
        for number in range(200):
            write(output, number, LONG_LINE)
        messages = output.receive()
        content, more = drain(output, out, 200 * len(LONG_LINE))
        assert len(content) == 200 * len(LONG_LINE)
        commits = [message for message in [*messages, *more] if isinstance(message, Committed)]
        assert [commit.sizes for commit in commits] == [((commit.number + 1) * len(LONG_LINE),) for commit in commits]


def test_resumed_files_continue_at_committed_sizes(tmp_path: Path) -> None:
    path, failed = tmp_path / "out", tmp_path / "failed"
    path.write_bytes(b"one\ntwo\nha")
    failed.write_bytes(b"{}\n{")
    output = ResultOutput(OutputFiles(str(path), str(failed)), sizes=(8, 3))
    assert (path.read_bytes(), failed.read_bytes()) == (b"one\ntwo\n", b"{}\n")
    write(output, 1, b"three\n")
    assert output.receive() == [Committed("output", 1, sizes=(14, 3))]
    output.finish()
    output.close()
    assert (path.read_bytes(), failed.read_bytes()) == (b"one\ntwo\nthree\n", b"{}\n")


def test_resumed_run_with_new_failed_file_empties_it(tmp_path: Path) -> None:
    path, failed = tmp_path / "out", tmp_path / "failed"
    path.write_bytes(b"one\n")
    failed.write_bytes(b"old\n")
    output = ResultOutput(OutputFiles(str(path), str(failed)), sizes=(4,))
    write(output, 1, b"two\n")
    assert output.receive() == [Committed("output", 1, sizes=(8, 0))]
    assert failed.read_bytes() == b""


@pytest.mark.parametrize("content", [b"one\ntw", None])
def test_resumed_file_shorter_than_committed_raises(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "out"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=f"expected at least 8 bytes, found {len(content or b'')}"):
        ResultOutput(str(path), sizes=(8,))
    assert content is None or path.read_bytes() == content


def test_resumed_device_is_not_checked() -> None:
    output = ResultOutput("/dev/null", sizes=(8,))
    write(output, 1, b"one\n")
    assert output.receive() == [Committed("output", 1, sizes=(12,))]
    output.sync()


def test_full_disk_is_reported_once_and_retried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_io, "RETRY_SECONDS", 0.01)
    syscalls = FaultySyscalls()
    path = tmp_path / "out"
    output = ResultOutput(str(path), syscalls=syscalls)
    write(output, 0, b"zero\n")
    assert receive_all(output, 0) == [Committed("output", 0, sizes=(5,))]
    syscalls.is_full = True
    messages = []
    for number in range(1, 5):
        calls, limit = len(syscalls.calls), time.monotonic() + TIMEOUT_SECONDS
        write(output, number, LONG_LINE)
        while len(syscalls.calls) == calls and time.monotonic() < limit:
            messages += output.receive()
    assert messages == [Waiting("disk", f"{path}: No space left on device after 5 bytes")]
    assert output.deadline < NEVER
    syscalls.is_full = False
    assert receive_all(output, 4) == [
        Waiting("disk", active=False),
        Committed("output", 4, sizes=(5 + 4 * len(LONG_LINE),)),
    ]
    assert path.read_bytes() == b"zero\n" + 4 * LONG_LINE


def test_dev_full_is_retried() -> None:
    output = ResultOutput("/dev/full")
    write(output, 1, b"one\n")
    assert output.receive() == [Waiting("disk", "/dev/full: No space left on device after 0 bytes")]
    assert output.receive() == []
    assert time.monotonic() < output.deadline < NEVER


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_any_failing_call_keeps_committed_results(tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_io, "RETRY_SECONDS", 0.001)
    nth = 1
    while True:
        path = tmp_path / f"{nth}"
        syscalls = FaultySyscalls(nth, error)
        output = ResultOutput(str(path), syscalls=syscalls)
        failure = ""
        for number in range(4):
            write(output, number, LONG_LINE)
            if failure:
                assert output.receive() == []
                continue
            message = receive_all(output, number)[-1]
            assert isinstance(message, Committed)
            failure = message.failure
            assert path.read_bytes()[: sum(message.sizes)] == LONG_LINE * (message.number + 1)
        assert bool(failure) == (syscalls.has_failed and error == errno.EIO)
        if not syscalls.has_failed:
            assert nth > 4
            break
        nth += 1


def test_failing_sync_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    syscalls = FaultySyscalls()
    output = ResultOutput(str(path), syscalls=syscalls)
    output.sync()
    assert syscalls.calls == []
    write(output, 1, b"one\n")
    receive_all(output, 1)
    output.sync()
    output.sync()
    assert syscalls.calls.count("sync") == 3
    failing = ResultOutput(str(path), syscalls=FaultySyscalls(1))
    write(failing, 1, b"")
    receive_all(failing, 1)
    with pytest.raises(OSError, match="Input/output error") as error:
        failing.sync()
    assert error.value.filename == str(path)


def test_full_disk_limits_write_calls(tmp_path: Path) -> None:
    syscalls = FaultySyscalls()
    output = ResultOutput(str(tmp_path / "out"), syscalls=syscalls)
    syscalls.is_full = True
    for number in range(20):
        write(output, number, b"x")
        output.receive()
    assert syscalls.calls.count("write") < 10
