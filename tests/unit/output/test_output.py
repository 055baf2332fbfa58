"""The output: whole results in order, to files, pipes and terminals that may be slow or gone."""

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
from pipeline.storage import disk_io as kernels
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PATIENCE = 30.0
MUCH = b"x" * 999 + b"\n"


def write(output: ResultOutput, number: int, text: bytes, errors: bytes = b"") -> None:
    """One more result."""
    output.send(Port.OUTPUT, WriteResult(number, Result("run", "worker", number, 1, text, b"", errors, ())))


@contextmanager
def streams() -> Iterator[tuple[int, int]]:
    """The reading ends of pipes that are this process's stdout and stderr for a while (not a fixture: pytest's
    capture moves both descriptors between the set-up and the test)."""
    saved = os.dup(1), os.dup(2)
    (out, new_out), (err, new_err) = os.pipe(), os.pipe()
    os.dup2(new_out, 1)
    os.dup2(new_err, 2)
    os.close(new_out)
    os.close(new_err)
    try:
        yield out, err
    finally:
        for fd, kept in enumerate(saved, 1):
            os.dup2(kept, fd)
            os.close(kept)
        os.close(out)
        os.close(err)


def shut(reading: int) -> None:
    """Close the reading end of a pipe, leaving something harmless at its number."""
    with open(os.devnull, "rb") as null:
        os.dup2(null.fileno(), reading)


def read_all(fd: int) -> bytes:
    """What is in the pipe now."""
    return os.read(fd, 1 << 20) if select.select([fd], [], [], 0)[0] else b""


def readable(output: ResultOutput, patience: float) -> bool:
    """Whether a file of the output becomes ready in time."""
    files = [file for file in output.pollables() if isinstance(file, int)]
    return bool(select.select(files, [], [], patience)[0])


def drain(output: ResultOutput, fd: int, size: int) -> tuple[bytes, list[Message]]:
    """Read `size` bytes, giving the output its turns as the loop does: only when its files are ready."""
    found, said = b"", []
    limit = time.monotonic() + PATIENCE
    while len(found) < size:
        assert time.monotonic() < limit, f"{len(found)} of {size} bytes"
        found += os.read(fd, 1 << 16) if select.select([fd], [], [], 0)[0] else b""
        if output.pollables() and readable(output, 0.1):
            said += output.receive()
    return found, said


def test_results_of_one_turn_go_out_together_and_in_order(tmp_path: Path) -> None:
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


def test_a_result_without_output_is_written_too(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"))
    write(output, 1, b"")
    assert output.receive() == [Committed("output", 1, sizes=(0,))]


def test_an_existing_file_is_replaced_by_the_first_result_only(tmp_path: Path) -> None:
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


def test_a_run_of_no_task_leaves_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old")
    output = ResultOutput(str(path))
    output.finish()
    output.close()
    assert path.read_bytes() == b""


def test_stdout_gets_results_and_stderr_what_they_complained_of() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        write(output, 1, b"one\n", b"oh\n")
        write(output, 2, b"two\n", b"dear\n")
        assert output.receive() == [Committed("output", 2, sizes=(8,))]
        assert [read_all(fd) for fd in (out, err)] == [b"one\ntwo\n", b"oh\ndear\n"]


NOTES = (
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
def test_who_could_not_say_why_it_failed_is_named_and_of_exit_codes_the_first(*, verbose: bool, exits: str) -> None:
    failed = Result("run", "worker", 0, 10, b"", b"", b"oh\n", NOTES)
    said = f"oh\n{FIRST}{NAMED}{exits}{LAST}".encode()
    assert FailureReporter(verbose=verbose, is_stderr_captured=False).messages(failed) == said
    with streams() as (out, err):
        output = ResultOutput(verbose=verbose)
        output.send(Port.OUTPUT, WriteResult(1, failed))
        assert output.receive() == [Committed("output", 1, sizes=(0,))]
        assert [read_all(fd) for fd in (out, err)] == [b"", said]


def test_errors_can_be_shown_by_somebody_else() -> None:
    with streams() as (_, err):
        shown: list[bytes] = []
        output = ResultOutput(show_stderr=shown.append)
        write(output, 1, b"one\n", b"oh\n")
        write(output, 2, b"two\n")
        assert output.receive() == [Committed("output", 2, sizes=(8,))]
        assert shown == [b"oh\n"]
        assert read_all(err) == b""


def test_a_slow_reader_is_never_waited_for() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        for number in range(2000):
            write(output, number, MUCH, b"!" if number == 1999 else b"")
        (said,) = output.receive()
        assert isinstance(said, Committed)
        assert 0 < said.number < 1999
        assert output.deadline == NEVER
        assert not readable(output, 0)
        assert read_all(err) == b""
        found, more = drain(output, out, 2000 * len(MUCH))
        assert found == MUCH * 2000
        numbers = [said.number, *(word.number for word in more if isinstance(word, Committed))]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] == 1999
        assert read_all(err) == b"!"
        assert os.get_blocking(1)
        output.close()


def test_a_result_is_written_once_its_errors_are_out() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        write(output, 1, b"one\n", MUCH * 200)
        assert output.receive() == []
        assert read_all(out) == b"one\n"
        assert drain(output, err, 200 * len(MUCH)) == (MUCH * 200, [Committed("output", 1, sizes=(4,))])


def test_a_stderr_that_is_gone_stops_nothing() -> None:
    with streams() as (out, err):
        output = ResultOutput()
        shut(err)
        write(output, 1, b"one\n", b"oh\n")
        write(output, 2, b"two\n", b"oh\n")
        assert output.receive() == [Committed("output", 2, sizes=(8,))]
        assert read_all(out) == b"one\ntwo\n"


def test_a_stdout_closed_early_is_told_once() -> None:
    with streams() as (out, _):
        output = ResultOutput()
        write(output, 1, b"one\n")
        assert output.receive() == [Committed("output", 1, sizes=(4,))]
        shut(out)
        write(output, 2, b"two\n")
        assert output.receive() == [Committed("output", 1, STDOUT_CLOSED_REASON, (4,))]
        write(output, 3, b"three\n")
        assert output.receive() == []
        assert output.pollables() == []
        assert output.deadline == NEVER


def test_what_was_whole_before_a_failure_counts(tmp_path: Path) -> None:
    """A file size limit makes a short write first, and an error then."""
    path = tmp_path / "out"
    output = ResultOutput(str(path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (6000, limits[1]))
    try:
        for number in range(10):
            write(output, number, MUCH)
        assert output.receive() == [Committed("output", 5, f"{path}: File too large after 6000 bytes", (6000,))]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == MUCH * 6


@pytest.mark.parametrize(("path", "said"), [("/", "is a directory"), ("/nowhere/x", "no such directory: /nowhere")])
def test_a_path_that_cannot_be_written_is_told_at_once(path: str, said: str) -> None:
    with pytest.raises(UsageError, match=f"cannot write {path}: {said}"):
        ResultOutput(path)


def test_a_folder_that_vanished_is_told(tmp_path: Path) -> None:
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


def test_a_stdout_that_was_never_open_is_told() -> None:
    with streams():
        os.close(1)
        with pytest.raises(UsageError, match=STDOUT_CLOSED_REASON):
            ResultOutput()


def pour_all(spout: NonblockingWriter, fd: int, size: int) -> bytes:
    """Read `size` bytes while pouring."""
    found = b""
    limit = time.monotonic() + PATIENCE
    while len(found) < size:
        assert time.monotonic() < limit
        if select.select([fd], [], [], 0)[0]:
            found += os.read(fd, 1 << 16)
        spout.flush()
    return found


def test_a_socket_takes_what_it_can() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        spout = NonblockingWriter(theirs.fileno())
        spout.add(MUCH * 2000)
        spout.flush()
        assert spout.is_blocked
        assert ATOMIC_WRITE_BYTES <= spout.written_bytes < spout.queued_bytes
        assert os.get_blocking(theirs.fileno())
        assert select.select([spout.writable_fd()], [], [], 0)[0] == []
        assert pour_all(spout, ours.fileno(), spout.queued_bytes) == MUCH * 2000
        assert not spout.is_blocked
        assert select.select([spout.writable_fd()], [], [], PATIENCE)[0]
        spout.close()


def test_a_terminal_that_does_not_read_blocks_nobody() -> None:
    controller, terminal = pty.openpty()
    spout = NonblockingWriter(terminal)
    spout.add(b"y" * 100_000)
    spout.flush()
    assert spout.is_blocked
    assert os.get_blocking(terminal)
    assert pour_all(spout, controller, 100_000) == b"y" * 100_000
    spout.close()
    os.close(controller)
    os.close(terminal)


def receive_all(output: ResultOutput, number: int) -> list[Message]:
    """What it says until it has written result `number`, or failed."""
    said: list[Message] = []
    limit = time.monotonic() + PATIENCE
    while not any(isinstance(word, Committed) and (word.number >= number or word.failure) for word in said):
        assert time.monotonic() < limit, said
        said += output.receive()
    return said


def test_who_failed_has_a_letter(tmp_path: Path) -> None:
    path, failed = tmp_path / "out", tmp_path / "failed"
    failed.write_text("of the last run")
    output = ResultOutput(OutputFiles(str(path), str(failed)))
    assert failed.read_text() == "of the last run"
    notes = (TaskFailure(4, "exit", 3, "exit 3", "tail", 2), TaskFailure(6, "lost", 9, "SIGKILL", "", 3))
    both = Result("run", "worker", 4, 3, b"five\n", b"", b"", notes, 2, b"fisix")
    write(output, 0, b"zero\n")
    output.send(Port.OUTPUT, WriteResult(1, both))
    write(output, 2, b"two\n")
    expected = dead_letter(both, notes[0], b"fi") + dead_letter(both, notes[1], b"six")
    assert output.receive() == [Committed("output", 2, sizes=(14, len(expected)))]
    assert (path.read_bytes(), failed.read_bytes()) == (b"zero\nfive\ntwo\n", expected)
    output.sync()
    output.close()


def test_without_a_file_for_them_there_are_no_letters(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"))
    output.send(
        Port.OUTPUT,
        WriteResult(1, Result("run", "worker", 0, 1, b"", b"", b"", (TaskFailure(0, "exit", 1, "x", "", 0),))),
    )
    assert output.receive() == [Committed("output", 1, sizes=(0,))]


def test_where_nothing_failed_the_file_for_letters_is_empty(tmp_path: Path) -> None:
    output = ResultOutput(OutputFiles(str(tmp_path / "out"), str(tmp_path / "failed")))
    output.finish()
    assert (tmp_path / "failed").read_bytes() == b""


def test_the_sizes_are_those_of_what_is_written_and_no_more() -> None:
    """A reader is slow: what is out behind the last whole result is not counted."""
    with streams() as (out, _):
        output = ResultOutput()
        for number in range(200):
            write(output, number, MUCH)
        said = output.receive()
        found, more = drain(output, out, 200 * len(MUCH))
        assert len(found) == 200 * len(MUCH)
        words = [word for word in [*said, *more] if isinstance(word, Committed)]
        assert [word.sizes for word in words] == [((word.number + 1) * len(MUCH),) for word in words]


def test_a_run_goes_on_behind_what_is_committed(tmp_path: Path) -> None:
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


def test_a_file_for_letters_that_is_new_to_a_run_begins_empty(tmp_path: Path) -> None:
    path, failed = tmp_path / "out", tmp_path / "failed"
    path.write_bytes(b"one\n")
    failed.write_bytes(b"old\n")
    output = ResultOutput(OutputFiles(str(path), str(failed)), sizes=(4,))
    write(output, 1, b"two\n")
    assert output.receive() == [Committed("output", 1, sizes=(8, 0))]
    assert failed.read_bytes() == b""


@pytest.mark.parametrize("there", [b"one\ntw", None])
def test_a_file_shorter_than_what_was_committed_is_refused(tmp_path: Path, there: bytes | None) -> None:
    path = tmp_path / "out"
    if there is not None:
        path.write_bytes(there)
    with pytest.raises(UsageError, match=f"expected at least 8 bytes, found {len(there or b'')}"):
        ResultOutput(str(path), sizes=(8,))
    assert there is None or path.read_bytes() == there


def test_what_is_no_plain_file_is_just_gone_on_with() -> None:
    output = ResultOutput("/dev/null", sizes=(8,))
    write(output, 1, b"one\n")
    assert output.receive() == [Committed("output", 1, sizes=(12,))]
    output.sync()


def test_a_full_disk_is_told_once_and_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "RETRY_SECONDS", 0.01)
    kernel = FaultySyscalls()
    path = tmp_path / "out"
    output = ResultOutput(str(path), syscalls=kernel)
    write(output, 0, b"zero\n")
    assert receive_all(output, 0) == [Committed("output", 0, sizes=(5,))]
    kernel.is_full = True
    said = []
    for number in range(1, 5):
        tries, limit = len(kernel.calls), time.monotonic() + PATIENCE
        write(output, number, MUCH)
        while len(kernel.calls) == tries and time.monotonic() < limit:
            said += output.receive()
    assert said == [Waiting("disk", f"{path}: No space left on device after 5 bytes")]
    assert output.deadline < NEVER
    kernel.is_full = False
    assert receive_all(output, 4) == [Waiting("disk", active=False), Committed("output", 4, sizes=(5 + 4 * len(MUCH),))]
    assert path.read_bytes() == b"zero\n" + 4 * MUCH


def test_a_disk_that_is_really_full_is_waited_for() -> None:
    output = ResultOutput("/dev/full")
    write(output, 1, b"one\n")
    assert output.receive() == [Waiting("disk", "/dev/full: No space left on device after 0 bytes")]
    assert output.receive() == []
    assert time.monotonic() < output.deadline < NEVER


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
def test_whichever_call_fails_what_was_written_is_there(
    tmp_path: Path, error: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "RETRY_SECONDS", 0.001)
    kth = 1
    while True:
        path = tmp_path / f"{kth}"
        kernel = FaultySyscalls(kth, error)
        output = ResultOutput(str(path), syscalls=kernel)
        failure = ""
        for number in range(4):
            write(output, number, MUCH)
            if failure:
                assert output.receive() == []
                continue
            word = receive_all(output, number)[-1]
            assert isinstance(word, Committed)
            failure = word.failure
            assert path.read_bytes()[: sum(word.sizes)] == MUCH * (word.number + 1)
        assert bool(failure) == (kernel.has_failed and error == errno.EIO)
        if not kernel.has_failed:
            assert kth > 4
            break
        kth += 1


def test_a_sync_that_fails_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "out"
    kernel = FaultySyscalls()
    output = ResultOutput(str(path), syscalls=kernel)
    output.sync()
    assert kernel.calls == []
    write(output, 1, b"one\n")
    receive_all(output, 1)
    output.sync()
    output.sync()
    assert kernel.calls.count("sync") == 3
    failing = ResultOutput(str(path), syscalls=FaultySyscalls(1))
    write(failing, 1, b"")
    receive_all(failing, 1)
    with pytest.raises(OSError, match="Input/output error") as told:
        failing.sync()
    assert told.value.filename == str(path)


def test_a_full_disk_is_asked_once_in_a_while_only(tmp_path: Path) -> None:
    kernel = FaultySyscalls()
    output = ResultOutput(str(tmp_path / "out"), syscalls=kernel)
    kernel.is_full = True
    for number in range(20):
        write(output, number, b"x")
        output.receive()
    assert kernel.calls.count("write") < 10
