"""Several destinations: each result is written to all that need it, and a resumed file is truncated."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from pipeline.model.errors import UsageError
from pipeline.model.events import Committed, WriteLines, WriteResult
from pipeline.model.messages import Result, TaskFailure
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.model.state_machine import Port
from pipeline.output.output import OutputFiles, ResultOutput
from pipeline.output.result_folders import FolderDestination


def result(task: int, record: bytes, stdout: bytes, *failures: TaskFailure, shape: str = "line") -> Result:
    metrics = encode_metrics(TaskMetrics(1.0, 0.0, 1.0, 0.0, 0, 1, 0, b"c", record))
    ends = struct.pack("<I", len(stdout))
    return Result("r", "h.1.a", task, 1, stdout, ends, b"", failures, 0, b"", metrics, shape)  # type: ignore[arg-type]


def write_all(output: ResultOutput, *messages: WriteResult | WriteLines) -> tuple[int, ...]:
    """Write these, and return the committed sizes."""
    for message in messages:
        output.send(Port.OUTPUT, message)
    (committed,) = [answer for answer in output.receive() if isinstance(answer, Committed)]
    assert not committed.failure
    return committed.sizes


def test_retried_attempt_is_written_to_joblog_only(tmp_path: Path) -> None:
    out, failed_path, joblog, folders = (str(tmp_path / name) for name in ("out", "failed", "log", "folders"))
    output = ResultOutput(OutputFiles(out, failed_path, joblog, folders))
    failed = result(0, b"a", b"first\n", TaskFailure(0, "exit", 1, "", "", 0))
    write_all(output, WriteResult(1, failed, is_retried=True))
    assert (tmp_path / "out").read_bytes() == b""
    assert (tmp_path / "failed").read_bytes() == b""
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    assert list((tmp_path / "folders").iterdir()) == []
    sizes = write_all(output, WriteResult(2, result(0, b"a", b"second\n")))
    assert (tmp_path / "out").read_bytes() == b"second\n"
    assert (tmp_path / "folders" / "1" / "a" / "stdout").read_bytes() == b"second\n"
    assert sizes[0] == 7
    assert sizes[2] == (tmp_path / "log").stat().st_size
    output.close()


def test_resumed_files_are_truncated_and_keep_one_header(tmp_path: Path) -> None:
    files = OutputFiles(str(tmp_path / "out.csv"), joblog=str(tmp_path / "log"))
    first = ResultOutput(files)
    sizes = write_all(first, WriteResult(1, result(0, b"a", b"1\n")))
    write_all(first, WriteResult(2, result(1, b"b", b"2\n")))
    first.close()
    resumed = ResultOutput(files, sizes=sizes)
    write_all(resumed, WriteResult(1, result(2, b"c", b"3\n")))
    resumed.close()
    assert [line.split("\t")[0] for line in (tmp_path / "log").read_text().splitlines()] == ["Seq", "1", "3"]
    text = (tmp_path / "out.csv").read_text()
    assert text.count("Seq,") == 1
    assert "\n1,h," in text
    assert "\n2," not in text


def test_streamed_lines_are_not_repeated_in_result(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"))
    whole = Result("r", "w", 4, 2, b"a\nb\nc\n", struct.pack("<2I", 2, 6), b"", ())
    output.send(Port.OUTPUT, WriteLines(b"b\n"))
    assert output.receive() == []
    assert (tmp_path / "out").read_bytes() == b"b\n"
    write_all(output, WriteResult(1, whole, streamed_sizes=((5, 2),)))
    assert (tmp_path / "out").read_bytes() == b"b\na\nc\n"
    output.close()


@pytest.mark.parametrize(
    ("record", "shape", "subdirectory"),
    [
        (b"a/b", "line", "1/a\\_b"),
        (b"a\\b\tc\nd", "line", "1/a\\\\b\\tc\\nd"),
        (b'["x","y"]', "columns", "1/x/2/y"),
        (b'{"k/":"v"}', "columns", "k\\_/v"),
        (b"z" * 300, "line", f"1/{'z' * 255}"),
        (b"", "line", "1/\\e"),
        (b".", "line", "1/\\."),
        (b'{"..":".."}', "columns", "\\../\\.."),
        (b'{"b":"1","10":"2","9":"3","a":"4"}', "columns", "a/4/b/1/9/3/10/2"),
    ],
)
def test_folder_destination_escapes_arguments(tmp_path: Path, record: bytes, shape: str, subdirectory: str) -> None:
    folders = FolderDestination(str(tmp_path / "dir"))
    folders.open()
    folders.write(WriteResult(1, result(0, record, b"out", shape=shape)))
    folders.flush()
    assert (tmp_path / "dir" / subdirectory / "stdout").read_bytes() == b"out"
    assert (tmp_path / "dir" / subdirectory / "seq").read_bytes() == b"1"
    assert folders.written_size == folders.queued_size == 1


def test_folder_destination_at_a_file_raises(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a directory"):
        FolderDestination(str(tmp_path / "file"))
