"""The executor of --dry-run: each task's output is the command that would run it, in the first slot.

It starts nothing, and is as quick as tasks come.
"""

from __future__ import annotations

import time

from pipeline.executor.assignment import prefix_lines
from pipeline.executor.backlog import TaskQueue
from pipeline.executor.outcomes import OutcomeBuffer, TaskOutcome
from pipeline.executor.template import CommandTemplate, OutputTag
from pipeline.words.errands import CancelTasks, QueryActivity, ReleaseQueued, TasksReleased
from pipeline.words.messages import Chunk, WorkerActivity
from pipeline.words.parts import RecordFormat, TaskFailure
from pipeline.words.station import NEVER, Address, Message


class DryRunExecutor:
    """Shows the commands of `command`, or the calls of `call`; `tag` begins each line, as it would begin the task's.

    Raises UsageError as the executors do.
    """

    def __init__(
        self, command: tuple[str, ...], call: str = "", tag: OutputTag | None = None, *, stdin: bool = False
    ) -> None:
        self.deadline = NEVER
        self._template = None if call else CommandTemplate(command, is_appended=not stdin)
        self._call, self._tag = call, tag
        self._queue, self._outcomes = TaskQueue(), OutcomeBuffer()
        self._replies: list[Message] = []

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge serves one port
        """Take a Recipe, Chunk, Look, Release or Cancel."""
        match message:
            case RecordFormat():
                self._queue.record_format = message
            case Chunk():
                self._queue.add(message.first, message.count, message.body)
            case QueryActivity():
                self._replies.append(WorkerActivity("", 0.0, 0, ()))
            case ReleaseQueued():
                self._replies.append(TasksReleased(self._queue.clear()))
            case CancelTasks(ranges=ranges):
                self._queue.discard(ranges)
        self.deadline = 0.0

    def pollables(self) -> list[object]:
        """None."""
        return []

    def receive(self) -> list[Message]:
        """The commands of all that has come."""
        now = time.monotonic()
        while bite := self._queue.take(1, 1):
            record = bite.body if self._queue.record_format.block else bite.body[:-1]
            self._outcomes.add(self._render_outcome(bite.first, record), now)
        said, self._replies, self.deadline = [*self._replies, *self._outcomes.flush()], [], NEVER
        return said

    def close(self) -> None:
        """Nothing is open."""

    def _render_outcome(self, task: int, record: bytes) -> TaskOutcome:
        at = record, self._queue.record_format.shape, task, 1
        try:
            tag = self._tag.render(*at) + b"\t" if self._tag else b""
            shown = self._template.render(*at).command if self._template else self._describe_call(record)
        except ValueError as wrong:
            note = TaskFailure(task, "exception", 1, str(wrong), "", len(record))
            return TaskOutcome(task, b"", b"", note, 0.0, record)
        return TaskOutcome(task, prefix_lines(shown + b"\n", tag), b"", None, 0.0)

    def _describe_call(self, record: bytes) -> bytes:
        return f"{self._call}({record.decode(errors='backslashreplace')!r})".encode()
