"""TaskSpawner and start failures."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from pipeline.executor.command_template import RenderedCommand
from pipeline.executor.exec_errors import find_program
from pipeline.executor.spawn import TaskSpawner, create_memfd, os_error_outcome
from pipeline.executor.task_process import TaskAssignment
from pipeline.executor.task_queue import ChunkInfo
from pipeline.model.errors import UsageError
from pipeline.model.messages import RecordFormat, TaskFailure
from pipeline.model.results import decode_metrics

if TYPE_CHECKING:
    from pathlib import Path


def make_assignment(*argv: bytes) -> TaskAssignment:
    record_format = RecordFormat(collect_metrics=True)
    return TaskAssignment(
        4, b"a", 1, RenderedCommand(None, list(argv)), ChunkInfo(0, "run", 10.0), record_format, b"T\t"
    )


def test_find_program_uses_path_unless_slash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "tool"
    tool.touch()
    monkeypatch.setenv("PATH", f"/nowhere:{tmp_path}")
    assert find_program(b"tool") is None  # it is not executable
    tool.chmod(0o700)
    assert find_program(b"tool") == os.fsencode(tool)
    monkeypatch.chdir(tmp_path)
    assert find_program(b"./tool") == b"./tool"
    assert find_program(b"/tool") is None


def test_spawner_missing_program_raises_unless_templated() -> None:
    with pytest.raises(UsageError, match="command not found: no-such-command"):
        TaskSpawner(b"no-such-command")
    TaskSpawner(b"{tool}").close()
    TaskSpawner(None).close()


@pytest.mark.parametrize("size", [0, 3, 1 << 20])
def test_create_memfd_contains_the_record(size: int) -> None:
    with os.fdopen(create_memfd(b"x" * size), "rb") as file:
        assert file.read() == b"x" * size


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (errno.ENOENT, 127, "exit 127: command not found: tool"),
        (errno.EACCES, 126, "exit 126: permission denied: PATH has tool, but not executable"),
    ],
)
def test_os_error_outcome_uses_shell_exit_codes(number: int, code: int, text: str) -> None:
    outcome = os_error_outcome(make_assignment(b"tool", b"a"), OSError(number, os.strerror(number)), 12.5)
    assert outcome.failure == TaskFailure(4, "exit", code, text, text, 1)
    assert (outcome.output, outcome.stderr, outcome.record) == (b"", f"T\t{text}\n".encode(), b"a")
    (metrics,) = decode_metrics(outcome.metrics)
    assert (metrics.queued_seconds, metrics.seconds, metrics.stderr_size) == (2.5, 0.0, len(outcome.stderr))


def test_os_error_outcome_other_error_is_an_exception() -> None:
    outcome = os_error_outcome(make_assignment(b"tool", b"a b"), OSError(errno.EIO, "Input/output error"), 12.5)
    assert outcome.failure == TaskFailure(4, "exception", 1, "Input/output error: tool 'a b'", "", 1)
    assert outcome.stderr == b""
    assert len(list(decode_metrics(outcome.metrics))) == 1


def test_spawner_failed_starts_leave_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    spawner = TaskSpawner(b"true", stdin=True)
    with pytest.raises(FileNotFoundError):
        spawner.start(make_assignment(b"no-such-command"))
    with pytest.raises(OSError, match="a command cannot contain a NUL byte"):
        spawner.start(make_assignment(b"true", b"nul\0"))
    assert not spawner.is_closed
    spawner.close()
    assert spawner.is_closed
    assert os.listdir("/proc/self/fd") == before
