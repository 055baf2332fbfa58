"""Driver for CallExecutor with real warm processes, and fixtures for its tests."""

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
    """A CallExecutor in a minimal loop, and all its messages."""

    def __init__(self, call: str, init: str = "", slots: int = 2, limits: TaskLimits | None = None) -> None:
        self.executor = CallExecutor(call, init, slots, limits)
        self.messages: list[Message] = []
        self.executor.send(Port.EXECUTOR, RecordFormat())

    def send_records(self, *records: str | bytes, first: int = 0, terminator: bytes = b"\n") -> None:
        """Send these records as one chunk."""
        body = b"".join((record.encode() if isinstance(record, str) else record) + terminator for record in records)
        self.executor.send(Port.EXECUTOR, Chunk("r", 0, 0, first, len(records), body))

    def run_until(self, condition: Callable[[], bool]) -> None:
        """Run the loop until the condition holds."""
        poll = select.poll()
        poll.register(self.executor.pollables()[0], select.POLLIN)  # type: ignore[arg-type]
        end = time.monotonic() + TIMEOUT_SECONDS
        while not condition():
            assert time.monotonic() < end, self.messages
            poll.poll(max(0.0, min(0.05, self.executor.deadline - time.monotonic())) * 1000)
            self.messages += self.executor.receive()

    def run(self, count: int) -> dict[int, bytes]:
        """Run the loop until `count` tasks have finished; return their outputs."""
        self.run_until(lambda: sum(result.count for result in self.finished_messages()) >= count)
        return self.outputs()

    def finished_messages(self) -> list[Result]:
        return [message.result for message in self.messages if isinstance(message, TasksFinished)]

    def seconds(self) -> list[float]:
        return [message.seconds for message in self.messages if isinstance(message, TasksFinished)]

    def outputs(self) -> dict[int, bytes]:
        """Return the output of each task. Fail if a task is reported twice."""
        outputs: dict[int, bytes] = {}
        for result in self.finished_messages():
            ends = struct.unpack(f"<{result.count}I", result.output_ends)
            assert ends[-1] == len(result.output)
            for index, (start, stop) in enumerate(zip((0, *ends), ends, strict=False)):
                assert result.first + index not in outputs
                outputs[result.first + index] = result.output[start:stop]
        return outputs

    def failures(self) -> list[TaskFailure]:
        return sorted(
            (failure for result in self.finished_messages() for failure in result.failures),
            key=lambda failure: failure.task,
        )

    def records(self) -> dict[int, bytes]:
        """Return the records of failed tasks."""
        records: dict[int, bytes] = {}
        for result in self.finished_messages():
            offset = 0
            for failure in result.failures:
                records[failure.task] = result.failed_records[offset : offset + failure.record_size]
                offset += failure.record_size
            assert offset == len(result.failed_records)
        return records

    def stderr(self) -> str:
        return b"".join(result.stderr for result in self.finished_messages()).decode()

    def wait_for_failure(self) -> ExecutorFailed:
        """Run the loop until the executor fails."""
        self.run_until(lambda: any(isinstance(message, ExecutorFailed) for message in self.messages))
        (failure,) = (message for message in self.messages if isinstance(message, ExecutorFailed))
        return failure


StartDriver = Callable[..., CallDriver]


@pytest.fixture
def start() -> Iterator[StartDriver]:
    """Return a function that starts drivers, which are closed at the end."""
    drivers: list[CallDriver] = []

    def make(call: str, init: str = "", slots: int = 2, limits: TaskLimits | None = None) -> CallDriver:
        drivers.append(CallDriver(call, init, slots, limits))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.executor.close()


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], str]:
    """Return a function that writes a module and returns its path."""

    def write(text: str) -> str:
        path = tmp_path / "theirs.py"
        path.write_text("import os, sys, time, signal, pathlib\n" + textwrap.dedent(text))
        return str(path)

    return write
