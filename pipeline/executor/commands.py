"""The executor of commands: a process per task, so many at a time as there are slots.

A task is over when its process has ended and its pipes are at their end, or a moment after the first: what a
grandchild in the background still writes is not the task's. Many short tasks make one Done. Nothing here waits,
no signal handler is needed, and no process is reaped that was not spawned here.
"""

from __future__ import annotations

import errno
import time

from pipeline.executor.assignment import TaskAssignment
from pipeline.executor.backlog import ChunkInfo, TaskQueue
from pipeline.executor.children import ProcessTable
from pipeline.executor.limits import TaskLimits
from pipeline.executor.outcomes import MAX_MERGED_BYTES, OutcomeBuffer
from pipeline.executor.spawner import TaskSpawner, os_error_outcome, start_failure
from pipeline.executor.template import CommandTemplate, OutputTag, RenderedCommand
from pipeline.house.usage import ProcessTreeUsage
from pipeline.words.errands import CancelTasks, QueryActivity, ReleaseQueued, TasksReleased
from pipeline.words.messages import Chunk, WorkerActivity
from pipeline.words.parts import RecordFormat
from pipeline.words.station import NEVER, Address, Message

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
