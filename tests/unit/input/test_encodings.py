"""Byte-order marks are no part of columns or JSON; UTF-16 and UTF-32 are refused; other bytes stay as they are."""

from __future__ import annotations

import os
from codecs import BOM_UTF8
from typing import TYPE_CHECKING

import pytest

from pipeline.input.dead_letters import DeadLetterReader
from pipeline.input.source import InputSource
from pipeline.input.stdin_spool import StdinSpool
from pipeline.input.task_format import TaskFormat, TaskFormatter
from pipeline.model.errors import UsageError
from pipeline.model.events import DiscardBelow, EndOfInput, RecordsRead
from pipeline.model.messages import RecordFormat
from pipeline.model.records import ArgumentSource
from pipeline.model.state_machine import Port
from tests.unit.input.test_source import ask, read_all

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CSV = TaskFormat(csv=True, header=True)
JSON = TaskFormat(json=True)
TEXT = "ä,b\n1,2\n"


def formatted(
    task_format: TaskFormat, files: Sequence[str], stdin: int = 0, spool: StdinSpool | None = None
) -> InputSource:
    formatter = TaskFormatter(task_format, [], zero=False, is_resumed=bool(spool and spool.first))
    return InputSource.with_format(formatter, files, stdin, spool)


def content(source: InputSource) -> bytes:
    return b"".join(batch.body for batch in read_all(source)[0])


def write_files(folder: Path, *contents: bytes) -> list[str]:
    for number, data in enumerate(contents):
        (folder / f"f{number}").write_bytes(data)
    return [str(folder / f"f{number}") for number in range(len(contents))]


@pytest.mark.parametrize(
    ("task_format", "text"),
    [
        (CSV, b'"a,b",c\n1,2\n'),
        (TaskFormat(csv=True), b'"a,b",c\n'),
        (TaskFormat(header=True), b"name\nx\n"),
        (TaskFormat(colsep=","), b"a,b\n"),
        (TaskFormat(colsep=",", group_size=2), b"a,b\nc,d\n"),
        (TaskFormat(colsep=",", pack_slots=2), b"a,b\nc,d\n"),
        (TaskFormat(colsep=",", is_shuffled=True), b"a,b\nc,d\n"),
        (JSON, b'{"a":1}\n2\n'),
    ],
)
def test_byte_order_mark_of_each_file_is_removed(
    tmp_path: Path, pipe: tuple[int, int], task_format: TaskFormat, text: bytes
) -> None:
    files = write_files(tmp_path, text, text)
    expected = content(formatted(task_format, files))
    fingerprint = formatted(task_format, files).fingerprint
    write_files(tmp_path, BOM_UTF8 + text, BOM_UTF8 + text)
    assert content(formatted(task_format, files)) == expected
    assert formatted(task_format, files).fingerprint.partition(":")[0] == fingerprint.partition(":")[0]
    os.write(pipe[1], BOM_UTF8 + text)
    os.close(pipe[1])
    assert content(formatted(task_format, ["-", files[1]], pipe[0])) == expected


def test_byte_order_mark_of_argument_files_and_dead_letters_is_removed(tmp_path: Path) -> None:
    files = write_files(tmp_path, BOM_UTF8 + b"x\n1\n", BOM_UTF8 + b'{"task":"a","shape":"json"}\n')
    formatter = TaskFormatter(TaskFormat(header=True), [ArgumentSource("::::", (files[0],))], zero=False)
    assert content(InputSource.with_format(formatter, [])) == b'{"x":"1"}\n'
    letters = DeadLetterReader(files[1:])
    assert letters.record_format.shape == "json"
    assert content(InputSource.with_format(letters, files[1:])) == b"a\0"


@pytest.mark.parametrize("data", [BOM_UTF8 + b"a\n", b"\xff\xfe\n", b"\xff\xfe,\xfe\xff\n", b"a\0b\n"])
def test_bytes_of_plain_lines_are_unchanged(tmp_path: Path, data: bytes) -> None:
    source = InputSource(RecordFormat(), write_files(tmp_path, data), None, None)
    source.check_encodings()
    assert content(source) == data


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_wide_text_is_refused_with_a_way_to_convert_it(tmp_path: Path, pipe: tuple[int, int], encoding: str) -> None:
    wide = TEXT.encode(encoding)
    files = write_files(tmp_path, b"a,b\n", wide)
    for source in (InputSource(RecordFormat(), files, None, None), formatted(CSV, files)):
        with pytest.raises(UsageError, match=rf"f1 is encoded in {encoding.upper()}") as caught:
            source.check_encodings()
        assert f"iconv -f {encoding.upper()}" in caught.value.hint
    with pytest.raises(UsageError, match="f1 is encoded in"):
        TaskFormatter(TaskFormat(source_count=2), [ArgumentSource("::::", tuple(files))], zero=False)
    os.write(pipe[1], wide)
    source = formatted(CSV, [], pipe[0])
    source.check_encodings()
    end = ask(source)
    assert isinstance(end, EndOfInput)
    assert end.reason.startswith("stdin is encoded in")
    assert "iconv" in end.reason


def test_bytes_like_wide_text_are_no_text_without_lines(tmp_path: Path) -> None:
    files = write_files(tmp_path, b"\xff\xfe,a\0b\0")
    columns = TaskFormatter(TaskFormat(colsep=","), [], zero=True)
    for source in (
        InputSource(RecordFormat(zero=True), files, None, None),
        InputSource(RecordFormat(), files, None, 100),
        InputSource.with_format(columns, files),
    ):
        source.check_encodings()
        assert content(source)


def test_spool_with_byte_order_mark_resumes_at_a_record(tmp_path: Path, pipe: tuple[int, int]) -> None:
    os.write(pipe[1], BOM_UTF8 + b"".join(b"%d\n" % number for number in range(1000)))
    os.close(pipe[1])
    source = formatted(JSON, [], pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000))
    while isinstance(answer := ask(source, 100), RecordsRead) and answer.first < 500:
        assert answer.body.startswith(b"%d\n" % answer.first)
    source.send(Port.SOURCE, DiscardBelow(500))
    source.close()
    source = formatted(JSON, [], pipe[0], StdinSpool(str(tmp_path / "spool"), pipe[0], segment_size=1000))
    answer = ask(source, 100)
    assert isinstance(answer, RecordsRead)
    assert 0 < answer.first <= 500
    assert answer.body.startswith(b"%d\n" % answer.first)


def test_column_separator_of_any_locale_splits() -> None:
    text, separator = "aäb\n".encode(), os.fsdecode("ä".encode())
    assert TaskFormatter(TaskFormat(colsep=separator), [], zero=False).format(text, 1, "f").records == [b'["a","b"]']
