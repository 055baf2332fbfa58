"""Executor adapter for commands; dry run.

The executor of commands: a process per task, so many at a time as there are slots.

A task is over when its process has ended and its pipes are at their end, or a moment after the first: what a
grandchild in the background still writes is not the task's. Many short tasks make one Done. Nothing here waits,
no signal handler is needed, and no process is reaped that was not spawned here.

The executor of --dry-run: each task's output is the command that would run it, in the first slot.

It starts nothing, and is as quick as tasks come.
"""

from __future__ import annotations

import errno
import time

from pipeline.executor.command_template import CommandTemplate, OutputTag, RenderedCommand
from pipeline.executor.limits import TaskLimits
from pipeline.executor.outcomes import MAX_MERGED_BYTES, OutcomeBuffer, TaskOutcome
from pipeline.executor.process_table import ProcessTable
from pipeline.executor.spawn import TaskSpawner, os_error_outcome, start_failure
from pipeline.executor.task_process import TaskAssignment, prefix_lines
from pipeline.executor.task_queue import ChunkInfo, TaskQueue
from pipeline.model.events import CancelTasks, QueryActivity, ReleaseQueued, TasksReleased
from pipeline.model.messages import Chunk, RecordFormat, TaskFailure, WorkerActivity
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.system.resources import ProcessTreeUsage

REPORT_DELAY_SECONDS = 0.01
"""Seconds for which an ended task waits for others to be told with it, while there is more to start."""
START_RETRY_SECONDS = 0.1
"""Seconds until the next try when the machine is short of processes, memory or files."""
RESOURCE_ERRNOS = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
EMPTY_COMMAND = RenderedCommand(None, [])


class CommandExecutor:
    """Runs `command` for each task, `slots` at a time; with `stdin`, the task is what it reads; `tag` begins its lines.

    Takes Recipe, Chunk, Release, Cancel and Look; says Done, Part, Returned and Glance. Raises UsageError for a command
    not found.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        slots: int,
        limits: TaskLimits | None = None,
        tag: OutputTag | None = None,
        *,
        stdin: bool = False,
    ) -> None:
        self.deadline = NEVER
        self._template = CommandTemplate(command, is_appended=not stdin)
        self._spawner = TaskSpawner(self._template.program, stdin=stdin)
        self._slots, self._tag = slots, tag
        self._process_table = ProcessTable(slots, limits or TaskLimits())
        self._queue, self._outcomes = TaskQueue(), OutcomeBuffer()
        self._replies: list[Message] = []
        self._usage = ProcessTreeUsage()
        self._retry_at = 0.0

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge has one port
        """Take a word; what follows of it is done at the next `receive`, which is due at once."""
        match message:
            case RecordFormat():
                self._queue.record_format = message
            case Chunk(first=first, count=count, body=body):
                self._queue.add(first, count, body, ChunkInfo(message.attempt, message.run, time.monotonic()))
            case ReleaseQueued():
                self._replies.append(TasksReleased(self._queue.clear()))
            case QueryActivity():
                self._replies.append(
                    WorkerActivity("", *self._usage.sample(), self._process_table.list_running(time.monotonic()))
                )
            case CancelTasks(ranges=ranges):
                self._queue.discard(ranges)
                self._outcomes.discard(ranges)
                self._process_table.discard(ranges)
        self.deadline = 0.0

    def pollables(self) -> list[object]:
        """File descriptors that are ready when a process has ended, or has written something."""
        return self._process_table.pollables()

    def receive(self) -> list[Message]:
        """Hear what has come out, start what can be, and tell what is to be told."""
        now = time.monotonic()
        children = self._process_table
        running = children.running_count
        children.collect_exits(now)
        # an idle slot is filled before anything is read: its CPU should not wait for our reading
        if self._queue.task_count and (now >= self._retry_at or children.running_count < running):
            self._start_tasks()
        for outcome in children.read_output(now):
            self._outcomes.add(outcome, now)
        said, self._replies = [*self._replies, *children.take_lines()], []
        # with nothing left to start, a slot is idle: whoever feeds us must hear of it now
        if (
            not self._queue.task_count
            or self._outcomes.size >= MAX_MERGED_BYTES
            or now >= self._outcomes.first_ended_at + REPORT_DELAY_SECONDS
        ):
            said += self._outcomes.flush()
        self.deadline = min(
            children.deadline, self._outcomes.first_ended_at + REPORT_DELAY_SECONDS if self._outcomes else NEVER
        )
        if self._queue.task_count and children.running_count < self._slots:
            self.deadline = min(self.deadline, self._retry_at)
        return said

    def close(self) -> None:
        """Kill what runs, reap it, and let go of everything."""
        if not self._spawner.is_closed:
            self._queue.clear()
            self._process_table.close()
            self._spawner.close()
        self.deadline = NEVER

    def _start_tasks(self) -> None:
        """Start as many tasks as there are idle slots. Each is tried once, so that failing ones don't hold us here."""
        for _ in range(self._slots - self._process_table.running_count):
            bite = self._queue.take(1, 1)
            if bite is None:
                break
            recipe = self._queue.record_format
            record = bite.body if recipe.block else bite.body[:-1]
            blank = TaskAssignment(
                bite.first,
                record,
                self._process_table.free_slot,
                EMPTY_COMMAND,
                bite.chunk_info,
                recipe,
                b"",
                time.time(),
            )
            assignment = blank
            try:
                assignment = self._render(blank)
                self._process_table.add(self._spawner.start(assignment))
            except ValueError as wrong:
                now = time.monotonic()
                self._outcomes.add(start_failure(assignment, str(wrong), now), now)
            except OSError as fault:
                if fault.errno in RESOURCE_ERRNOS and self._process_table.running_count:
                    self._queue.requeue(bite)
                    self._retry_at = time.monotonic() + START_RETRY_SECONDS
                    break
                now = time.monotonic()
                self._outcomes.add(os_error_outcome(assignment, fault, now), now)

    def _render(self, assignment: TaskAssignment) -> TaskAssignment:
        """With its command and its tag. Raises ValueError when the record does not fit."""
        at = assignment.record, assignment.recipe.shape, assignment.task, assignment.slot
        tag = self._tag.render(*at) + b"\t" if self._tag else b""
        return assignment._replace(rendered=self._template.render(*at), tag=tag)


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
