"""One task process: environment, output, session, exit.

One task given to one slot: what it is, how it is run, what it sees of itself, and the account that is told of it.

It only says; a child is started and ended elsewhere. Task numbers are from 1 where a task or a person sees them.

What a running task has written and nobody was told yet: it is said in whole lines, each once, as they come.

What follows the last newline stays here, however long it grows: it is kept in the pieces in which it came.

Sessions: who is in one, and the end of all that is in it.

Each task has a session of its own, which holds all process groups that it makes. Only what has become a session's
leader itself, a daemon, has left it. A session's number is safe as long as its first process is not reaped.
Nothing here waits, and no zombie counts.

One task's process, from its spawn to its last byte.

It has a session of its own, default signals, and stdin, stdout and stderr that are nobody else's. All of stdout is
kept as far as it is allowed, and both ends of a stderr that is too long. Nothing here waits: whoever polls says when
there is something to read. The process is reaped only by `outcome`, so its number, and its session's, stays its own
until then and can be killed safely. What a task leaves in the background when it ends by itself is left alone, as
xargs and GNU parallel do.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from pipeline.executor.command_template import RenderedCommand
from pipeline.executor.limits import MAX_OUTPUT_BYTES, timeout_text, too_large_text
from pipeline.executor.outcomes import TaskOutcome, stderr_tail
from pipeline.executor.task_queue import ChunkInfo
from pipeline.model.messages import FailureKind, PartialOutput, RecordFormat, RunningTask, TaskFailure
from pipeline.model.results import TaskMetrics, encode_metrics

INDEX_VARIABLE, ATTEMPT_VARIABLE, RUN_VARIABLE, SLOT_VARIABLE = (
    b"PIPE_INDEX",
    b"PIPE_ATTEMPT",
    b"PIPE_RUN",
    b"PIPE_SLOT",
)
SEQUENCE_VARIABLE, JOBSLOT_VARIABLE = b"PARALLEL_SEQ", b"PARALLEL_JOBSLOT"
"""What GNU parallel calls them."""

_INNER_LINE_START = re.compile(rb"(?<=[\r\n])(?=.)", re.DOTALL)
"""Where a line begins that is not the first."""


class TaskAssignment(NamedTuple):
    """Task number `task` in slot number `slot` (from 1); `tag`, with its tab, begins each line of what it writes.

    `began` is when it was given to the slot, a time.time().
    """

    task: int
    record: bytes
    slot: int
    rendered: RenderedCommand
    chunk_info: ChunkInfo = ChunkInfo()
    recipe: RecordFormat = RecordFormat()
    tag: bytes = b""
    assigned_at: float = 0.0

    def environment(self, base_environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Ours, and what it can know of itself."""
        number, slot = b"%d" % (self.task + 1), b"%d" % self.slot
        return {
            **base_environment,
            INDEX_VARIABLE: number,
            ATTEMPT_VARIABLE: b"%d" % (self.chunk_info.tries + 1),
            RUN_VARIABLE: self.chunk_info.run.encode(),
            SLOT_VARIABLE: slot,
            SEQUENCE_VARIABLE: number,
            JOBSLOT_VARIABLE: slot,
        }

    def metrics(
        self, queued_seconds: float, seconds: float, cpu_seconds: float, max_rss: int, stderr_size: int
    ) -> bytes:
        """What the sink is told of it; nothing, if it has not asked. `rss` and `errors` are bytes, times seconds."""
        if not self.recipe.collect_metrics:
            return b""
        command = self.rendered.command
        return encode_metrics(
            TaskMetrics(
                self.assigned_at,
                max(0.0, queued_seconds),
                seconds,
                cpu_seconds,
                max_rss,
                self.slot,
                stderr_size,
                command,
                self.record,
            )
        )

    def add_tags(self, text: bytes) -> bytes:
        """The text with the tag before each of its lines. They begin behind a carriage return, too, as GNU's do."""
        return prefix_lines(text, self.tag)


def prefix_lines(text: bytes, tag: bytes) -> bytes:
    """As `Assignment.tagged`."""
    if not tag or not text:
        return text
    if b"\r" not in text:
        return tag + text[:-1].replace(b"\n", b"\n" + tag) + text[-1:]  # 40 times faster
    return tag + _INNER_LINE_START.sub(tag.replace(b"\\", rb"\\"), text)


class LineBuffer:
    """Of one task. Lines begin with its tag, as in its output."""

    __slots__ = ("_assignment", "_partial_line", "_reported_bytes", "_complete_lines")

    def __init__(self, assignment: TaskAssignment) -> None:
        self._assignment, self._reported_bytes = assignment, 0
        self._complete_lines: list[bytes] = []
        self._partial_line: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """It has written this."""
        lines, newline, rest = data.rpartition(b"\n")
        if newline:
            self._complete_lines += [*self._partial_line, lines, newline]
            self._partial_line = []
        if rest:
            self._partial_line.append(rest)

    def take_lines(self) -> list[PartialOutput]:
        """What was not said, if there is a whole line."""
        if not self._complete_lines:
            return []
        text, start = self._assignment.add_tags(b"".join(self._complete_lines)), self._reported_bytes
        self._complete_lines, self._reported_bytes = [], start + len(text)
        lot = self._assignment.chunk_info
        return [PartialOutput(lot.run, self._assignment.task, lot.tries, start, text)]


def list_alive_pids(sessions: Collection[int]) -> list[int]:
    """The processes in these sessions that have not ended."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if _is_in_session(pid, sessions) and not _has_ended(pid)]


def kill_sessions(sessions: Collection[int]) -> None:
    """Kill all that is in these sessions, and what was started there meanwhile. Its end is not waited for."""
    for leader in sessions:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    seen: set[int] = set()
    # nobody with a SIGKILL pending can fork any more, so a look that finds nobody new is the last
    while fresh := set(list_alive_pids(sessions) if sessions else ()) - seen:
        seen |= fresh
        for pid in fresh:
            if _is_in_session(pid, sessions):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


def _is_in_session(pid: int, sessions: Collection[int]) -> bool:
    try:
        return os.getsid(pid) in sessions
    except OSError:
        return False


def _has_ended(pid: int) -> bool:
    """Whether it is a zombie, or gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in b"ZX"
    except OSError:
        return True


READ_BYTES = 1 << 16
"""Bytes read at once: what a pipe holds."""
MAX_STDERR_BYTES = 1 << 20
"""Bytes of stderr kept of a task; beyond, the middle is cut."""
MAX_FAILURE_COMMAND_CHARS, MAX_ACTIVITY_COMMAND_CHARS = 200, 120
"""Characters of the command in a note, and for those who look on."""
CLOSED_FD = -1


class TaskProcess:
    """A spawned task. `out`, `err` and `process` are to be polled for reading until they are CLOSED.

    `started`, `ended` and `stopped` (0: it was not) are times as the caller's; `look` is when to look again whether
    anything of a stopped one is left; `dropped` says that nobody wants its outcome. `most` is what it may write.
    """

    __slots__ = (
        "_cut_bytes", "_stderr", "_is_over_limit", "_timeout_seconds", "_output", "_size", "assignment", "is_discarded", "ended_at", "stderr_fd",
        "is_killed", "check_at", "max_output_bytes", "stdout_fd", "pid", "pidfd", "started_at", "stopped_at", "line_buffer",
    )  # fmt: skip

    def __init__(self, assignment: TaskAssignment, pid: int, stdout_fd: int, stderr_fd: int) -> None:
        self.assignment, self.pid, self.stdout_fd, self.stderr_fd = assignment, pid, stdout_fd, stderr_fd
        self.pidfd = os.pidfd_open(pid)
        self.max_output_bytes = MAX_OUTPUT_BYTES
        self.line_buffer = LineBuffer(assignment) if assignment.recipe.stream_output else None
        self.started_at = self.ended_at = self.stopped_at = self.check_at = self._timeout_seconds = 0.0
        self.is_discarded = self.is_killed = self._is_over_limit = False
        self._output: list[bytes] = []
        self._stderr = bytearray()
        self._size = self._cut_bytes = 0

    @property
    def task(self) -> int:
        """The number of its task."""
        return self.assignment.task

    def describe_running(self, now: float) -> RunningTask:
        """What it does, for a person who looks on."""
        command = shorten_command(self.assignment.rendered.command, MAX_ACTIVITY_COMMAND_CHARS)
        return RunningTask(self.task, self.assignment.slot, round(max(0.0, now - self.started_at), 3), command)

    @property
    def is_finished(self) -> bool:
        """Whether the process has ended and nothing can come out any more."""
        return self.pidfd == self.stdout_fd == self.stderr_fd == CLOSED_FD

    def read(self, fd: int, *, is_last: bool) -> bool:
        """Take in what `fd`, which is `out` or `err` and ready, has; `last`: nobody can write to it any more.

        True: all of it is read.
        """
        piece = os.read(fd, READ_BYTES)
        if fd == self.stderr_fd:
            self._stderr += piece
            if len(self._stderr) > 2 * MAX_STDERR_BYTES:
                self._truncate_stderr()
        elif not self._is_over_limit:
            self._output.append(piece)
            if self.line_buffer:
                self.line_buffer.feed(piece)
            self._size += len(piece)
            if self._size > self.max_output_bytes:
                self._is_over_limit = True
                self._output.clear()
                kill_processes([self])
        return not piece or (is_last and len(piece) < READ_BYTES)

    def close_fd(self, fd: int) -> None:
        """Close one of `out`, `err` and `process`: it is at its end, or nobody wants to know."""
        os.close(fd)
        if fd == self.stdout_fd:
            self.stdout_fd = CLOSED_FD
        elif fd == self.stderr_fd:
            self.stderr_fd = CLOSED_FD
        else:
            self.pidfd = CLOSED_FD

    def open_pipes(self) -> list[int]:
        """Those of `out` and `err` that are not CLOSED."""
        return [fd for fd in (self.stdout_fd, self.stderr_fd) if fd != CLOSED_FD]

    def terminate(self, now: float, timeout_seconds: float) -> None:
        """It has run for more than `limit` seconds: ask its first group to end."""
        self.stopped_at, self._timeout_seconds = now, timeout_seconds
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)
            os.killpg(self.pid, signal.SIGCONT)  # who is suspended could not hear it

    def reap(self) -> TaskOutcome:
        """Reap the process, which has ended or is about to, and say how. Once."""
        _, status, usage = os.wait4(self.pid, 0)
        code, given = os.waitstatus_to_exitcode(status), self.assignment
        if self._cut_bytes or len(self._stderr) > MAX_STDERR_BYTES:
            self._truncate_stderr()
            mark = b"\n[... %d bytes of stderr left out ...]\n" % self._cut_bytes
            self._stderr[MAX_STDERR_BYTES // 2 : MAX_STDERR_BYTES // 2] = mark
        output, errors = given.add_tags(b"".join(self._output)), given.add_tags(bytes(self._stderr))
        if len(output) > MAX_OUTPUT_BYTES:  # with its tags
            self._is_over_limit, output = True, b""
        seconds, cpu = self.ended_at - self.started_at, usage.ru_utime + usage.ru_stime
        queued = self.started_at - given.chunk_info.received_at
        account = given.metrics(queued, seconds, cpu, usage.ru_maxrss * 1024, len(errors))
        if not (code or self._is_over_limit or self.stopped_at):
            return TaskOutcome(self.task, output, errors, None, seconds, b"", account)
        kind, number, why = self._classify_failure(code)
        text = f"{why}: {shorten_command(given.rendered.command)}"
        note = TaskFailure(self.task, kind, number, text, stderr_tail(bytes(self._stderr)), len(given.record))
        return TaskOutcome(self.task, output, errors, note, seconds, given.record, account)

    def _classify_failure(self, exit_code: int) -> tuple[FailureKind, int, str]:
        """What went wrong: the kind, the number and the text of a note."""
        if self._is_over_limit:
            return "size", 0, too_large_text(self.max_output_bytes)
        if self.stopped_at:
            return "timeout", signal.SIGKILL if self.is_killed else signal.SIGTERM, timeout_text(self._timeout_seconds)
        if exit_code > 0:
            return "exit", exit_code, f"exit {exit_code}"
        return "signal", -exit_code, signal_name(-exit_code)

    def _truncate_stderr(self) -> None:
        """Keep both ends of stderr."""
        extra = len(self._stderr) - MAX_STDERR_BYTES
        del self._stderr[MAX_STDERR_BYTES // 2 : MAX_STDERR_BYTES // 2 + extra]
        self._cut_bytes += extra


def kill_processes(processes: list[TaskProcess]) -> None:
    """Kill what still runs in the sessions of these, which are not reaped."""
    kill_sessions({child.pid for child in processes})
    for child in processes:
        child.is_killed = True


def shorten_command(command: bytes, max_chars: int = MAX_FAILURE_COMMAND_CHARS) -> str:
    """The command for a person, cut to one line of so many characters."""
    text = command[: 4 * max_chars].decode(errors="backslashreplace").replace("\n", " ")
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def signal_name(number: int) -> str:
    """What a signal is called."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
