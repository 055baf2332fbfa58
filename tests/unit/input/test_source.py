"""InputSource: whole records, read lazily, from files, pipes and arguments."""

from __future__ import annotations

import errno
import os
import random
import socket
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
import zmq

from pipeline.input.dead_letters import DeadLetterReader
from pipeline.input.files import BLOCK_BYTES
from pipeline.input.source import InputSource
from pipeline.input.stdin_spool import StdinSpool
from pipeline.model.errors import USAGE, UsageError
from pipeline.model.events import DiscardBelow, EndOfInput, ReadRequest, RecordsRead, Waiting
from pipeline.model.messages import RecordFormat, Result, TaskFailure
from pipeline.model.records import is_same_input
from pipeline.model.state_machine import NEVER, Message, Port
from pipeline.output.formats import dead_letter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LINES = RecordFormat()


def dead_letter_source(files: list[str]) -> InputSource:
    return InputSource.with_format(DeadLetterReader(files), files)


def dead_letter_stdin(stdin: int, spool: StdinSpool) -> InputSource:
    return InputSource.with_format(DeadLetterReader([], spool.first), [], stdin, spool)


def ask(source: InputSource, size: int = 1 << 20, timeout: float = 30.0) -> Message:
    """Send a request, and return the answer, waiting as the event loop does."""
    source.send(Port.SOURCE, ReadRequest(size))
    return wait(source, timeout)


def wait(source: InputSource, timeout: float = 30.0) -> Message:
    """Return the answer to the request that was sent."""
    limit = time.monotonic() + timeout
    while time.monotonic() < limit:
        if messages := source.receive():
            (answer,) = messages
            spool = source._spool
            assert source.deadline == NEVER
            assert source.pollables() == ([spool.fd] if spool and spool.wants_input else [])
            return answer
        if source.deadline == NEVER:
            poller = zmq.Poller()
            for file in source.pollables():
                poller.register(file, zmq.POLLIN)
            assert poller.sockets, "no answer, no deadline and nothing to poll"
            poller.poll(100)
    raise AssertionError("no answer")


def read_all(source: InputSource, size: int = 1 << 20) -> tuple[list[RecordsRead], EndOfInput]:
    """Read to the end; the numbers must be consecutive."""
    batches: list[RecordsRead] = []
    while isinstance(answer := ask(source, size), RecordsRead):
        assert answer.first == sum(records.count for records in batches)
        batches.append(answer)
    assert isinstance(answer, EndOfInput)
    return batches, answer


def bodies(files: Sequence[str], record_format: RecordFormat = LINES, block: int | None = None) -> list[bytes]:
    """Return the body of each answer."""
    return [records.body for records in read_all(InputSource(record_format, files, None, block))[0]]


def test_empty_input_ends_without_tasks(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert read_all(InputSource(LINES, [str(empty), "/dev/null"], None, None)) == ([], EndOfInput(0))
    assert read_all(InputSource(LINES, [], [], None)) == ([], EndOfInput(0))
    assert read_all(InputSource(LINES, [str(empty)], None, 10)) == ([], EndOfInput(0))


def test_request_after_end_gets_end_again() -> None:
    source = InputSource(LINES, [], ["a"], None)
    assert read_all(source)[1] == ask(source) == EndOfInput(1)


def test_arguments_become_nul_terminated_records() -> None:
    source = InputSource(LINES, (), ["a b", "", "two\nlines", "caf\udce9"], None)
    assert source.record_format == RecordFormat(zero=True)
    assert read_all(source) == ([RecordsRead(0, 4, b"a b\0\0two\nlines\0caf\xe9\0")], EndOfInput(4))


def test_records_of_several_files_are_numbered_in_turn(tmp_path: Path) -> None:
    texts = [b"a\n\nb", b"", b"c\r\n", b"no end"]
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_bytes(text)
    batches, end = read_all(InputSource(LINES, [str(tmp_path / str(number)) for number in range(4)], None, None))
    assert b"".join(records.body for records in batches) == b"a\n\nb\nc\r\nno end\n"
    assert end == EndOfInput(5)


def test_small_files_share_one_answer(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).write_text("x\n")
    assert len(bodies([str(tmp_path / str(number)) for number in range(200)])) == 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("zero", [False, True])
def test_records_of_any_length_are_whole(tmp_path: Path, seed: int, *, zero: bool) -> None:
    rng = random.Random(seed)
    terminator = b"\0" if zero else b"\n"
    lengths = [rng.choice([0, 1, 60, 3000, 70_000]) for _ in range(400)] + [
        3 * BLOCK_BYTES,
        0,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
    ]
    rng.shuffle(lengths)
    lengths.append(7)
    text = b"".join(b"x" * length + terminator for length in lengths)
    path = tmp_path / "records"
    path.write_bytes(text[:-1] if seed % 2 else text)
    size = rng.choice([1, 500, 65_536, 10 * BLOCK_BYTES])
    batches, end = read_all(InputSource(RecordFormat(zero=zero), [str(path)], None, None), size)
    assert b"".join(records.body for records in batches) == text
    assert end == EndOfInput(len(lengths))
    for records in batches:
        assert records.body.endswith(terminator)
        assert records.body.count(terminator) == records.count
        assert len(records.body) <= size or records.count == 1


def test_answer_has_about_the_requested_size(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"123456789\n" * 100)
    assert [len(body) for body in bodies([str(path)])] == [1000]
    batches, _ = read_all(InputSource(LINES, [str(path)], None, None), 95)
    assert {records.count for records in batches} == {9, 1}


def test_nothing_is_read_before_a_request(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"a\nb\n")
    source = InputSource(LINES, [], None, None, reading)
    assert source.pollables() == []
    assert source.receive() == []
    assert ask(source) == RecordsRead(0, 2, b"a\nb\n")
    os.write(writing, b"c\n")
    assert source.receive() == []
    assert os.read(reading, 10) == b"c\n"


def test_slow_input_answers_with_available_records(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = InputSource(LINES, ["-"], None, None, reading)
    source.send(Port.SOURCE, ReadRequest(1000))
    assert source.receive() == []
    assert source.pollables() == [reading]
    assert source.deadline == NEVER
    os.write(writing, b"first\nhal")
    assert wait(source) == RecordsRead(0, 1, b"first\n")
    source.send(Port.SOURCE, ReadRequest(1000))
    assert source.receive() == []
    os.write(writing, b"f\n")
    assert wait(source) == RecordsRead(1, 1, b"half\n")
    os.write(writing, b"last")
    os.close(writing)
    assert read_all_after(source, 2) == [b"last\n"]
    assert os.get_blocking(reading)


def read_all_after(source: InputSource, number: int) -> list[bytes]:
    """Return the bodies from task `number` on."""
    bodies = []
    while isinstance(answer := ask(source), RecordsRead):
        assert answer.first == number
        number += answer.count
        bodies.append(answer.body)
    return bodies


def test_fifo_without_writer_is_polled(tmp_path: Path) -> None:
    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    source = InputSource(LINES, [path], None, None)
    source.send(Port.SOURCE, ReadRequest(1000))
    assert source.receive() == []
    assert len(source.pollables()) == 1
    writing = os.open(path, os.O_WRONLY)
    assert source.receive() == []
    os.write(writing, b"a\n")
    assert wait(source) == RecordsRead(0, 1, b"a\n")
    os.close(writing)
    assert ask(source) == EndOfInput(1)


def test_records_before_slow_file_are_not_delayed(tmp_path: Path, pipe: tuple[int, int]) -> None:
    (tmp_path / "fast").write_bytes(b"a\nb")
    reading, writing = pipe
    source = InputSource(LINES, [str(tmp_path / "fast"), "-"], None, None, reading)
    assert ask(source) == RecordsRead(0, 2, b"a\nb\n")
    os.write(writing, b"c\n")
    assert ask(source) == RecordsRead(2, 1, b"c\n")


def test_socket_as_stdin_is_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        source = InputSource(LINES, [], None, None, ours.fileno())
        theirs.sendall(b"a\n")
        assert ask(source) == RecordsRead(0, 1, b"a\n")
        theirs.close()
        assert ask(source) == EndOfInput(1)


@pytest.mark.parametrize("seed", range(8))
def test_blocks_are_whole_records_of_about_block_size(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    size = rng.choice([1, 100, 5000, 3 * BLOCK_BYTES])
    lengths = [rng.choice([0, 10, size // 2, size, 3 * size]) for _ in range(12 if size > BLOCK_BYTES else 200)]
    text = b"".join(b"x" * length + b"\n" for length in lengths) + b"no end"
    path = tmp_path / "records"
    path.write_bytes(text)
    source = InputSource(LINES, [str(path)], None, size)
    assert source.record_format == RecordFormat(block=True)
    batches, end = read_all(source, 1)
    assert b"".join(records.body for records in batches) == text
    assert end == EndOfInput(len(batches))
    for records, after in pairwise(batches):
        assert records.count == 1
        assert records.body.endswith(b"\n")
        assert len(records.body) <= size or records.body.count(b"\n") == 1
        assert len(records.body) + after.body.find(b"\n") + 1 > size or b"\n" not in after.body


def test_block_never_spans_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(f"{name}1\n{name}2")
    assert bodies([str(tmp_path / name) for name in "abc"], block=100) == [b"a1\na2", b"b1\nb2", b"c1\nc2"]


def test_block_of_stdin_waits_until_it_is_full(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = InputSource(LINES, [], None, 6, reading)
    source.send(Port.SOURCE, ReadRequest(1))
    os.write(writing, b"ab\n")
    assert source.receive() == []
    assert source.pollables() == [reading]
    os.write(writing, b"cd\nef\n")
    assert wait(source) == RecordsRead(0, 1, b"ab\ncd\n")
    source.send(Port.SOURCE, ReadRequest(1))
    assert source.receive() == []
    os.close(writing)
    assert wait(source) == RecordsRead(1, 1, b"ef\n")
    assert ask(source) == EndOfInput(2)


def test_record_of_many_pieces_is_whole(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = InputSource(LINES, [], None, None, reading)
    source.send(Port.SOURCE, ReadRequest(1))
    length = 0
    for _ in range(500):
        length += os.write(writing, b"y" * 40_000)
        assert source.receive() == []
    os.write(writing, b"\n")
    answer = wait(source)
    assert isinstance(answer, RecordsRead)
    assert (answer.count, len(answer.body)) == (1, length + 1)


@pytest.mark.parametrize(("name", "reason"), [("nowhere/x", "no such file: nowhere/x"), ("/", "is a directory")])
def test_unreadable_file_raises(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as raised:
        InputSource(LINES, [name], None, None)
    assert raised.value.exit_code == USAGE


def test_closed_stdin_raises(pipe: tuple[int, int]) -> None:
    reading, _ = pipe
    os.close(reading)
    with pytest.raises(UsageError, match="cannot read stdin"):
        InputSource(LINES, [], None, None, reading)


def test_arguments_with_files_or_block_raise() -> None:
    with pytest.raises(UsageError, match=":::"):
        InputSource(LINES, ["x"], ["a"], None)
    with pytest.raises(UsageError, match="--block"):
        InputSource(LINES, [], ["a"], 10)


def test_read_error_ends_input_after_whole_records(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"a\nb\n")
    source = InputSource(LINES, [str(tmp_path / "good"), "/proc/self/mem", str(tmp_path / "good")], None, None)
    batches, end = read_all(source)
    assert [records.body for records in batches] == [b"a\nb\n"]
    assert end == EndOfInput(2, "/proc/self/mem: Input/output error")


def test_removed_file_ends_input(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_bytes(b"a\n")
    source = InputSource(LINES, [str(path)], None, None)
    path.unlink()
    assert read_all(source) == ([], EndOfInput(0, f"{path}: No such file or directory"))


def test_fingerprint_distinguishes_inputs(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\n")
    fingerprints = [
        InputSource(record_format, files, arguments, block).fingerprint
        for record_format, files, arguments, block in [
            (LINES, [str(path)], None, None),
            (RecordFormat(zero=True), [str(path)], None, None),
            (LINES, [str(path)], None, 10),
            (LINES, [str(path), str(path)], None, None),
            (LINES, [], ["a", "b"], None),
            (LINES, [], ["ab"], None),
            (LINES, [], [], None),
        ]
    ]
    fingerprints.append(dead_letter_source([str(path)]).fingerprint)
    assert len({name for name, _, _ in (fingerprint.partition(":") for fingerprint in fingerprints)}) == len(
        fingerprints
    )
    same = InputSource(LINES, [os.path.relpath(path)], None, None)
    assert same.fingerprint == fingerprints[0]
    assert InputSource(LINES, (), ["a", "b"], None).fingerprint == fingerprints[4]


def test_fingerprint_of_modified_file_keeps_its_name(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\n")
    before = InputSource(LINES, [str(path)], None, None).fingerprint
    path.write_bytes(b"a\nb\nc\n")
    after = InputSource(LINES, [str(path)], None, None).fingerprint
    assert is_same_input(before, after, is_verified=True)
    assert not is_same_input(before, after, is_verified=False)


def test_fingerprint_of_pipe_is_new_but_of_file_is_stable(tmp_path: Path, pipe: tuple[int, int]) -> None:
    source = InputSource(LINES, [], None, None, pipe[0])
    assert source.fingerprint == source.fingerprint
    assert not is_same_input(
        source.fingerprint, InputSource(LINES, [], None, None, pipe[0]).fingerprint, is_verified=True
    )
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\n")
    with path.open("rb") as one, path.open("rb") as two:
        same = InputSource(LINES, [], None, None, one.fileno()).fingerprint
        assert same == InputSource(LINES, [], None, None, two.fileno()).fingerprint
        two.seek(2)
        assert not is_same_input(same, InputSource(LINES, [], None, None, two.fileno()).fingerprint, is_verified=True)


def test_close_twice_leaves_stdin_open(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = InputSource(LINES, [], None, None, reading)
    source.send(Port.SOURCE, ReadRequest(10))
    assert source.receive() == []
    source.close()
    source.close()
    assert source.pollables() == []
    os.write(writing, b"x")
    assert os.read(reading, 1) == b"x"


def spooled_source(folder: Path, stdin: int, block: int | None = None) -> InputSource:
    """Return a source with a spool of small segments."""
    return InputSource(LINES, [], None, block, stdin, StdinSpool(str(folder / "spool"), stdin, segment_size=1000))


def test_spooled_source_answers_with_available_records(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = spooled_source(tmp_path, reading)
    os.write(writing, b"a\n")
    assert source.receive() == []
    assert ask(source) == RecordsRead(0, 1, b"a\n")
    source.send(Port.SOURCE, ReadRequest(1000))
    assert source.receive() == []
    assert (source.pollables(), source.deadline) == ([reading], NEVER)
    os.write(writing, b"b\nc")
    assert wait(source) == RecordsRead(1, 1, b"b\n")
    os.close(writing)
    assert ask(source) == RecordsRead(2, 1, b"c\n")
    assert ask(source) == ask(source) == EndOfInput(3)


def test_spooled_source_prefetches_after_first_request(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = spooled_source(tmp_path, reading)
    os.write(writing, b"a\nb\n")
    assert source.receive() == []
    assert source.pollables() == []
    assert ask(source, 2) == RecordsRead(0, 1, b"a\n")
    os.write(writing, b"c\n" * 2000)
    os.close(writing)
    while source.pollables():
        assert source.receive() == []
    assert source.deadline == NEVER
    source.close()
    with open("/dev/null") as null:  # a complete spool needs no stdin
        batches, end = read_all(spooled_source(tmp_path, null.fileno()))
    assert b"".join(records.body for records in batches) == b"a\nb\n" + b"c\n" * 2000
    assert end == EndOfInput(2002)


def test_full_disk_does_not_delay_spooled_records(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = spooled_source(tmp_path, pipe[0])
    os.write(pipe[1], b"a\n" * 10)
    assert ask(source, 2) == RecordsRead(0, 1, b"a\n")
    os.write(pipe[1], b"b\n")

    def fail_with_enospc(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "splice", fail_with_enospc)
        (notice,) = source.receive()
        assert isinstance(notice, Waiting)
        assert source.pollables() == []
        assert time.monotonic() < source.deadline < NEVER
        source.send(Port.SOURCE, ReadRequest(100))
        assert source.receive() == [RecordsRead(1, 9, b"a\n" * 9)]
    assert source.receive() == [Waiting("disk", active=False)]
    assert ask(source) == RecordsRead(10, 1, b"b\n")


@pytest.mark.parametrize("block", [None, 300])
def test_reopened_spool_starts_at_first_segment_left(tmp_path: Path, pipe: tuple[int, int], block: int | None) -> None:
    reading, writing = pipe
    whole = b"".join(b"%d\n" % number for number in range(2000))
    os.write(writing, whole)
    source = spooled_source(tmp_path, reading, block)
    fingerprint, content, below = source.fingerprint, b"", 0
    while len(content) < len(whole) - 1000:
        answer = ask(source, 100)
        assert isinstance(answer, RecordsRead)
        content, below = content + answer.body, answer.first
    source.send(Port.SOURCE, DiscardBelow(below))
    source.close()
    os.close(writing)
    source = spooled_source(tmp_path, reading, block)
    assert source.fingerprint == fingerprint
    first = ask(source, 100)
    assert isinstance(first, RecordsRead)
    text, number = first.body, first.first + first.count
    while isinstance(answer := ask(source, 100), RecordsRead):
        assert answer.first == number
        text, number = text + answer.body, number + answer.count
    assert answer == EndOfInput(number)
    assert whole.endswith(text)
    assert first.first > (0 if block else 1000)
    if block is None:
        assert text.startswith(b"%d\n" % first.first)
        assert number == 2000
    else:
        assert len(whole) - len(text) > 5 * 1000


def test_spool_after_other_files_discards_nothing(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """The numbers of its records depend on files that are read again from the beginning."""
    (tmp_path / "before").write_bytes(b"x\n")
    files = [str(tmp_path / "before"), "-", "-"]
    os.write(pipe[1], b"a\n" * 2000)
    os.close(pipe[1])
    for _ in range(2):
        source = InputSource(
            LINES, files, None, None, pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000)
        )
        assert read_all(source)[1] == EndOfInput(2001)
        source.send(Port.SOURCE, DiscardBelow(2001))
        source.close()


def test_full_disk_is_reported_once_and_when_it_ends(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = spooled_source(tmp_path, pipe[0])
    os.write(pipe[1], b"a\n")
    source.send(Port.SOURCE, ReadRequest(100))

    def fail_with_enospc(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "splice", fail_with_enospc)
        (notice,) = source.receive()
        assert isinstance(notice, Waiting)
        assert str(tmp_path / "spool") in notice.detail
        assert source.receive() == []
        assert time.monotonic() < source.deadline < NEVER
        assert source.pollables() == []
    assert source.receive() == [Waiting("disk", active=False), RecordsRead(0, 1, b"a\n")]


TASKS = [b"plain", b"two\nlines", b"", b"\xff\xfe", b"caf\xc3\xa9", b" "]


def encode_dead_letters(tasks: list[bytes]) -> bytes:
    """Return them as --failed writes them."""
    failure = TaskFailure(0, "exit", 1, "exit code 1", "", 0)
    return b"".join(
        dead_letter(Result("run", "worker", 0, 1, b"", b"", b"", (failure,)), failure, task) for task in tasks
    )


@pytest.mark.parametrize("size", [1, 300, 1 << 20])
def test_dead_letters_become_tasks(tmp_path: Path, size: int) -> None:
    (tmp_path / "one").write_bytes(encode_dead_letters(TASKS))
    (tmp_path / "two").write_bytes(encode_dead_letters(TASKS)[:-1])
    source = dead_letter_source([str(tmp_path / "one"), str(tmp_path / "two")])
    assert source.record_format == RecordFormat(zero=True)
    batches, end = read_all(source, size)
    assert b"".join(records.body for records in batches) == b"".join(task + b"\0" for task in TASKS * 2)
    assert end == EndOfInput(12)


def test_dead_letters_of_spool_resume_after_discard(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], encode_dead_letters([b"task %d" % number for number in range(100)]))
    os.close(pipe[1])
    source = dead_letter_stdin(pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000))
    last = b""
    while isinstance(answer := ask(source, 500), RecordsRead) and answer.first < 50:
        last = answer.body
    assert last.startswith(b"task ")
    source.send(Port.SOURCE, DiscardBelow(50))
    source.close()
    source = dead_letter_stdin(pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000))
    answer = ask(source, 500)
    assert isinstance(answer, RecordsRead)
    assert 0 < answer.first <= 50
    assert answer.body.startswith(b"task %d\0" % answer.first)


@pytest.mark.parametrize("broken", [b"plain\n", b"\n", b"[1]\n", encode_dead_letters([b"a\0b"])])
def test_broken_dead_letter_ends_input_with_line_number(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "good").write_bytes(encode_dead_letters(TASKS))
    (tmp_path / "bad").write_bytes(encode_dead_letters(TASKS[:2]) + broken + encode_dead_letters(TASKS))
    names = [str(tmp_path / "good"), str(tmp_path / "bad"), str(tmp_path / "good")]
    for size in (1, 1 << 20):
        batches, end = read_all(dead_letter_source(names), size)
        assert sum(records.count for records in batches) == end.total == 8
        assert end.reason.startswith(f"{tmp_path / 'bad'}, line 3 ")
        assert ("NUL byte" if broken.startswith(b"{") else "was not written by --failed: ") in end.reason
    assert read_all(dead_letter_source([names[1]]))[1].reason == end.reason


def test_broken_dead_letter_in_spool_is_reported_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], encode_dead_letters([b"a"] * 30) + b"broken\n" + encode_dead_letters([b"a"] * 30))
    os.close(pipe[1])
    for _ in range(2):
        source = dead_letter_stdin(pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=100))
        while isinstance(answer := ask(source, 500), RecordsRead):
            pass
        assert isinstance(answer, EndOfInput)
        assert (answer.total, answer.reason[:14]) == (30, "stdin, line 31")
        source.send(Port.SOURCE, DiscardBelow(30))
        source.close()


def test_spool_is_removed_before_source_is_closed(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"a\n" * 1000)
    os.close(pipe[1])
    spool = StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000)
    source = InputSource(LINES, [], None, None, pipe[0], spool)
    assert read_all(source)[1] == EndOfInput(1000)
    spool.remove()
    source.close()
    assert not (tmp_path / "spool").exists()


def test_line_numbers_restart_with_each_file(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"none\n")
    (tmp_path / "good").write_bytes(encode_dead_letters([b"a"]))
    batches, end = read_all(dead_letter_source([str(tmp_path / "good")] * 2 + [str(tmp_path / "bad")]))
    assert [records.body for records in batches] == [b"a\0", b"a\0"]
    assert end.reason.startswith(f"{tmp_path / 'bad'}, line 1 ")
