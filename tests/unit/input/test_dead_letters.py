"""Dead letters as tasks, in the shape that they had; and other formatters that read from a spool."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.input.dead_letters import DeadLetterReader
from pipeline.input.source import InputSource
from pipeline.input.stdin_spool import StdinSpool
from pipeline.input.task_format import TaskFormat, TaskFormatter
from pipeline.model.events import DiscardBelow, EndOfInput, ReadRequest, RecordsRead
from pipeline.model.state_machine import Port

LINE = b'{"number": 1, "task": "a b"}\n'
COLUMNS = b'{"number": 2, "task": "[\\"a\\",\\"b\\"]", "shape": "columns"}\n'


def test_format_returns_task_of_dead_letter() -> None:
    tasks = DeadLetterReader([]).format(LINE * 2, 1, "f")
    assert (tasks.records, tasks.is_last, tasks.error) == ([b"a b"] * 2, False, "")


def test_record_format_has_shape_of_first_dead_letter(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes(COLUMNS)
    reader = DeadLetterReader([str(path)])
    assert reader.record_format.shape == "columns"
    assert reader.format(COLUMNS, 1, "letters").records == [b'["a","b"]']
    mixed = reader.format(COLUMNS + LINE, 1, "letters")
    assert mixed.records == [b'["a","b"]']
    assert mixed.error.startswith("letters, line 3 contains a task of shape 'line'")


@pytest.mark.parametrize("text", [b"", b"{", b"[]\n", b'{"shape": 7}\n'])
def test_record_format_of_other_file_defaults_to_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "letters").write_bytes(text)
    assert DeadLetterReader([str(tmp_path / "letters")]).record_format.shape == "line"


def read_numbered_records(source: InputSource) -> list[tuple[int, bytes]]:
    """Read all records with their numbers, as a ventilator does."""
    numbered: list[tuple[int, bytes]] = []
    while True:
        source.send(Port.SOURCE, ReadRequest(64))
        answers = [answer for answer in source.receive() if isinstance(answer, RecordsRead | EndOfInput)]
        for answer in answers:
            if isinstance(answer, EndOfInput):
                return numbered
            numbered += list(enumerate(answer.body.split(b"\n")[:-1], start=answer.first))
            source.send(Port.SOURCE, DiscardBelow(answer.first))


@pytest.mark.parametrize(
    "task_format",
    [
        TaskFormat(group_size=3),
        TaskFormat(csv=True, header=True),
        TaskFormat(is_shuffled=True),
        TaskFormat(pack_slots=2),
    ],
)
def test_formatted_tasks_of_reopened_spool_are_the_same(tmp_path: Path, task_format: TaskFormat) -> None:
    text = "".join(f'"{number}\n",{number}\n' if task_format.csv else f"{number}\n" for number in range(500)).encode()
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    first = InputSource.with_format(
        TaskFormatter(task_format, [], zero=False),
        [],
        read,
        StdinSpool(str(tmp_path / "spool"), read, segment_size=100),
    )
    fingerprint, tasks = first.fingerprint, read_numbered_records(first)
    first.close()
    reopened = InputSource.with_format(
        TaskFormatter(task_format, [], zero=False),
        [],
        read,
        StdinSpool(str(tmp_path / "spool"), read, segment_size=100),
    )
    assert (reopened.fingerprint, read_numbered_records(reopened)) == (fingerprint, tasks)
    reopened.close()
    os.close(read)
    assert len(tasks) > 1
