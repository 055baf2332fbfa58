"""Rows of tasks: the job log, CSV and JSON, with GNU parallel's columns first."""

from __future__ import annotations

import base64
import json
import struct
from typing import TYPE_CHECKING

import pytest

from pipeline.model import records
from pipeline.model.messages import FailureKind, Result, TaskFailure
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.model.structs import replace
from pipeline.output import formats

if TYPE_CHECKING:
    from collections.abc import Iterator

METRICS = TaskMetrics(1795237604.0154, 0.25, 1.9239, 0.5, 4096, 2, 3, b"echo a\necho b", b"a")


def result(*failures: TaskFailure, shape: str = "line", record: bytes = b"a", stdout: bytes = b"out\n") -> Result:
    metrics = encode_metrics(METRICS._replace(record=record))
    ends = struct.pack("<I", len(stdout))
    return Result("r", "here.7.abc", 6, 1, stdout, ends, b"oh\n", failures, 1, b"", metrics, shape)  # type: ignore[arg-type]


def whole(line: bytes | Iterator[bytes]) -> bytes:
    return line if isinstance(line, bytes) else b"".join(line)


def row(*failures: TaskFailure, **changes: str) -> formats.ResultRow:
    (single,) = formats.iter_rows(replace(result(*failures), **changes))  # type: ignore[arg-type]
    return single


@pytest.mark.parametrize(
    ("kind", "code", "exitval", "signal"),
    [
        ("exit", 7, 7, 0),
        ("signal", 9, 0, 9),
        ("timeout", 15, -1, 15),
        ("exception", 0, 1, 0),
        ("size", 0, -1, 0),
        ("lost", 0, -1, 0),
        ("poison", 0, -1, 0),
    ],
)
def test_row_exit_code_and_signal_match_gnu_parallel(kind: FailureKind, code: int, exitval: int, signal: int) -> None:
    failed = row(TaskFailure(6, kind, code, "why", "", 0))
    assert (failed.exit_code, failed.signal) == (exitval, signal)
    assert formats.joblog_line(failed, "here").endswith(f"\t{kind}\n".encode())


def test_joblog_line_of_task_is_exact() -> None:
    line = b"7\t:\t1795237604.015\t     1.924\t0\t4\t0\t0\techo a\0echo b\t2\there.7.abc\t2\t0.250\t4096\t0.500\tok\n"
    assert formats.joblog_line(row(), "here") == line
    assert formats.joblog_line(row(), "elsewhere").split(b"\t")[1] == b"here"
    assert formats.JOBLOG_HEADER.count(b"\t") == line.count(b"\t")


def test_csv_line_quotes_values_with_whitespace() -> None:
    line = whole(formats.csv_line(row(), "here")).decode()
    assert line.startswith('7,:,1795237604.015,1.924,0,4,0,0,"echo a\necho b",a,"out\n","oh\n",2,here.7.abc,')
    (columns,) = formats.iter_rows(result(shape="columns", record=b'["x","y \\"z"]'))
    assert ',x,"y ""z",' in whole(formats.csv_line(columns, "here")).decode()
    assert formats.csv_header(columns).decode().split(",")[9:12] == ["V1", "V2", "Stdout"]


def test_json_line_contains_all_fields() -> None:
    fields = json.loads(whole(formats.json_line(row(TaskFailure(6, "exit", 3, "exit 3", "", 0)))))
    assert fields["number"] == 7
    assert (fields["ok"], fields["exit"], fields["reason"], fields["attempt"]) == (False, 3, "exit", 2)
    assert (fields["stdout"], fields["stderr"], fields["task"], fields["rss"]) == ("out\n", "oh\n", "a", 4096)
    (with_names,) = formats.iter_rows(result(shape="columns", record=b'{"x":"1"}', stdout=b"\xff"))
    fields = json.loads(whole(formats.json_line(with_names)))
    assert fields["arguments"] == {"x": "1"}
    assert base64.b64decode(fields["stdout_base64"]) == b"\xff"


def test_rows_of_any_bytes_are_complete() -> None:
    record, arguments = records.encode_fields([b"caf\xe9", b"\xff,"], [b"\xfe", "ä".encode()]), [b"caf\xe9", b"\xff,"]
    (odd,) = formats.iter_rows(result(shape="columns", record=record, stdout=b"\xff"))
    fields = json.loads(whole(formats.json_line(odd)))
    assert [text.encode(errors="surrogateescape") for text in fields["arguments"].values()] == arguments
    assert [name.encode(errors="surrogateescape") for name in fields["arguments"]] == [b"\xfe", "ä".encode()]
    assert b',"caf\xe9","\xff,",' in formats.csv_line(odd, "here")
    assert base64.b64decode(fields["stdout_base64"]) == b"\xff"
    escaped = row(TaskFailure(6, "exception", 1, "\udce9", "", 0))
    assert json.loads(whole(formats.json_line(escaped)))["text"] == "\udce9"


def test_iter_rows_without_metrics_keeps_failed_record() -> None:
    failure = TaskFailure(6, "poison", 0, "3 workers were lost", "", 4)
    abandoned = Result("r", "ventilator", 6, 1, b"", bytes(4), b"", (failure,), 0, b"task")
    (only,) = formats.iter_rows(abandoned)
    assert (only.record, only.metrics.seconds, only.metrics.command) == (b"task", 0.0, b"")
    assert formats.joblog_line(only, "here").split(b"\t")[:2] == [b"7", b":"]


def test_row_values_of_invalid_columns_is_one_argument() -> None:
    (only,) = formats.iter_rows(result(shape="columns", record=b"no json"))
    assert only.values == [b"no json"]
