"""Executor adapters for commands: one process for each task, and the dry run.

Invariants:
  - a task is over when its process has ended and its pipes are at their end, or PIPE_LINGER_SECONDS after the first:
    what a background process writes later does not belong to the task;
  - many short tasks make one TasksFinished message;
  - nothing waits, no signal handler is needed, and only processes spawned here are reaped.
"""

from __future__ import annotations

import errno
import time

from pipeline.executor.command_template import CommandTemplate, OutputTag, RenderedCommand
from pipeline.executor.limits import TaskLimits
from pipeline.executor.outcomes import OutcomeBuffer, TaskOutcome
from pipeline.executor.process_table import ProcessTable
from pipeline.executor.spawn import TaskSpawner, os_error_outcome, start_failure
from pipeline.executor.task_output import prefix_lines
from pipeline.executor.task_process import TaskAssignment
from pipeline.executor.task_queue import ChunkInfo, TaskQueue, TaskSlice
from pipeline.model.events import BackgroundEnded, CancelTasks, HaltLimit, QueryActivity, ReleaseQueued, TasksReleased
from pipeline.model.messages import Chunk, RecordFormat, TaskFailure, WorkerActivity
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.system.resources import ProcessTreeUsage

URGENT_REPORT_SECONDS = 0.01  # for which a failure waits to be reported with others, while more tasks wait to start
START_RETRY_SECONDS = 0.1  # until the next attempt to start a task when processes, memory or files are short
RESOURCE_ERRNOS = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
EMPTY_COMMAND = RenderedCommand(None, [])


class CommandExecutor:
    """Runs `command` for each task, `slots` at a time; with `stdin`, the record is the task's stdin.

    `tag` precedes each line of output. Raises UsageError for a command that is not found.
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
        self._queue, self._outcomes = TaskQueue(), OutcomeBuffer(URGENT_REPORT_SECONDS)
        self._replies: list[Message] = []
        self._usage = ProcessTreeUsage()
        self._retry_at = 0.0
        self._halt_limit = NEVER

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an adapter has one port
        """Accept a message; `receive` acts on it, and is due at once."""
        match message:
            case RecordFormat():
                self._queue.record_format = self._outcomes.record_format = message
                self._halt_limit = 1 if message.halt_event else NEVER
            case HaltLimit(event_count=event_count):
                self._halt_limit = event_count
            case Chunk(first=first, count=count, body=body):
                self._queue.add(first, count, body, ChunkInfo(message.attempt, message.run, time.monotonic()))
            case ReleaseQueued():
                self._replies.append(TasksReleased(self._queue.clear()))
            case QueryActivity():
                running = self._process_table.list_running(time.monotonic())
                self._replies.append(WorkerActivity("", *self._usage.sample(), running))
            case CancelTasks(ranges=ranges):
                self._queue.discard(ranges)
                self._outcomes.discard(ranges)
                self._process_table.discard(ranges)
        self.deadline = 0.0

    def pollables(self) -> list[object]:
        """Return file descriptors that are ready when a process has ended or written something."""
        return self._process_table.pollables()

    def receive(self) -> list[Message]:
        """Collect what has ended, start what can be started, and return what is to be reported."""
        now, table = time.monotonic(), self._process_table
        running_before = table.running_count
        table.collect_exits(now)
        # fill an idle slot before reading output: its CPU should not wait for the reading
        if self._can_start and (now >= self._retry_at or table.running_count < running_before):
            self._start_tasks()
        for outcome in table.read_output(now):
            self._outcomes.add(outcome)
        messages: list[Message] = [*table.take_lines()]
        # with nothing that may start, a slot is idle; and a reply comes after all that has ended
        can_wait = self._can_start and not self._replies
        messages += self._outcomes.take_due(now, self._queue.task_count if can_wait else 0)
        self.deadline = min(table.deadline, self._outcomes.due_at)
        if self._can_start and table.running_count < self._slots:
            self.deadline = min(self.deadline, self._retry_at)
        replies, self._replies = self._replies, []
        return [*messages, *replies]

    @property
    def _can_start(self) -> bool:
        """Whether a task waits, and no outcome that the worker does not know can end the run."""
        if self._halt_limit == NEVER or not self._queue.task_count:
            return self._queue.task_count > 0
        return self._outcomes.event_count + self._process_table.ended_count < self._halt_limit

    def end_background(self, *, keep: bool) -> BackgroundEnded | None:
        """At the end of the run, kill what tasks have left in the background, with `keep` only failed ones."""
        return self._process_table.end_background(keep=keep)

    def close(self) -> None:
        """Kill and reap all processes. May be called twice."""
        if not self._spawner.is_closed:
            self._queue.clear()
            self._process_table.close()
            self._spawner.close()
        self.deadline = NEVER

    def _start_tasks(self) -> None:
        """Try one task for each idle slot, so that many failing ones do not block here."""
        for _ in range(self._slots - self._process_table.running_count):
            tasks = self._queue.take(1, 1) if self._can_start else None
            if tasks is None:
                break
            assignment = self._assign(tasks)
            try:
                assignment = self._render(assignment)
                self._process_table.add(self._spawner.start(assignment))
            except ValueError as error:
                self._outcomes.add(start_failure(assignment, str(error), time.monotonic()))
            except OSError as error:
                now = time.monotonic()
                if error.errno in RESOURCE_ERRNOS and self._process_table.running_count:
                    self._queue.requeue(tasks)
                    self._retry_at = now + START_RETRY_SECONDS
                    break
                self._outcomes.add(os_error_outcome(assignment, error, now))

    def _assign(self, tasks: TaskSlice) -> TaskAssignment:
        """Assign a single task to the free slot, without a command yet."""
        record_format, slot = self._queue.record_format, self._process_table.free_slot
        record = tasks.body if record_format.block else tasks.body[:-1]
        return TaskAssignment(
            tasks.first, record, slot, EMPTY_COMMAND, tasks.chunk_info, record_format, assigned_at=time.time()
        )

    def _render(self, assignment: TaskAssignment) -> TaskAssignment:
        """Add command and tag. Raise ValueError if the record does not fit."""
        task = assignment.record, assignment.record_format.shape, assignment.task, assignment.slot
        tag = self._tag.render(*task) + b"\t" if self._tag else b""
        return assignment._replace(rendered=self._template.render(*task), tag=tag)


class DryRunExecutor:
    """Outputs the command, or the call, of each task in the first slot instead of running it. Starts no process.

    `tag` precedes each line. Raises UsageError as the other executors do.
    """

    def __init__(
        self, command: tuple[str, ...], call: str = "", tag: OutputTag | None = None, *, stdin: bool = False
    ) -> None:
        self.deadline = NEVER
        self._template = None if call else CommandTemplate(command, is_appended=not stdin)
        self._call, self._tag = call, tag
        self._queue, self._outcomes = TaskQueue(), OutcomeBuffer()
        self._replies: list[Message] = []
        self._halt_limit = NEVER

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an adapter has one port
        """Accept a message; `receive` acts on it, and is due at once."""
        match message:
            case RecordFormat():
                self._queue.record_format = self._outcomes.record_format = message
                self._halt_limit = 1 if message.halt_event else NEVER
            case HaltLimit(event_count=event_count):
                self._halt_limit = event_count
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
        return []

    def receive(self) -> list[Message]:
        """Return the outcomes of all tasks that have arrived."""
        while self._outcomes.event_count < self._halt_limit and (tasks := self._queue.take(1, 1)):
            record = tasks.body if self._queue.record_format.block else tasks.body[:-1]
            self._outcomes.add(self._render_outcome(tasks.first, record))
        messages, self._replies, self.deadline = [*self._replies, *self._outcomes.flush()], [], NEVER
        return messages

    def close(self) -> None:
        """Do nothing: nothing is open."""

    def _render_outcome(self, task: int, record: bytes) -> TaskOutcome:
        values = record, self._queue.record_format.shape, task, 1
        try:
            tag = self._tag.render(*values) + b"\t" if self._tag else b""
            line = self._template.render(*values).command if self._template else self._describe_call(record)
        except ValueError as error:
            failure = TaskFailure(task, "exception", 1, str(error), "", len(record))
            return TaskOutcome(task, b"", b"", failure, 0.0, record)
        return TaskOutcome(task, prefix_lines(line + b"\n", tag), b"", None, 0.0)

    def _describe_call(self, record: bytes) -> bytes:
        return f"{self._call}({record.decode(errors='backslashreplace')!r})".encode()
