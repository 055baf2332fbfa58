"""The executor of commands: a process per task, so many at a time as there are slots.

A task is over when its process has ended and its pipes are at their end, or a moment after the first: what a
grandchild in the background still writes is not the task's. Many short tasks make one Done. Nothing here waits,
no signal handler is needed, and no process is reaped that was not spawned here.
"""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace

from pipeline.executor.assignment import Assignment
from pipeline.executor.backlog import Backlog, Bite, Lot
from pipeline.executor.child import CLOSED, shown, spawn
from pipeline.executor.children import Children
from pipeline.executor.limits import Limits
from pipeline.executor.outcomes import FULL, Outcome, Outcomes
from pipeline.executor.template import Rendered, Tag, Template
from pipeline.house.usage import Usage
from pipeline.words.errands import Cancel, Look, Release, Returned, Seen
from pipeline.words.errors import UsageError
from pipeline.words.messages import Chunk
from pipeline.words.parts import Note, Recipe, Terms
from pipeline.words.station import NEVER, Address, Message

JOINED = 0.01
"""Seconds for which an ended task waits for others to be told with it, while there is more to start."""
RETRY = 0.1
"""Seconds until the next try when the machine is short of processes, memory or files."""
SHORT = frozenset((errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE))
NOT_FOUND = 127
EXIT_CODES = {errno.ENOENT: NOT_FOUND, errno.ENOTDIR: NOT_FOUND, errno.EACCES: 126, errno.ENOEXEC: 126}
"""What a shell says of a command that can't be executed."""


class Commands:
    """Runs `command` for each task, `slots` at a time; with `stdin`, the task is what it reads; `tag` begins its lines.

    Takes Recipe, Chunk, Release, Cancel and Look; says Done, Lines, Returned and Seen. Raises UsageError for a command
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
        self._programs: dict[bytes, bytes] = {}
        if self._template.program is not None:
            self._found(self._template.program)
        self._slots, self._stdin, self._tag = slots, stdin, tag
        self._environment = dict(os.environb)
        self._null = os.open(os.devnull, os.O_RDONLY)
        self._children = Children(limits or Limits())
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
                terms = Terms(message.tries, message.account, message.live)
                self._backlog.add(first, count, body, Lot(terms, message.run, time.monotonic()))
            case Release():
                self._answers.append(Returned(self._backlog.release()))
            case Look():
                self._answers.append(Seen(*self._usage.look(), self._children.doing(time.monotonic())))
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
        if self._null != CLOSED:
            self._backlog.release()
            self._children.close()
            os.close(self._null)
            self._null = CLOSED
        self.deadline = NEVER

    def _fill(self) -> None:
        """Start as many tasks as there are idle slots. Each is tried once, so that failing ones don't hold us here."""
        taken = self._children.slots
        for slot in [slot for slot in range(1, self._slots + len(taken) + 1) if slot not in taken]:
            bite = self._backlog.take(1, 1) if self._children.running < self._slots else None
            if bite is None:
                break
            record = bite.body if self._backlog.recipe.block else bite.body[:-1]
            try:
                assignment = self._assigned(bite, record, slot)
            except ValueError as wrong:
                note = Note(bite.first, "exception", 0, str(wrong), "", len(record))
                blank = Assignment(bite.first, record, slot, Rendered(None, []), bite.lot, b"", time.time())
                account = blank.account(0.0, 0.0, 0.0, 0, 0)
                self._outcomes.add(Outcome(bite.first, b"", b"", note, 0.0, record, account), time.monotonic())
                continue
            try:
                self._start(assignment)
            except OSError as fault:
                if fault.errno in SHORT and self._children.running:
                    self._backlog.put_back(bite)
                    self._retry = time.monotonic() + RETRY
                    break
                self._outcomes.add(failed(assignment, fault), time.monotonic())

    def _assigned(self, bite: Bite, record: bytes, slot: int) -> Assignment:
        """Raises ValueError when the record can't be filled in."""
        shape, task = self._backlog.recipe.shape, bite.first
        rendered = self._template.render(record, shape, task, slot)
        tag = self._tag.render(record, shape, task, slot) if self._tag else b""
        return Assignment(task, record, slot, rendered, bite.lot, tag, time.time())

    def _start(self, assignment: Assignment) -> None:
        """Spawn one. Raises as `spawn` does."""
        stdin = file_of(assignment.record) if self._stdin else self._null
        environment, rendered = assignment.environment(self._environment), assignment.rendered
        program = None if rendered.program is None else self._found(rendered.program)
        try:
            child = spawn(assignment, program, environment, stdin)
        except OSError as fault:
            if fault.errno != errno.ENOEXEC or program is None:
                raise
            # a script without a #! line is the shell's, as everywhere
            scripted = replace(assignment, rendered=rendered._replace(argv=[b"sh", program, *rendered.argv[1:]]))
            child = spawn(scripted, b"/bin/sh", environment, stdin)
        finally:
            if self._stdin:
                os.close(stdin)
        self._children.add(child)

    def _found(self, word: bytes) -> bytes:
        """As `found`, once for each word."""
        if word not in self._programs:
            self._programs[word] = found(word)
        return self._programs[word]


def found(word: bytes) -> bytes:
    """The file that `word` names, by PATH unless it has a slash. Raises UsageError when there is none."""
    places = [""] if b"/" in word else os.get_exec_path()
    for place in places:
        path = os.path.join(os.fsencode(place), word)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise UsageError(f"command not found: {os.fsdecode(word)}")


def file_of(record: bytes) -> int:
    """A file of no name that holds `record`, to be read from its start. It never blocks, as a pipe would."""
    file = os.memfd_create("task")
    left = memoryview(record)
    while left:
        left = left[os.write(file, left) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def failed(given: Assignment, fault: OSError) -> Outcome:
    """The outcome of a task that could not be started, with the codes that a shell has for it."""
    code = EXIT_CODES.get(fault.errno or 0, 0)
    argv, record, size = given.rendered.argv, given.record, len(given.record)
    command = shown(given.rendered.command)
    text = f"command not found: {shown(b''.join(argv[:1]))}" if code == NOT_FOUND else f"{fault.strerror}: {command}"
    if not code:
        note = Note(given.task, "exception", code, text, "", size)
        return Outcome(given.task, b"", b"", note, 0.0, record, given.account(0.0, 0.0, 0.0, 0, 0))
    text = f"exit {code}: {text}"  # as a shell would say it: a note of an exit code alone is not shown
    errors = given.tagged(f"{text}\n".encode())
    account = given.account(0.0, 0.0, 0.0, 0, len(errors))
    return Outcome(given.task, b"", errors, Note(given.task, "exit", code, text, text, size), 0.0, record, account)
