"""An executor of callables, driven as the loop drives it, with real children; fixtures for its tests."""

from __future__ import annotations

import select
import struct
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.executor.call_executor import CallExecutor
from pipeline.executor.limits import TaskLimits
from pipeline.model.events import ExecutorFailed, TasksFinished
from pipeline.model.messages import Chunk, RecordFormat, Result, TaskFailure
from pipeline.model.state_machine import Message, Port

TIMEOUT_SECONDS = 20.0


class CallDriver:
    """An edge in a loop, and all that it has said."""

    def __init__(self, call: str, init: str = "", slots: int = 2, limits: TaskLimits | None = None) -> None:
        self.executor = CallExecutor(call, init, slots, limits)
        self.messages: list[Message] = []
        self.executor.send(Port.EXECUTOR, RecordFormat())

    def send_records(self, *records: str | bytes, first: int = 0, terminator: bytes = b"\n") -> None:
        """Send these records as one chunk."""
        body = b"".join((record.encode() if isinstance(record, str) else record) + terminator for record in records)
        self.executor.send(Port.EXECUTOR, Chunk("r", 0, 0, first, len(records), body))

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Drive the edge until the condition holds."""
        poll = select.poll()
        poll.register(self.executor.pollables()[0], select.POLLIN)  # type: ignore[arg-type]
        end = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < end, self.messages
            poll.poll(max(0.0, min(0.05, self.executor.deadline - time.monotonic())) * 1000)
            self.messages += self.executor.receive()

    def run(self, count: int) -> dict[int, bytes]:
        """Drive until `count` tasks are done; their outputs."""
        self.run_until(lambda: sum(done.count for done in self.finished_messages()) >= count)
        return self.outputs()

    def finished_messages(self) -> list[Result]:
        return [message.result for message in self.messages if isinstance(message, TasksFinished)]

    def seconds(self) -> list[float]:
        return [message.seconds for message in self.messages if isinstance(message, TasksFinished)]

    def outputs(self) -> dict[int, bytes]:
        """Each task's output; every task at most once."""
        found: dict[int, bytes] = {}
        for done in self.finished_messages():
            ends = struct.unpack(f"<{done.count}I", done.output_ends)
            assert ends[-1] == len(done.output)
            for index, (start, stop) in enumerate(zip((0, *ends), ends, strict=False)):
                assert done.first + index not in found
                found[done.first + index] = done.output[start:stop]
        return found

    def failures(self) -> list[TaskFailure]:
        return sorted((note for done in self.finished_messages() for note in done.failures), key=lambda note: note.task)

    def records(self) -> dict[int, bytes]:
        """The records of the failed, by their numbers."""
        found: dict[int, bytes] = {}
        for done in self.finished_messages():
            at = 0
            for note in done.failures:
                found[note.task] = done.failed_records[at : at + note.record_size]
                at += note.record_size
            assert at == len(done.failed_records)
        return found

    def stderr(self) -> str:
        return b"".join(done.stderr for done in self.finished_messages()).decode()

    def wait_for_failure(self) -> ExecutorFailed:
        """Drive until it breaks."""
        self.run_until(lambda: any(isinstance(message, ExecutorFailed) for message in self.messages))
        (broken,) = (message for message in self.messages if isinstance(message, ExecutorFailed))
        return broken


StartDriver = Callable[..., CallDriver]


@pytest.fixture
def start() -> Iterator[StartDriver]:
    """Drivers, closed at the end."""
    drivers: list[CallDriver] = []

    def make(call: str, init: str = "", slots: int = 2, limits: TaskLimits | None = None) -> CallDriver:
        drivers.append(CallDriver(call, init, slots, limits))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.executor.close()


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], str]:
    """Writes a module, answers its file's name."""

    def write(text: str) -> str:
        path = tmp_path / "theirs.py"
        path.write_text("import os, sys, time, signal, pathlib\n" + textwrap.dedent(text))
        return str(path)

    return write


def is_gone(pid: int) -> bool:
    """Whether no such process runs any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
