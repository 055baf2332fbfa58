"""Dead letters: a failed task can be read back byte for byte, with the reason of its failure."""

from __future__ import annotations

import json

import pytest

from pipeline.input.dead_letters import parse_dead_letter
from pipeline.model.messages import Result, TaskFailure
from pipeline.output.formats import dead_letter, dead_letters

FAILURE = TaskFailure(6, "signal", 9, "SIGKILL: x", "the end\n\udcff", 4)
RESULT = Result("run", "host.1.a", 4, 5, b"", b"", b"", (FAILURE,), 2, b"task")
TASKS = [
    *(b"", b"plain", b'two words "quoted" \\', "\u00fcml\u00e4ut \u2028 \U0001f600".encode(), b"a\tb\r\x0b\0"),
    *(b"\xff\xfe", bytes(range(256)), b"\xed\xa0\x80", b"two\nlines"),
]


@pytest.mark.parametrize("task", TASKS)
def test_parse_dead_letter_returns_original_task(task: bytes) -> None:
    line = dead_letter(RESULT, FAILURE, task)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert parse_dead_letter(line) == (task, "line")
    assert parse_dead_letter(line[:-1]) == (task, "line")


def test_dead_letter_contains_reason_worker_and_attempts() -> None:
    assert json.loads(dead_letter(RESULT, FAILURE, b"task")) == {
        "number": 7,
        "task": "task",
        "why": "signal",
        "code": 9,
        "reason": "SIGKILL: x",
        "attempts": 3,
        "worker": "host.1.a",
        "stderr": "the end\n\udcff",
    }
    assert json.loads(dead_letter(RESULT, FAILURE, b"\xff"))["task_base64"] == "/w=="


def test_dead_letters_assign_records_to_failed_tasks() -> None:
    failures = (
        TaskFailure(1, "exit", 1, "", "", record_size=3),
        TaskFailure(2, "exit", 1, "", "", 0),
        TaskFailure(4, "exit", 1, "", "", record_size=2),
    )
    lines = dead_letters(Result("run", "w", 0, 5, b"", b"", b"", failures, 0, b"onefo")).splitlines()
    assert [parse_dead_letter(line)[0] for line in lines] == [b"one", b"", b"fo"]
    assert [json.loads(line)["number"] for line in lines] == [2, 3, 5]


@pytest.mark.parametrize(
    "line",
    [b"", b"task", b"[]", b"{}", b'{"task": 1}', b'{"task_base64": "%"}', b'{"task": "\\ud800"}', b"\xff", b"[" * 9999],
)
def test_parse_dead_letter_of_other_line_raises(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the caller adds the line number
        parse_dead_letter(line)
