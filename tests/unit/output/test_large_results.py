"""Large results: written completely, in steps, to every kind of file; shortened on a terminal only."""

from __future__ import annotations

import base64
import csv
import errno
import json
import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from pipeline.model.events import Committed, WriteResult
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.results import LargeResult, TaskMetrics, encode_metrics
from pipeline.model.state_machine import NEVER, Message, Port
from pipeline.output import database, file_writer, large_text
from pipeline.output.output import OutputFiles, ResultOutput
from tests.support.faulty_syscalls import FaultySyscalls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STDOUT = "".join(f'{number} "ä"\n' for number in range(300)).encode()
STDERR = "".join(f"error {number}\n" for number in range(300)).encode()


class Content:
    """Content in memory, which counts how often it is read."""

    def __init__(self, body: bytes) -> None:
        self._body, self.reads = body, 0

    def read(self, start: int, size: int) -> bytes:
        self.reads += 1
        return self._body[start : start + size]


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_text, "CHUNK_BYTES", 30)
    monkeypatch.setattr(file_writer, "MAX_BACKLOG_BYTES", 100)


def large(task: int, stdout: bytes = STDOUT, stderr: bytes = STDERR, *failures: TaskFailure) -> LargeResult:
    metrics = encode_metrics(TaskMetrics(1.0, 0.0, 1.0, 0.0, 0, 1, 0, b"c", b"%d" % task))
    sizes, content = (len(stdout), len(stderr)), Content(stdout + stderr)
    return LargeResult(
        "r", "h.1.a", task, 1, b"", bytes(4), b"", failures, 0, b"", metrics, "line", sizes, content=content
    )


def small(task: int, stdout: bytes) -> Result:
    metrics = encode_metrics(TaskMetrics(1.0, 0.0, 1.0, 0.0, 0, 1, 0, b"c", b"%d" % task))
    return Result("r", "h.1.a", task, 1, stdout, len(stdout).to_bytes(4, "little"), b"", (), 0, b"", metrics)


def run(output: ResultOutput, *results: Result) -> tuple[list[Message], int]:
    """Write these results; return the messages, and the number of turns of the event loop that it took."""
    for number, result in enumerate(results, 1):
        output.send(Port.OUTPUT, WriteResult(number, result))
    messages, turns = list[Message](), 0
    while output.deadline == 0.0:
        messages += output.receive()
        turns += 1
    assert output.deadline == NEVER
    return messages, turns


def test_large_results_are_written_between_small_ones_in_steps(tmp_path: Path) -> None:
    path = tmp_path / "out"
    output = ResultOutput(str(path), show_stderr=lambda _: None)
    messages, turns = run(output, small(0, b"a\n"), large(1), small(2, b"b\n"), large(3))
    assert path.read_bytes() == b"a\n" + STDOUT + b"b\n" + STDOUT
    assert turns > 10
    assert messages[0] == Committed("output", 1, sizes=(2,))
    assert messages[-1] == Committed("output", 4, sizes=(4 + 2 * len(STDOUT),))
    output.close()


def test_streamed_bytes_of_large_output_are_not_written_again(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"), show_stderr=lambda _: None)
    output.send(Port.OUTPUT, WriteResult(1, large(7), streamed_sizes=((7, 100),)))
    run(output)
    assert (tmp_path / "out").read_bytes() == STDOUT[100:]


@pytest.mark.parametrize("stdout", [STDOUT, b"", b"\xff" * 100, STDOUT + "ä".encode()[:1], '"\\\0😀'.encode() * 50])
def test_large_jsonl_row_has_all_fields(tmp_path: Path, stdout: bytes) -> None:
    path = tmp_path / "out.jsonl"
    run(ResultOutput(str(path)), large(4, stdout), small(5, stdout))
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    texts = [
        row["stdout"].encode() if "stdout" in row else base64.b64decode(row["stdout_base64"], validate=True)
        for row in rows
    ]
    assert texts == [stdout, stdout]
    assert list(rows[0]) == list(rows[1])
    assert rows[0]["stderr"].encode() == STDERR


def test_large_csv_row_has_all_columns(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    run(ResultOutput(str(path)), large(4), small(5, STDOUT))
    first, second = csv.DictReader(path.read_text().splitlines(keepends=True))
    assert (first["Stdout"].encode(), first["Stderr"].encode()) == (STDOUT, STDERR)
    assert (first["Receive"], first["Reason"]) == (str(len(STDOUT)), "ok")
    assert second["Stdout"].encode() == STDOUT


def test_large_sqlite_row_has_all_columns(tmp_path: Path) -> None:
    path = tmp_path / "out.sqlite"
    output = ResultOutput(str(path))
    run(output, large(4))
    output.close()
    with closing(sqlite3.connect(path)) as connection:
        ((stdout, stderr),) = connection.execute("SELECT stdout, stderr FROM tasks").fetchall()
    assert (stdout.encode(), stderr.encode()) == (STDOUT, STDERR)


def test_text_too_large_for_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "MAX_CELL_BYTES", 1000)
    output = ResultOutput(str(tmp_path / "out.sqlite"))
    (failed,), _ = run(output, large(4))
    assert isinstance(failed, Committed)
    assert "task 5 wrote more than the 1,000 bytes that SQLite can store" in failed.failure
    output.close()


def test_large_result_directory_has_both_texts(tmp_path: Path) -> None:
    output = ResultOutput(OutputFiles(folder=str(tmp_path)))
    messages, turns = run(output, small(3, b"x"), large(4), small(5, b"y"))
    assert messages[-1] == Committed("output", 3, sizes=(0, 0, 0, 3))
    assert turns > 3
    folder = tmp_path / "1" / "4"
    assert ((folder / "stdout").read_bytes(), (folder / "stderr").read_bytes()) == (STDOUT, STDERR)
    assert (folder / "seq").read_bytes() == b"5"
    assert sorted(path.name for path in folder.iterdir()) == ["seq", "stderr", "stdout"]
    assert (tmp_path / "1" / "5" / "stdout").read_bytes() == b"y"


def test_retried_large_failure_is_logged_without_its_content(tmp_path: Path) -> None:
    failure = TaskFailure(0, "exit", 3, "exit 3", "", 0)
    failed = Result("r", "h.1.a", 0, 1, b"", bytes(4), b"", (failure,), large_sizes=(1 << 40, 1))
    path, failed_path, log, folders = (str(tmp_path / name) for name in ("out.jsonl", "failed", "log", "folders"))
    output = ResultOutput(OutputFiles(path, failed_path, log, folders))
    output.send(Port.OUTPUT, WriteResult(1, failed, is_retried=True))
    messages, _ = run(output)
    assert [message.number for message in messages if isinstance(message, Committed)] == [1]
    assert (tmp_path / "log").read_bytes().splitlines()[1].split(b"\t")[5] == b"%d" % (1 << 40)
    assert (tmp_path / "out.jsonl").read_bytes() == b""
    output.close()


@pytest.mark.parametrize("name", ["out", "out.jsonl", "out.csv"])
def test_large_result_is_completed_when_a_full_disk_has_space_again(tmp_path: Path, name: str) -> None:
    expected, path = tmp_path / f"expected.{name}", tmp_path / name
    run(ResultOutput(str(expected), show_stderr=lambda _: None), large(4))
    syscalls = FaultySyscalls()
    output = ResultOutput(str(path), show_stderr=lambda _: None, syscalls=syscalls)
    output.send(Port.OUTPUT, WriteResult(1, large(4)))
    for turn in range(8):
        syscalls.is_full = turn % 3 == 1
        output._space_wait.retry_at = min(output._space_wait.retry_at, NEVER if turn % 3 != 2 else 0.0)
        output.receive()
    output._space_wait.retry_at, output.deadline = 0.0, 0.0
    syscalls.is_full = False
    run(output)
    assert path.read_bytes() == expected.read_bytes()


def test_large_result_directory_is_written_again_after_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, failing = ResultOutput(OutputFiles(folder=str(tmp_path))), [3]
    original = os.replace

    def replace(*paths: str) -> None:
        failing[0] -= 1
        if failing[0] == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        original(*paths)

    monkeypatch.setattr(os, "replace", replace)
    output.send(Port.OUTPUT, WriteResult(1, large(4)))
    while output.deadline == 0.0:
        output.receive()
    output._space_wait.retry_at = output.deadline = 0.0
    messages, _ = run(output)
    assert Committed("output", 1, sizes=(0, 0, 0, 1)) in messages
    assert (tmp_path / "1" / "4" / "stderr").read_bytes() == STDERR


def test_output_that_fails_does_not_spin(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"), syscalls=FaultySyscalls(2, errno.EIO), show_stderr=lambda _: None)
    messages, _ = run(output, large(4), small(5, b"x"))
    assert [bool(message.failure) for message in messages if isinstance(message, Committed)] == [True]
    output.close()


def shown(stderr: bytes) -> bytes:
    """Return what a terminal shows of a large stderr."""
    pieces: list[bytes] = []
    keep: Callable[[bytes], None] = pieces.append
    output = ResultOutput(os.devnull, show_stderr=keep)
    run(output, large(4, b"", stderr), small(5, b""))
    return b"".join(pieces)


def test_terminal_shows_whole_lines_of_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_text, "SHOWN_STDERR_BYTES", 400)
    head, note, tail = shown(STDERR).partition(b"[pipe: ")
    note, newline, tail = tail.partition(b"\n")
    assert STDERR.startswith(head)
    assert STDERR.endswith(tail)
    assert (head[-1:], newline, tail[:6]) == (b"\n", b"\n", b"error ")
    left_out = len(STDERR) - len(head) - len(tail)
    expected = f"{left_out:,} bytes of stderr are not shown; --results DIR or -o FILE.jsonl keeps all of it]"
    assert note.decode() == expected
    assert shown(b"x" * 1000).startswith(b"x" * 200 + b"\n[pipe: 600 bytes")


def test_terminal_shows_all_of_a_stderr_that_is_not_too_long() -> None:
    assert shown(STDERR) == STDERR


def test_redirected_stderr_has_all_of_it(tmp_path: Path) -> None:
    failure = TaskFailure(4, "exit", 3, "exit 3", "", 0)
    saved = os.dup(2)
    with open(tmp_path / "err", "wb") as file:
        os.dup2(file.fileno(), 2)
    try:
        output = ResultOutput(os.devnull)
        messages, turns = run(output, large(4, b"", STDERR, failure), large(5))
        output.close()
    finally:
        os.dup2(saved, 2)
        os.close(saved)
    assert (tmp_path / "err").read_bytes() == STDERR + b"pipe: task 5: exit 3\n" + STDERR
    assert [message.number for message in messages if isinstance(message, Committed)][-1] == 2
    assert turns > 2
