"""Dead letters as tasks: in the shape that they had, and named when they are none."""

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


def test_a_letter_is_a_task_again() -> None:
    formed = DeadLetterReader([]).format(LINE * 2, 1, "f")
    assert (formed.records, formed.is_last, formed.error) == ([b"a b"] * 2, False, "")


def test_the_first_letter_says_the_shape(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    path.write_bytes(COLUMNS)
    letters = DeadLetterReader([str(path)])
    assert letters.record_format.shape == "columns"
    assert letters.format(COLUMNS, 1, "letters").records == [b'["a","b"]']
    mixed = letters.format(COLUMNS + LINE, 1, "letters")
    assert mixed.records == [b'["a","b"]']
    assert mixed.error.startswith("letters, line 3 contains a task of shape 'line'")


@pytest.mark.parametrize("text", [b"", b"{", b"[]\n", b'{"shape": 7}\n'])
def test_a_file_that_begins_otherwise_is_looked_at_later(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "letters").write_bytes(text)
    assert DeadLetterReader([str(tmp_path / "letters")]).record_format.shape == "line"


def drained(source: InputSource) -> list[tuple[int, bytes]]:
    """All records with their numbers, as a ventilator would get them."""
    found: list[tuple[int, bytes]] = []
    while True:
        source.send(Port.SOURCE, ReadRequest(64))
        answers = [answer for answer in source.receive() if isinstance(answer, RecordsRead | EndOfInput)]
        for answer in answers:
            if isinstance(answer, EndOfInput):
                return found
            found += list(enumerate(answer.body.split(b"\n")[:-1], start=answer.first))
            source.send(Port.SOURCE, DiscardBelow(answer.first))


@pytest.mark.parametrize(
    "form",
    [
        TaskFormat(group_size=3),
        TaskFormat(csv=True, header=True),
        TaskFormat(is_shuffled=True),
        TaskFormat(pack_slots=2),
    ],
)
def test_what_is_formed_of_a_spool_is_formed_again_by_who_comes_back(tmp_path: Path, form: TaskFormat) -> None:
    text = "".join(f'"{number}\n",{number}\n' if form.csv else f"{number}\n" for number in range(500)).encode()
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    first = InputSource.with_format(
        TaskFormatter(form, [], zero=False), [], read, StdinSpool(str(tmp_path / "spool"), read, segment_size=100)
    )
    name, tasks = first.fingerprint, drained(first)
    first.close()
    again = InputSource.with_format(
        TaskFormatter(form, [], zero=False), [], read, StdinSpool(str(tmp_path / "spool"), read, segment_size=100)
    )
    assert (again.fingerprint, drained(again)) == (name, tasks)
    again.close()
    os.close(read)
    assert len(tasks) > 1
