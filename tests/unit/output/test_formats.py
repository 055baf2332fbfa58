"""What is written of each task: GNU parallel's columns as it writes them, ours behind, and nothing invented."""

from __future__ import annotations

import base64
import json
import struct

import pytest

from pipeline.model.messages import FailureKind, Result, TaskFailure
from pipeline.model.results import TaskMetrics, encode_metrics
from pipeline.model.structs import replace
from pipeline.output import formats

ACCOUNT = TaskMetrics(1795237604.0154, 0.25, 1.9239, 0.5, 4096, 2, 3, b"echo a\necho b", b"a")


def result(*notes: TaskFailure, shape: str = "line", record: bytes = b"a", stdout: bytes = b"out\n") -> Result:
    told = encode_metrics(ACCOUNT._replace(record=record))
    ends = struct.pack("<I", len(stdout))
    return Result("r", "here.7.abc", 6, 1, stdout, ends, b"oh\n", notes, 1, b"", told, shape)  # type: ignore[arg-type]


def row(*notes: TaskFailure, **more: str) -> formats.ResultRow:
    (found,) = formats.iter_rows(replace(result(*notes), **more))  # type: ignore[arg-type]
    return found


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
def test_how_it_ended_is_told_as_gnu_parallel_does(kind: FailureKind, code: int, exitval: int, signal: int) -> None:
    told = row(TaskFailure(6, kind, code, "why", "", 0))
    assert (told.exit_code, told.signal) == (exitval, signal)
    assert formats.joblog_line(told, "here").endswith(f"\t{kind}\n".encode())


def test_a_line_of_the_log_byte_for_byte() -> None:
    line = b"7\t:\t1795237604.015\t     1.924\t0\t4\t0\t0\techo a\0echo b\t2\there.7.abc\t2\t0.250\t4096\t0.500\tok\n"
    assert formats.joblog_line(row(), "here") == line
    assert formats.joblog_line(row(), "elsewhere").split(b"\t")[1] == b"here"
    assert formats.JOBLOG_HEADER.count(b"\t") == line.count(b"\t")


def test_a_line_of_csv_quotes_what_has_blanks() -> None:
    told = formats.csv_line(row(), "here").decode()
    assert told.startswith('7,:,1795237604.015,1.924,0,4,0,0,"echo a\necho b",a,"out\n","oh\n",2,here.7.abc,')
    (columns,) = formats.iter_rows(result(shape="columns", record=b'["x","y \\"z"]'))
    assert ',x,"y ""z",' in formats.csv_line(columns, "here").decode()
    assert formats.csv_header(columns).decode().split(",")[9:12] == ["V1", "V2", "Stdout"]


def test_json_says_all_of_it() -> None:
    told = json.loads(formats.json_line(row(TaskFailure(6, "exit", 3, "exit 3", "", 0))))
    assert told["number"] == 7
    assert (told["ok"], told["exit"], told["reason"], told["attempt"]) == (False, 3, "exit", 2)
    assert (told["stdout"], told["stderr"], told["task"], told["rss"]) == ("out\n", "oh\n", "a", 4096)
    (named,) = formats.iter_rows(result(shape="columns", record=b'{"x":"1"}', stdout=b"\xff"))
    told = json.loads(formats.json_line(named))
    assert told["arguments"] == {"x": "1"}
    assert base64.b64decode(told["stdout_base64"]) == b"\xff"


def test_without_an_account_there_is_a_row_all_the_same() -> None:
    note = TaskFailure(6, "poison", 0, "3 workers were lost", "", 4)
    judged = Result("r", "ventilator", 6, 1, b"", bytes(4), b"", (note,), 0, b"task")
    (told,) = formats.iter_rows(judged)
    assert (told.record, told.metrics.seconds, told.metrics.command) == (b"task", 0.0, b"")
    assert formats.joblog_line(told, "here").split(b"\t")[:2] == [b"7", b":"]


def test_a_record_that_is_no_columns_is_one_argument() -> None:
    (told,) = formats.iter_rows(result(shape="columns", record=b"no json"))
    assert told.values == [b"no json"]
