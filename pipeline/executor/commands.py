"""The executor of commands: a process per task, so many at a time as there are slots.

A task is over when its process has ended and its pipes are at their end, or a moment after the first: what a
grandchild in the background still writes is not the task's. Many short tasks make one Done. Nothing here waits,
no signal handler is needed, and no process is reaped that was not spawned here.
"""

from __future__ import annotations

import errno
import time

from pipeline.executor.assignment import Assignment
from pipeline.executor.backlog import Backlog, Lot
from pipeline.executor.children import Children
from pipeline.executor.limits import Limits
from pipeline.executor.outcomes import FULL, Outcomes
from pipeline.executor.spawner import Spawner, failed, unstarted
from pipeline.executor.template import Rendered, Tag, Template
from pipeline.house.usage import Usage
from pipeline.words.errands import Cancel, Look, Release, Returned
from pipeline.words.messages import Chunk, Glance
from pipeline.words.parts import Recipe
from pipeline.words.station import NEVER, Address, Message

JOINED = 0.01
"""Seconds for which an ended task waits for others to be told with it, while there is more to start."""
RETRY = 0.1
"""Seconds until the next try when the machine is short of processes, memory or files."""
SHORT = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
NOTHING = Rendered(None, [])


class Commands:
    """Runs `command` for each task, `slots` at a time; with `stdin`, the task is what it reads; `tag` begins its lines.

    Takes Recipe, Chunk, Release, Cancel and Look; says Done, Part, Returned and Glance. Raises UsageError for a command
    not found.
    """

    def __init__(
        self,
        command: tuple[str, ...],
        slots: int,
        limits: Limits | None = None,
        tag: Tag | None = None,
        *,
        stdin: bool = False,
    ) -> None:
        self.deadline = NEVER
        self._template = Template(command, appended=not stdin)
        self._spawner = Spawner(self._template.program, stdin=stdin)
        self._slots, self._tag = slots, tag
        self._children = Children(slots, limits or Limits())
        self._backlog, self._outcomes = Backlog(), Outcomes()
        self._answers: list[Message] = []
        self._usage = Usage()
        self._retry = 0.0

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge has one port
        """Take a word; what follows of it is done at the next `receive`, which is due at once."""
        match message:
            case Recipe():
                self._backlog.recipe = message
            case Chunk(first=first, count=count, body=body):
                self._backlog.add(first, count, body, Lot(message.tries, message.run, time.monotonic()))
            case Release():
                self._answers.append(Returned(self._backlog.release()))
            case Look():
                self._answers.append(Glance("", *self._usage.look(), self._children.doing(time.monotonic())))
            case Cancel(ranges=ranges):
                self._backlog.drop(ranges)
                self._outcomes.drop(ranges)
                self._children.drop(ranges)
        self.deadline = 0.0

    def files(self) -> list[object]:
        """File descriptors that are ready when a process has ended, or has written something."""
        return self._children.files()

    def receive(self) -> list[Message]:
        """Hear what has come out, start what can be, and tell what is to be told."""
        now = time.monotonic()
        children = self._children
        running = children.running
        children.see(now)
        # an idle slot is filled before anything is read: its CPU should not wait for our reading
        if self._backlog.tasks and (now >= self._retry or children.running < running):
            self._fill()
        for outcome in children.listen(now):
            self._outcomes.add(outcome, now)
        said, self._answers = [*self._answers, *children.lines()], []
        # with nothing left to start, a slot is idle: whoever feeds us must hear of it now
        if not self._backlog.tasks or self._outcomes.size >= FULL or now >= self._outcomes.since + JOINED:
            said += self._outcomes.take()
        self.deadline = min(children.deadline, self._outcomes.since + JOINED if self._outcomes else NEVER)
        if self._backlog.tasks and children.running < self._slots:
            self.deadline = min(self.deadline, self._retry)
        return said

    def close(self) -> None:
        """Kill what runs, reap it, and let go of everything."""
        if not self._spawner.closed:
            self._backlog.release()
            self._children.close()
            self._spawner.close()
        self.deadline = NEVER

    def _fill(self) -> None:
        """Start as many tasks as there are idle slots. Each is tried once, so that failing ones don't hold us here."""
        for _ in range(self._slots - self._children.running):
            bite = self._backlog.take(1, 1)
            if bite is None:
                break
            recipe = self._backlog.recipe
            record = bite.body if recipe.block else bite.body[:-1]
            blank = Assignment(bite.first, record, self._children.free, NOTHING, bite.lot, recipe, b"", time.time())
            assignment = blank
            try:
                assignment = self._filled(blank)
                self._children.add(self._spawner.start(assignment))
            except ValueError as wrong:
                now = time.monotonic()
                self._outcomes.add(unstarted(assignment, str(wrong), now), now)
            except OSError as fault:
                if fault.errno in SHORT and self._children.running:
                    self._backlog.put_back(bite)
                    self._retry = time.monotonic() + RETRY
                    break
                now = time.monotonic()
                self._outcomes.add(failed(assignment, fault, now), now)

    def _filled(self, blank: Assignment) -> Assignment:
        """With its command and its tag. Raises ValueError when the record does not fit."""
        at = blank.record, blank.recipe.shape, blank.task, blank.slot
        tag = self._tag.render(*at) + b"\t" if self._tag else b""
        return blank._replace(rendered=self._template.render(*at), tag=tag)
