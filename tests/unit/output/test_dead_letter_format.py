"""Letters: a task that failed can be read again, byte for byte, and what is said of it is true."""

from __future__ import annotations

import json

import pytest

from pipeline.model.messages import Result, TaskFailure
from pipeline.output.formats import dead_letter, dead_letters, parse_dead_letter

NOTE = TaskFailure(6, "signal", 9, "SIGKILL: x", "the end\n\udcff", 4)
RESULT = Result("run", "host.1.a", 4, 5, b"", b"", b"", (NOTE,), 2, b"task")
TASKS = [
    *(b"", b"plain", b'two words "quoted" \\', "\u00fcml\u00e4ut \u2028 \U0001f600".encode(), b"a\tb\r\x0b\0"),
    *(b"\xff\xfe", bytes(range(256)), b"\xed\xa0\x80", b"two\nlines"),
]


@pytest.mark.parametrize("task", TASKS)
def test_a_task_comes_back_as_it_was(task: bytes) -> None:
    line = dead_letter(RESULT, NOTE, task)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse_dead_letter(line) == (task, "line")
    assert parse_dead_letter(line[:-1]) == (task, "line")


def test_a_letter_says_who_and_why_and_how_often() -> None:
    assert json.loads(dead_letter(RESULT, NOTE, b"task")) == {
        "number": 7,
        "task": "task",
        "why": "signal",
        "code": 9,
        "reason": "SIGKILL: x",
        "attempts": 3,
        "worker": "host.1.a",
        "stderr": "the end\n?",
    }
    assert json.loads(dead_letter(RESULT, NOTE, b"\xff"))["task_base64"] == "/w=="


def test_each_failed_task_of_a_result_has_its_own_record() -> None:
    notes = (
        TaskFailure(1, "exit", 1, "", "", record_size=3),
        TaskFailure(2, "exit", 1, "", "", 0),
        TaskFailure(4, "exit", 1, "", "", record_size=2),
    )
    lines = dead_letters(Result("run", "w", 0, 5, b"", b"", b"", notes, 0, b"onefo")).splitlines()
    assert [parse_dead_letter(line)[0] for line in lines] == [b"one", b"", b"fo"]
    assert [json.loads(line)["number"] for line in lines] == [2, 3, 5]


@pytest.mark.parametrize(
    "line",
    [b"", b"task", b"[]", b"{}", b'{"task": 1}', b'{"task_base64": "%"}', b'{"task": "\\ud800"}', b"\xff", b"[" * 9999],
)
def test_what_is_no_letter_is_refused(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the line is named by who reads it
        parse_dead_letter(line)
