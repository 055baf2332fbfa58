"""--dry-run: the commands as they would be run, and nothing is."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import pytest

from pipeline.executor.command_executor import DryRunExecutor
from pipeline.executor.command_template import OutputTag
from pipeline.model.errors import UsageError
from pipeline.model.events import CancelTasks, QueryActivity, ReleaseQueued, TasksFinished, TasksReleased
from pipeline.model.messages import Chunk, RecordFormat, Result, WorkerActivity
from pipeline.model.state_machine import NEVER, Port

if TYPE_CHECKING:
    from pathlib import Path


def shown(rehearsal: DryRunExecutor, *records: bytes, recipe: RecordFormat | None = None) -> Result:
    rehearsal.send(Port.EXECUTOR, recipe or RecordFormat())
    rehearsal.send(Port.EXECUTOR, Chunk("run", 1, 1, 0, len(records), b"".join(record + b"\n" for record in records)))
    assert rehearsal.deadline == 0.0
    (done,) = rehearsal.receive()
    assert rehearsal.deadline == NEVER
    assert isinstance(done, TasksFinished)
    assert len(struct.unpack(f"<{done.result.count}I", done.result.output_ends)) == len(records)
    return done.result


def test_commands_are_shown_and_not_run(tmp_path: Path) -> None:
    command = f"touch {tmp_path}/{{}}; echo {{#}}"
    done = shown(DryRunExecutor((command,)), b"a", b"b c")
    assert done.output.decode() == f"touch {tmp_path}/a; echo 1\ntouch {tmp_path}/'b c'; echo 2\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "call", "expected"),
    [
        (("echo", "{}", "x"), "", b"echo 'a b' x\n"),
        (("echo {1}{2}",), "", b"echo 'a b'\n"),
        ((), "", b"a b\n"),
        ((), "words.py:length", b"words.py:length('a b')\n"),
    ],
)
def test_each_as_it_would_be_run(command: tuple[str, ...], call: str, expected: bytes) -> None:
    assert shown(DryRunExecutor(command, call), b"a b").output == expected


def test_what_is_told_on_stdin_is_not_part_of_a_command() -> None:
    assert shown(DryRunExecutor(("wc -c",), stdin=True), b"a").output == b"wc -c\n"


def test_lines_are_tagged_as_they_would_be() -> None:
    assert shown(DryRunExecutor(("echo {}",), "", OutputTag("{#}")), b"a", b"b").output == b"1\techo a\n2\techo b\n"


def test_a_record_that_does_not_fit_fails() -> None:
    done = shown(DryRunExecutor(("echo {x}",)), b'{"x":"a"}', b"{", recipe=RecordFormat(shape="json"))
    assert done.output == b"echo a\n"
    assert [(note.task, note.kind) for note in done.failures] == [(1, "exception")]
    assert done.failed_records == b"{"


def test_it_answers_as_an_executor_does() -> None:
    rehearsal = DryRunExecutor(("echo",))
    rehearsal.send(Port.EXECUTOR, Chunk("run", 1, 1, 0, 3, b"a\nb\nc\n"))
    rehearsal.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
    rehearsal.send(Port.EXECUTOR, ReleaseQueued())
    rehearsal.send(Port.EXECUTOR, QueryActivity())
    assert rehearsal.receive() == [TasksReleased(((1, 3),)), WorkerActivity("", 0.0, 0, ())]
    assert rehearsal.pollables() == []
    rehearsal.close()


def test_what_is_written_wrong_is_told_at_once() -> None:
    with pytest.raises(UsageError):
        DryRunExecutor(("  ",))
