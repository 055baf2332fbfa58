"""Driver for CommandExecutor with real processes."""

from __future__ import annotations

import contextlib
import select
import struct
import time
from typing import TYPE_CHECKING

from pipeline.executor.command_executor import CommandExecutor
from pipeline.executor.command_template import OutputTag
from pipeline.executor.limits import TaskLimits
from pipeline.model import results
from pipeline.model.events import QueryActivity, TasksFinished
from pipeline.model.messages import Chunk, PartialOutput, RecordFormat, Result, TaskFailure, WorkerActivity
from pipeline.model.state_machine import Message, Port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

TIMEOUT_SECONDS = 20.0


class CommandDriver:
    """A CommandExecutor in a minimal loop, and all its messages."""

    def __init__(self, executor: CommandExecutor) -> None:
        self.executor = executor
        self.messages: list[Message] = []
        self.outputs: dict[int, bytes] = {}
        self.failures: dict[int, TaskFailure] = {}
        self.records: dict[int, bytes] = {}
        self.metrics: dict[int, results.TaskMetrics] = {}
        self.lines: list[tuple[int, int, bytes]] = []
        self.stderr = b""
        self.attempt = 0

    def send_records(self, *records: bytes, first: int = 0, terminator: bytes = b"\n") -> None:
        body = b"".join(record + terminator for record in records)
        chunk = Chunk("run", 1, 1, first, len(records), body, self.attempt)
        self.executor.send(Port.EXECUTOR, chunk)

    def query_running(self) -> WorkerActivity:
        """Return the executor's activity report."""
        self.executor.send(Port.EXECUTOR, QueryActivity())
        self.run_until(lambda: any(isinstance(message, WorkerActivity) for message in self.messages))
        (activity,) = [message for message in self.messages if isinstance(message, WorkerActivity)]
        self.messages.remove(activity)
        return activity

    def run_until(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + TIMEOUT_SECONDS
        poller = select.poll()
        for file in self.executor.pollables():
            assert isinstance(file, int)
            poller.register(file, select.POLLIN)
        while not condition():
            now = time.monotonic()
            assert now < limit, f"timeout; messages: {self.messages}"
            poller.poll(1000 * max(0.0, min(self.executor.deadline, now + 0.02) - now))
            for message in self.executor.receive():
                self.handle(message)

    def handle(self, message: Message) -> None:
        self.messages.append(message)
        if isinstance(message, TasksFinished):
            self.handle_result(message.result)
        elif isinstance(message, PartialOutput):
            assert message.task not in self.outputs
            self.lines.append((message.task, message.start, message.body))

    def handle_result(self, message: Result) -> None:
        ends = (0, *struct.unpack(f"<{message.count}I", message.output_ends))
        for index in range(message.count):
            assert message.first + index not in self.outputs
            self.outputs[message.first + index] = message.output[ends[index] : ends[index + 1]]
        assert ends[-1] == len(message.output)
        self.failures |= {failure.task: failure for failure in message.failures}
        offset = 0
        for failure in message.failures:
            self.records[failure.task] = message.failed_records[offset : offset + failure.record_size]
            offset += failure.record_size
        assert offset == len(message.failed_records)
        self.stderr += message.stderr
        metrics = list(results.decode_metrics(message.metrics))
        assert len(metrics) in (0, message.count)
        assert not metrics or sum(task_metrics.stderr_size for task_metrics in metrics) == len(message.stderr)
        self.metrics |= dict(enumerate(metrics, message.first))

    def run_records(self, *records: bytes, terminator: bytes = b"\n") -> list[bytes]:
        self.send_records(*records, terminator=terminator)
        self.run_until(lambda: len(self.outputs) == len(records))
        return [self.outputs[task] for task in range(len(records))]

    def finished_messages(self) -> list[Result]:
        return [message.result for message in self.messages if isinstance(message, TasksFinished)]

    def seconds(self) -> list[float]:
        return [message.seconds for message in self.messages if isinstance(message, TasksFinished)]


@contextlib.contextmanager
def make_driver(
    *command: str,
    slots: int = 2,
    stdin: bool = False,
    record_format: RecordFormat | None = None,
    limits: TaskLimits | None = None,
    tag: str | None = None,
) -> Iterator[CommandDriver]:
    driver = CommandDriver(
        CommandExecutor(command, slots, limits, None if tag is None else OutputTag(tag), stdin=stdin)
    )
    driver.executor.send(Port.EXECUTOR, record_format or RecordFormat())
    try:
        yield driver
    finally:
        driver.executor.close()


def read_pid(path: Path) -> int:
    return int(path.read_text()) if path.exists() and path.read_text().endswith("\n") else 0
