"""From a task to its process: what is found, what a shell would say of what is not, and what is let go of."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from pipeline.executor.command_template import RenderedCommand
from pipeline.executor.spawn import TaskSpawner, create_memfd, find_program, os_error_outcome
from pipeline.executor.task_process import TaskAssignment
from pipeline.executor.task_queue import ChunkInfo
from pipeline.model.errors import UsageError
from pipeline.model.messages import RecordFormat, TaskFailure
from pipeline.model.results import decode_metrics

if TYPE_CHECKING:
    from pathlib import Path


def given(*argv: bytes) -> TaskAssignment:
    recipe = RecordFormat(collect_metrics=True)
    return TaskAssignment(4, b"a", 1, RenderedCommand(None, list(argv)), ChunkInfo(0, "run", 10.0), recipe, b"T\t")


def test_programs_are_found_by_path_unless_they_have_a_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.touch()
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert find_program(b"tool") is None  # it can't be executed
    tool.chmod(0o700)
    assert find_program(b"tool") == os.fsencode(tool)
    monkeypatch.chdir(tmp_path)
    assert find_program(b"./tool") == b"./tool"
    assert find_program(b"/tool") is None


def test_who_names_what_is_not_there_is_told_unless_the_task_will_name_it() -> None:
    with pytest.raises(UsageError, match="command not found: no-such-command"):
        TaskSpawner(b"no-such-command")
    TaskSpawner(b"{tool}").close()
    TaskSpawner(None).close()


@pytest.mark.parametrize("size", [0, 3, 1 << 20])
def test_a_file_holds_the_task(size: int) -> None:
    with os.fdopen(create_memfd(b"x" * size), "rb") as file:
        assert file.read() == b"x" * size


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (errno.ENOENT, 127, "exit 127: command not found: tool"),
        (errno.EACCES, 126, "exit 126: Permission denied: tool"),
    ],
)
def test_who_can_not_be_started_fails_as_in_a_shell(number: int, code: int, text: str) -> None:
    outcome = os_error_outcome(given(b"tool", b"a"), OSError(number, os.strerror(number)), 12.5)
    assert outcome.failure == TaskFailure(4, "exit", code, text, text, 1)
    assert (outcome.output, outcome.stderr, outcome.record) == (b"", f"T\t{text}\n".encode(), b"a")
    (account,) = decode_metrics(outcome.metrics)
    assert (account.queued_seconds, account.seconds, account.stderr_size) == (2.5, 0.0, len(outcome.stderr))


def test_who_can_not_be_started_otherwise_fails_with_the_reason() -> None:
    outcome = os_error_outcome(given(b"tool", b"a b"), OSError(errno.E2BIG, "Argument list too long"), 12.5)
    assert outcome.failure == TaskFailure(4, "exception", 1, "Argument list too long: tool 'a b'", "", 1)
    assert outcome.stderr == b""
    assert len(list(decode_metrics(outcome.metrics))) == 1


def test_nothing_is_left_open() -> None:
    before = os.listdir("/proc/self/fd")
    spawner = TaskSpawner(b"true", stdin=True)
    with pytest.raises(FileNotFoundError):
        spawner.start(given(b"no-such-command"))
    with pytest.raises(OSError, match="a command can't hold a NUL byte"):
        spawner.start(given(b"true", b"nul\0"))
    assert not spawner.is_closed
    spawner.close()
    assert spawner.is_closed
    assert os.listdir("/proc/self/fd") == before
