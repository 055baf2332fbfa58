"""One task's process, from its spawn to its last byte.

It has a session of its own, default signals, and stdin, stdout and stderr that are nobody else's. All of stdout is
kept as far as it is allowed, and both ends of a stderr that is too long. Nothing here waits: whoever polls says when
there is something to read. The process is reaped only by `outcome`, so its number, and its session's, stays its own
until then and can be killed safely. What a task leaves in the background when it ends by itself is left alone, as
xargs and GNU parallel do.
"""

from __future__ import annotations

import contextlib
import os
import signal

from pipeline.executor import sessions
from pipeline.executor.assignment import Assignment
from pipeline.executor.limits import MOST_OUTPUT, too_large, too_long
from pipeline.executor.outcomes import Outcome, tail_of
from pipeline.executor.unsaid import Unsaid
from pipeline.words.parts import Doing, Note, NoteKind

PIECE = 1 << 16
"""Bytes read at once: what a pipe holds."""
MOST_ERRORS = 1 << 20
"""Bytes of stderr kept of a task; beyond, the middle is cut."""
SHOWN, GLANCED = 200, 120
"""Characters of the command in a note, and for those who look on."""
CLOSED = -1


class Child:
    """A spawned task. `out`, `err` and `process` are to be polled for reading until they are CLOSED.

    `started`, `ended` and `stopped` (0: it was not) are times as the caller's; `look` is when to look again whether
    anything of a stopped one is left; `dropped` says that nobody wants its outcome. `most` is what it may write.
    """

    __slots__ = (
        "_cut", "_errors", "_flooded", "_limit", "_output", "_size", "assignment", "dropped", "ended", "err",
        "killed", "look", "most", "out", "pid", "process", "started", "stopped", "unsaid",
    )  # fmt: skip

    def __init__(self, assignment: Assignment, pid: int, out: int, err: int) -> None:
        self.assignment, self.pid, self.out, self.err = assignment, pid, out, err
        self.process = os.pidfd_open(pid)
        self.most = MOST_OUTPUT
        self.unsaid = Unsaid(assignment) if assignment.recipe.stream_output else None
        self.started = self.ended = self.stopped = self.look = self._limit = 0.0
        self.dropped = self.killed = self._flooded = False
        self._output: list[bytes] = []
        self._errors = bytearray()
        self._size = self._cut = 0

    @property
    def task(self) -> int:
        """The number of its task."""
        return self.assignment.task

    def doing(self, now: float) -> Doing:
        """What it does, for a person who looks on."""
        command = shown(self.assignment.rendered.command, GLANCED)
        return Doing(self.task, self.assignment.slot, round(max(0.0, now - self.started), 3), command)

    @property
    def over(self) -> bool:
        """Whether the process has ended and nothing can come out any more."""
        return self.process == self.out == self.err == CLOSED

    def read(self, fd: int, *, last: bool) -> bool:
        """Take in what `fd`, which is `out` or `err` and ready, has; `last`: nobody can write to it any more.

        True: all of it is read.
        """
        piece = os.read(fd, PIECE)
        if fd == self.err:
            self._errors += piece
            if len(self._errors) > 2 * MOST_ERRORS:
                self._cut_errors()
        elif not self._flooded:
            self._output.append(piece)
            if self.unsaid:
                self.unsaid.hear(piece)
            self._size += len(piece)
            if self._size > self.most:
                self._flooded = True
                self._output.clear()
                kill([self])
        return not piece or (last and len(piece) < PIECE)

    def shut(self, fd: int) -> None:
        """Close one of `out`, `err` and `process`: it is at its end, or nobody wants to know."""
        os.close(fd)
        if fd == self.out:
            self.out = CLOSED
        elif fd == self.err:
            self.err = CLOSED
        else:
            self.process = CLOSED

    def pipes(self) -> list[int]:
        """Those of `out` and `err` that are not CLOSED."""
        return [fd for fd in (self.out, self.err) if fd != CLOSED]

    def stop(self, now: float, limit: float) -> None:
        """It has run for more than `limit` seconds: ask its first group to end."""
        self.stopped, self._limit = now, limit
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)
            os.killpg(self.pid, signal.SIGCONT)  # who is suspended could not hear it

    def outcome(self) -> Outcome:
        """Reap the process, which has ended or is about to, and say how. Once."""
        _, status, usage = os.wait4(self.pid, 0)
        code, given = os.waitstatus_to_exitcode(status), self.assignment
        if self._cut or len(self._errors) > MOST_ERRORS:
            self._cut_errors()
            mark = b"\n[... %d bytes of stderr left out ...]\n" % self._cut
            self._errors[MOST_ERRORS // 2 : MOST_ERRORS // 2] = mark
        output, errors = given.tagged(b"".join(self._output)), given.tagged(bytes(self._errors))
        if len(output) > MOST_OUTPUT:  # with its tags
            self._flooded, output = True, b""
        seconds, cpu = self.ended - self.started, usage.ru_utime + usage.ru_stime
        queued = self.started - given.lot.since
        account = given.account(queued, seconds, cpu, usage.ru_maxrss * 1024, len(errors))
        if not (code or self._flooded or self.stopped):
            return Outcome(self.task, output, errors, None, seconds, b"", account)
        kind, number, why = self._fault(code)
        text = f"{why}: {shown(given.rendered.command)}"
        note = Note(self.task, kind, number, text, tail_of(bytes(self._errors)), len(given.record))
        return Outcome(self.task, output, errors, note, seconds, given.record, account)

    def _fault(self, code: int) -> tuple[NoteKind, int, str]:
        """What went wrong: the kind, the number and the text of a note."""
        if self._flooded:
            return "size", 0, too_large(self.most)
        if self.stopped:
            return "timeout", signal.SIGKILL if self.killed else signal.SIGTERM, too_long(self._limit)
        if code > 0:
            return "exit", code, f"exit {code}"
        return "signal", -code, name_of(-code)

    def _cut_errors(self) -> None:
        """Keep both ends of stderr."""
        extra = len(self._errors) - MOST_ERRORS
        del self._errors[MOST_ERRORS // 2 : MOST_ERRORS // 2 + extra]
        self._cut += extra


def kill(children: list[Child]) -> None:
    """Kill what still runs in the sessions of these, which are not reaped."""
    sessions.kill({child.pid for child in children})
    for child in children:
        child.killed = True


def shown(command: bytes, most: int = SHOWN) -> str:
    """The command for a person, cut to one line of so many characters."""
    text = command[: 4 * most].decode(errors="backslashreplace").replace("\n", " ")
    return text if len(text) <= most else text[: most - 3] + "..."


def name_of(number: int) -> str:
    """What a signal is called."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
