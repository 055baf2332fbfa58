"""The source: whole records, lazily, from files, pipes and arguments."""

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
    from collections.abc import Iterator, Sequence
    from pathlib import Path

LINES = RecordFormat()


def of_letters(files: list[str]) -> InputSource:
    return InputSource.with_format(DeadLetterReader(files), files)


def lettered_stdin(stdin: int, spool: StdinSpool) -> InputSource:
    return InputSource.with_format(DeadLetterReader([], spool.first), [], stdin, spool)


def ask(source: InputSource, size: int = 1 << 20, patience: float = 30.0) -> Message:
    """The one answer to a Want, waiting as the loop does."""
    source.send(Port.SOURCE, ReadRequest(size))
    return wait(source, patience)


def wait(source: InputSource, patience: float = 30.0) -> Message:
    """The answer to a Want that was sent."""
    limit = time.monotonic() + patience
    while time.monotonic() < limit:
        if found := source.receive():
            (answer,) = found
            spool = source._spool
            assert source.deadline == NEVER
            assert source.pollables() == ([spool.fd] if spool and spool.wants_input else [])
            return answer
        if source.deadline == NEVER:
            poller = zmq.Poller()
            for file in source.pollables():
                poller.register(file, zmq.POLLIN)
            assert poller.sockets, "it neither answers, nor waits, nor wants to be called"
            poller.poll(100)
    raise AssertionError("no answer")


def everything(source: InputSource, size: int = 1 << 20) -> tuple[list[RecordsRead], EndOfInput]:
    """All until the end; the numbers must be consecutive."""
    found: list[RecordsRead] = []
    while isinstance(answer := ask(source, size), RecordsRead):
        assert answer.first == sum(records.count for records in found)
        found.append(answer)
    assert isinstance(answer, EndOfInput)
    return found, answer


def bodies(files: Sequence[str], recipe: RecordFormat = LINES, block: int | None = None) -> list[bytes]:
    """What all of them hold, Want by Want."""
    return [records.body for records in everything(InputSource(recipe, files, None, block))[0]]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe to stand in for stdin."""
    reading, writing = os.pipe()
    yield reading, writing
    for fd in (reading, writing):
        try:
            os.close(fd)
        except OSError:
            continue


def test_no_input_ends_with_no_task(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert everything(InputSource(LINES, [str(empty), "/dev/null"], None, None)) == ([], EndOfInput(0))
    assert everything(InputSource(LINES, [], [], None)) == ([], EndOfInput(0))
    assert everything(InputSource(LINES, [str(empty)], None, 10)) == ([], EndOfInput(0))


def test_the_end_is_told_again() -> None:
    source = InputSource(LINES, [], ["a"], None)
    assert everything(source)[1] == ask(source) == EndOfInput(1)


def test_arguments_are_nul_terminated_records() -> None:
    source = InputSource(LINES, (), ["a b", "", "two\nlines", "caf\udce9"], None)
    assert source.record_format == RecordFormat(zero=True)
    assert everything(source) == ([RecordsRead(0, 4, b"a b\0\0two\nlines\0caf\xe9\0")], EndOfInput(4))


def test_records_of_many_files_are_numbered_through_and_not_glued(tmp_path: Path) -> None:
    texts = [b"a\n\nb", b"", b"c\r\n", b"no end"]
    for number, text in enumerate(texts):
        (tmp_path / str(number)).write_bytes(text)
    found, end = everything(InputSource(LINES, [str(tmp_path / str(number)) for number in range(4)], None, None))
    assert b"".join(records.body for records in found) == b"a\n\nb\nc\r\nno end\n"
    assert end == EndOfInput(5)


def test_many_small_files_come_in_few_answers(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / str(number)).write_text("x\n")
    assert len(bodies([str(tmp_path / str(number)) for number in range(200)])) == 1


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("zero", [False, True])
def test_any_lengths_come_back_whole(tmp_path: Path, seed: int, *, zero: bool) -> None:
    rng = random.Random(seed)
    mark = b"\0" if zero else b"\n"
    lengths = [rng.choice([0, 1, 60, 3000, 70_000]) for _ in range(400)] + [
        3 * BLOCK_BYTES,
        0,
        BLOCK_BYTES - 1,
        BLOCK_BYTES,
    ]
    rng.shuffle(lengths)
    lengths.append(7)
    text = b"".join(b"x" * length + mark for length in lengths)
    path = tmp_path / "records"
    path.write_bytes(text[:-1] if seed % 2 else text)
    size = rng.choice([1, 500, 65_536, 10 * BLOCK_BYTES])
    found, end = everything(InputSource(RecordFormat(zero=zero), [str(path)], None, None), size)
    assert b"".join(records.body for records in found) == text
    assert end == EndOfInput(len(lengths))
    for records in found:
        assert records.body.endswith(mark)
        assert records.body.count(mark) == records.count
        assert len(records.body) <= size or records.count == 1


def test_an_answer_is_about_the_size_that_was_wanted(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"123456789\n" * 100)
    assert [len(body) for body in bodies([str(path)])] == [1000]
    found, _ = everything(InputSource(LINES, [str(path)], None, None), 95)
    assert {records.count for records in found} == {9, 1}


def test_nothing_is_read_before_it_is_wanted(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.write(writing, b"a\nb\n")
    source = InputSource(LINES, [], None, None, reading)
    assert source.pollables() == []
    assert source.receive() == []
    assert ask(source) == RecordsRead(0, 2, b"a\nb\n")
    os.write(writing, b"c\n")
    assert source.receive() == []
    assert os.read(reading, 10) == b"c\n"


def test_a_slow_input_gives_what_is_there(pipe: tuple[int, int]) -> None:
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
    assert everything_after(source, 2) == [b"last\n"]
    assert os.get_blocking(reading)


def everything_after(source: InputSource, number: int) -> list[bytes]:
    """The bodies from task `number` on."""
    found = []
    while isinstance(answer := ask(source), RecordsRead):
        assert answer.first == number
        number += answer.count
        found.append(answer.body)
    return found


def test_a_fifo_is_waited_for(tmp_path: Path) -> None:
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


def test_files_before_a_slow_one_do_not_wait_for_it(tmp_path: Path, pipe: tuple[int, int]) -> None:
    (tmp_path / "fast").write_bytes(b"a\nb")
    reading, writing = pipe
    source = InputSource(LINES, [str(tmp_path / "fast"), "-"], None, None, reading)
    assert ask(source) == RecordsRead(0, 2, b"a\nb\n")
    os.write(writing, b"c\n")
    assert ask(source) == RecordsRead(2, 1, b"c\n")


def test_a_socket_as_stdin() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        source = InputSource(LINES, [], None, None, ours.fileno())
        theirs.sendall(b"a\n")
        assert ask(source) == RecordsRead(0, 1, b"a\n")
        theirs.close()
        assert ask(source) == EndOfInput(1)


@pytest.mark.parametrize("seed", range(8))
def test_blocks_are_whole_records_of_about_the_size(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    size = rng.choice([1, 100, 5000, 3 * BLOCK_BYTES])
    lengths = [rng.choice([0, 10, size // 2, size, 3 * size]) for _ in range(12 if size > BLOCK_BYTES else 200)]
    text = b"".join(b"x" * length + b"\n" for length in lengths) + b"no end"
    path = tmp_path / "records"
    path.write_bytes(text)
    source = InputSource(LINES, [str(path)], None, size)
    assert source.record_format == RecordFormat(block=True)
    found, end = everything(source, 1)
    assert b"".join(records.body for records in found) == text
    assert end == EndOfInput(len(found))
    for records, after in pairwise(found):
        assert records.count == 1
        assert records.body.endswith(b"\n")
        assert len(records.body) <= size or records.body.count(b"\n") == 1
        assert len(records.body) + after.body.find(b"\n") + 1 > size or b"\n" not in after.body


def test_a_block_never_spans_files(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / name).write_text(f"{name}1\n{name}2")
    assert bodies([str(tmp_path / name) for name in "abc"], block=100) == [b"a1\na2", b"b1\nb2", b"c1\nc2"]


def test_a_block_of_stdin_waits_until_it_is_full(pipe: tuple[int, int]) -> None:
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


def test_a_record_of_many_pieces_comes_whole(pipe: tuple[int, int]) -> None:
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


@pytest.mark.parametrize(("name", "said"), [("nowhere/x", "no such file: nowhere/x"), ("/", "is a directory")])
def test_a_file_that_cannot_be_read_is_told_at_once(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        InputSource(LINES, [name], None, None)
    assert raised.value.exit_code == USAGE


def test_a_closed_stdin_is_told(pipe: tuple[int, int]) -> None:
    reading, _ = pipe
    os.close(reading)
    with pytest.raises(UsageError, match="cannot read stdin"):
        InputSource(LINES, [], None, None, reading)


def test_arguments_exclude_files_and_blocks() -> None:
    with pytest.raises(UsageError, match=":::"):
        InputSource(LINES, ["x"], ["a"], None)
    with pytest.raises(UsageError, match="--block"):
        InputSource(LINES, [], ["a"], 10)


def test_a_read_error_ends_behind_the_whole_records(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"a\nb\n")
    source = InputSource(LINES, [str(tmp_path / "good"), "/proc/self/mem", str(tmp_path / "good")], None, None)
    found, end = everything(source)
    assert [records.body for records in found] == [b"a\nb\n"]
    assert end == EndOfInput(2, "/proc/self/mem: Input/output error")


def test_a_file_that_vanished_ends_the_reading(tmp_path: Path) -> None:
    path = tmp_path / "gone"
    path.write_bytes(b"a\n")
    source = InputSource(LINES, [str(path)], None, None)
    path.unlink()
    assert everything(source) == ([], EndOfInput(0, f"{path}: No such file or directory"))


def test_the_fingerprint_tells_inputs_apart(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\n")
    prints = [
        InputSource(recipe, files, arguments, block).fingerprint
        for recipe, files, arguments, block in [
            (LINES, [str(path)], None, None),
            (RecordFormat(zero=True), [str(path)], None, None),
            (LINES, [str(path)], None, 10),
            (LINES, [str(path), str(path)], None, None),
            (LINES, [], ["a", "b"], None),
            (LINES, [], ["ab"], None),
            (LINES, [], [], None),
        ]
    ]
    prints.append(of_letters([str(path)]).fingerprint)
    assert len({name for name, _, _ in (each.partition(":") for each in prints)}) == len(prints)
    again = InputSource(LINES, [os.path.relpath(path)], None, None)
    assert again.fingerprint == prints[0]
    assert InputSource(LINES, (), ["a", "b"], None).fingerprint == prints[4]


def test_a_file_that_was_written_to_has_its_name_still_but_another_state(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"a\nb\n")
    before = InputSource(LINES, [str(path)], None, None).fingerprint
    path.write_bytes(b"a\nb\nc\n")
    after = InputSource(LINES, [str(path)], None, None).fingerprint
    assert is_same_input(before, after, is_verified=True)
    assert not is_same_input(before, after, is_verified=False)


def test_a_pipe_is_never_the_same_again_but_a_redirected_file_is(tmp_path: Path, pipe: tuple[int, int]) -> None:
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


def test_close_leaves_stdin_open_and_may_come_twice(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = InputSource(LINES, [], None, None, reading)
    source.send(Port.SOURCE, ReadRequest(10))
    assert source.receive() == []
    source.close()
    source.close()
    assert source.pollables() == []
    os.write(writing, b"x")
    assert os.read(reading, 1) == b"x"


def spooled(folder: Path, stdin: int, block: int | None = None) -> InputSource:
    """Stdin by way of small segments."""
    return InputSource(LINES, [], None, block, stdin, StdinSpool(str(folder / "spool"), stdin, segment_size=1000))


def test_a_spool_gives_what_is_there_without_waiting(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = spooled(tmp_path, reading)
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


def test_a_spool_takes_in_what_stdin_has_ahead_of_any_want_but_the_first(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    source = spooled(tmp_path, reading)
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
    with open("/dev/null") as nothing:  # the next one needs no stdin
        found, end = everything(spooled(tmp_path, nothing.fileno()))
    assert b"".join(each.body for each in found) == b"a\nb\n" + b"c\n" * 2000
    assert end == EndOfInput(2002)


def test_a_disk_that_is_full_ahead_of_the_reading_is_waited_for_and_what_is_there_goes_out(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = spooled(tmp_path, pipe[0])
    os.write(pipe[1], b"a\n" * 10)
    assert ask(source, 2) == RecordsRead(0, 1, b"a\n")
    os.write(pipe[1], b"b\n")

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "splice", full)
        (told,) = source.receive()
        assert isinstance(told, Waiting)
        assert source.pollables() == []
        assert time.monotonic() < source.deadline < NEVER
        source.send(Port.SOURCE, ReadRequest(100))
        assert source.receive() == [RecordsRead(1, 9, b"a\n" * 9)]
    assert source.receive() == [Waiting("disk", active=False)]
    assert ask(source) == RecordsRead(10, 1, b"b\n")


@pytest.mark.parametrize("block", [None, 300])
def test_the_next_ventilator_reads_from_the_first_segment_that_is_left(
    tmp_path: Path, pipe: tuple[int, int], block: int | None
) -> None:
    reading, writing = pipe
    whole = b"".join(b"%d\n" % number for number in range(2000))
    os.write(writing, whole)
    source = spooled(tmp_path, reading, block)
    name, found, below = source.fingerprint, b"", 0
    while len(found) < len(whole) - 1000:
        answer = ask(source, 100)
        assert isinstance(answer, RecordsRead)
        found, below = found + answer.body, answer.first
    source.send(Port.SOURCE, DiscardBelow(below))
    source.close()
    os.close(writing)
    source = spooled(tmp_path, reading, block)
    assert source.fingerprint == name
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


def test_what_an_edge_spools_is_not_forgotten_while_other_files_count_too(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    """The numbers of its records depend on files that are read again from their beginnings."""
    (tmp_path / "before").write_bytes(b"x\n")
    files = [str(tmp_path / "before"), "-", "-"]
    os.write(pipe[1], b"a\n" * 2000)
    os.close(pipe[1])
    for _ in range(2):
        source = InputSource(
            LINES, files, None, None, pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000)
        )
        assert everything(source)[1] == EndOfInput(2001)
        source.send(Port.SOURCE, DiscardBelow(2001))
        source.close()


def test_a_full_disk_is_told_of_once_and_when_it_is_over(
    tmp_path: Path, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = spooled(tmp_path, pipe[0])
    os.write(pipe[1], b"a\n")
    source.send(Port.SOURCE, ReadRequest(100))

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as disk:
        disk.setattr(os, "splice", full)
        (told,) = source.receive()
        assert isinstance(told, Waiting)
        assert str(tmp_path / "spool") in told.detail
        assert source.receive() == []
        assert time.monotonic() < source.deadline < NEVER
        assert source.pollables() == []
    assert source.receive() == [Waiting("disk", active=False), RecordsRead(0, 1, b"a\n")]


TASKS = [b"plain", b"two\nlines", b"", b"\xff\xfe", b"caf\xc3\xa9", b" "]


def lettered(tasks: list[bytes]) -> bytes:
    """As --failed writes them."""
    note = TaskFailure(0, "exit", 1, "exit code 1", "", 0)
    return b"".join(dead_letter(Result("run", "worker", 0, 1, b"", b"", b"", (note,)), note, task) for task in tasks)


@pytest.mark.parametrize("size", [1, 300, 1 << 20])
def test_dead_letters_are_tasks_again(tmp_path: Path, size: int) -> None:
    (tmp_path / "one").write_bytes(lettered(TASKS))
    (tmp_path / "two").write_bytes(lettered(TASKS)[:-1])
    source = of_letters([str(tmp_path / "one"), str(tmp_path / "two")])
    assert source.record_format == RecordFormat(zero=True)
    found, end = everything(source, size)
    assert b"".join(records.body for records in found) == b"".join(task + b"\0" for task in TASKS * 2)
    assert end == EndOfInput(12)


def test_dead_letters_come_from_a_spool_too(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], lettered([b"task %d" % number for number in range(100)]))
    os.close(pipe[1])
    source = lettered_stdin(pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000))
    last = b""
    while isinstance(answer := ask(source, 500), RecordsRead) and answer.first < 50:
        last = answer.body
    assert last.startswith(b"task ")
    source.send(Port.SOURCE, DiscardBelow(50))
    source.close()
    source = lettered_stdin(pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000))
    answer = ask(source, 500)
    assert isinstance(answer, RecordsRead)
    assert 0 < answer.first <= 50
    assert answer.body.startswith(b"task %d\0" % answer.first)


@pytest.mark.parametrize("broken", [b"plain\n", b"\n", b"[1]\n", lettered([b"a\0b"])])
def test_a_broken_letter_is_named_and_ends_the_reading(tmp_path: Path, broken: bytes) -> None:
    (tmp_path / "good").write_bytes(lettered(TASKS))
    (tmp_path / "bad").write_bytes(lettered(TASKS[:2]) + broken + lettered(TASKS))
    names = [str(tmp_path / "good"), str(tmp_path / "bad"), str(tmp_path / "good")]
    for size in (1, 1 << 20):
        found, end = everything(of_letters(names), size)
        assert sum(records.count for records in found) == end.total == 8
        assert end.reason.startswith(f"{tmp_path / 'bad'}, line 3 ")
        assert ("NUL byte" if broken.startswith(b"{") else "was not written by --failed: ") in end.reason
    assert everything(of_letters([names[1]]))[1].reason == end.reason


def test_a_broken_letter_in_a_spool_is_found_again(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], lettered([b"a"] * 30) + b"broken\n" + lettered([b"a"] * 30))
    os.close(pipe[1])
    for _ in range(2):
        source = lettered_stdin(pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=100))
        while isinstance(answer := ask(source, 500), RecordsRead):
            pass
        assert isinstance(answer, EndOfInput)
        assert (answer.total, answer.reason[:14]) == (30, "stdin, line 31")
        source.send(Port.SOURCE, DiscardBelow(30))
        source.close()


def test_the_spool_stays_ours_to_the_end_of_the_run(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], b"a\n" * 1000)
    os.close(pipe[1])
    spool = StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000)
    source = InputSource(LINES, [], None, None, pipe[0], spool)
    assert everything(source)[1] == EndOfInput(1000)
    spool.remove()
    source.close()
    assert not (tmp_path / "spool").exists()


def test_the_same_letters_twice_are_counted_anew(tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(b"none\n")
    (tmp_path / "good").write_bytes(lettered([b"a"]))
    found, end = everything(of_letters([str(tmp_path / "good")] * 2 + [str(tmp_path / "bad")]))
    assert [records.body for records in found] == [b"a\0", b"a\0"]
    assert end.reason.startswith(f"{tmp_path / 'bad'}, line 1 ")
