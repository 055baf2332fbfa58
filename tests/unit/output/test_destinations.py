"""Several files at once: each Write stands in all that want it, and what is gone on with is cut back in each."""

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


def result(task: int, record: bytes, stdout: bytes, *notes: TaskFailure, shape: str = "line") -> Result:
    account = encode_metrics(TaskMetrics(1.0, 0.0, 1.0, 0.0, 0, 1, 0, b"c", record))
    ends = struct.pack("<I", len(stdout))
    return Result("r", "h.1.a", task, 1, stdout, ends, b"", notes, 0, b"", account, shape)  # type: ignore[arg-type]


def written(output: ResultOutput, *words: WriteResult | WriteLines) -> tuple[int, ...]:
    """The sizes when all of these are out."""
    for word in words:
        output.send(Port.OUTPUT, word)
    (told,) = [answer for answer in output.receive() if isinstance(answer, Committed)]
    assert not told.failure
    return told.sizes


def test_a_try_has_a_row_in_the_log_and_nowhere_else(tmp_path: Path) -> None:
    out, letters, log, folders = (str(tmp_path / name) for name in ("out", "failed", "log", "folders"))
    output = ResultOutput(OutputFiles(out, letters, log, folders))
    failed = result(0, b"a", b"first\n", TaskFailure(0, "exit", 1, "", "", 0))
    written(output, WriteResult(1, failed, is_retried=True))
    assert (tmp_path / "out").read_bytes() == b""
    assert (tmp_path / "failed").read_bytes() == b""
    assert len((tmp_path / "log").read_text().splitlines()) == 2
    assert list((tmp_path / "folders").iterdir()) == []
    sizes = written(output, WriteResult(2, result(0, b"a", b"second\n")))
    assert (tmp_path / "out").read_bytes() == b"second\n"
    assert (tmp_path / "folders" / "1" / "a" / "stdout").read_bytes() == b"second\n"
    assert sizes[0] == 7
    assert sizes[2] == (tmp_path / "log").stat().st_size
    output.close()


def test_what_is_gone_on_with_is_cut_back_and_has_one_head(tmp_path: Path) -> None:
    files = OutputFiles(str(tmp_path / "out.csv"), joblog=str(tmp_path / "log"))
    first = ResultOutput(files)
    sizes = written(first, WriteResult(1, result(0, b"a", b"1\n")))
    written(first, WriteResult(2, result(1, b"b", b"2\n")))
    first.close()
    again = ResultOutput(files, sizes=sizes)
    written(again, WriteResult(1, result(2, b"c", b"3\n")))
    again.close()
    assert [line.split("\t")[0] for line in (tmp_path / "log").read_text().splitlines()] == ["Seq", "1", "3"]
    text = (tmp_path / "out.csv").read_text()
    assert text.count("Seq,") == 1
    assert "\n1,h," in text
    assert "\n2," not in text


def test_shown_lines_are_written_at_once_and_left_out_of_the_result(tmp_path: Path) -> None:
    output = ResultOutput(str(tmp_path / "out"))
    whole = Result("r", "w", 4, 2, b"a\nb\nc\n", struct.pack("<2I", 2, 6), b"", ())
    output.send(Port.OUTPUT, WriteLines(b"b\n"))
    assert output.receive() == []
    assert (tmp_path / "out").read_bytes() == b"b\n"
    written(output, WriteResult(1, whole, streamed_sizes=((5, 2),)))
    assert (tmp_path / "out").read_bytes() == b"b\na\nc\n"
    output.close()


@pytest.mark.parametrize(
    ("record", "shape", "place"),
    [
        (b"a/b", "line", "1/a\\_b"),
        (b"a\\b\tc\nd", "line", "1/a\\\\b\\tc\\nd"),
        (b'["x","y"]', "columns", "1/x/2/y"),
        (b'{"k/":"v"}', "columns", "k\\_/v"),
        (b"z" * 300, "line", f"1/{'z' * 255}/{'z' * 45}"),
        (b"", "line", "1"),
    ],
)
def test_a_folder_is_named_after_its_task(tmp_path: Path, record: bytes, shape: str, place: str) -> None:
    folders = FolderDestination(str(tmp_path / "dir"))
    folders.open()
    folders.write(WriteResult(1, result(0, record, b"out", shape=shape)))
    folders.flush()
    assert (tmp_path / "dir" / place / "stdout").read_bytes() == b"out"
    assert (tmp_path / "dir" / place / "seq").read_bytes() == b"1"
    assert folders.written_size == folders.queued_size == 1


def test_results_go_into_no_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="not a directory"):
        FolderDestination(str(tmp_path / "file"))
