"""DryRunExecutor."""

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


def run_dry(executor: DryRunExecutor, *records: bytes, record_format: RecordFormat | None = None) -> Result:
    executor.send(Port.EXECUTOR, record_format or RecordFormat())
    executor.send(Port.EXECUTOR, Chunk("run", 1, 1, 0, len(records), b"".join(record + b"\n" for record in records)))
    assert executor.deadline == 0.0
    (done,) = executor.receive()
    assert executor.deadline == NEVER
    assert isinstance(done, TasksFinished)
    assert len(struct.unpack(f"<{done.result.count}I", done.result.output_ends)) == len(records)
    return done.result


def test_dry_run_shows_commands_and_runs_none(tmp_path: Path) -> None:
    command = f"touch {tmp_path}/{{}}; echo {{#}}"
    done = run_dry(DryRunExecutor((command,)), b"a", b"b c")
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
def test_dry_run_shows_command_line_or_call(command: tuple[str, ...], call: str, expected: bytes) -> None:
    assert run_dry(DryRunExecutor(command, call), b"a b").output == expected


def test_dry_run_with_stdin_shows_no_record() -> None:
    assert run_dry(DryRunExecutor(("wc -c",), stdin=True), b"a").output == b"wc -c\n"


def test_dry_run_tags_lines() -> None:
    assert run_dry(DryRunExecutor(("echo {}",), "", OutputTag("{#}")), b"a", b"b").output == b"1\techo a\n2\techo b\n"


def test_dry_run_invalid_record_fails() -> None:
    done = run_dry(DryRunExecutor(("echo {x}",)), b'{"x":"a"}', b"{", record_format=RecordFormat(shape="json"))
    assert done.output == b"echo a\n"
    assert [(failure.task, failure.kind) for failure in done.failures] == [(1, "exception")]
    assert done.failed_records == b"{"


def test_dry_run_answers_all_messages() -> None:
    executor = DryRunExecutor(("echo",))
    executor.send(Port.EXECUTOR, Chunk("run", 1, 1, 0, 3, b"a\nb\nc\n"))
    executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
    executor.send(Port.EXECUTOR, ReleaseQueued())
    executor.send(Port.EXECUTOR, QueryActivity())
    assert executor.receive() == [TasksReleased(((1, 3),)), WorkerActivity("", 0.0, 0, ())]
    assert executor.pollables() == []
    executor.close()


def test_dry_run_blank_command_raises() -> None:
    with pytest.raises(UsageError):
        DryRunExecutor(("  ",))
