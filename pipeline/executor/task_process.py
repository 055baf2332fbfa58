"""One task as a process: assignment to a slot, process, output, session.

Invariants:
  - a task has a session of its own, default signals, and stdin, stdout and stderr that no other process shares;
  - all of stdout and stderr is kept, up to a limit of the user for stdout;
  - only `reap` reaps the process, so its pid and session id stay valid until then, and can be signalled safely;
  - what a task leaves in the background when it ends by itself keeps running, as with xargs and GNU parallel.

Nothing here waits: the caller polls and says when there is something to read. Task numbers are counted from 1 where
the task or the user sees them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import NamedTuple

from pipeline.executor.command_template import RenderedCommand
from pipeline.executor.exec_errors import NOT_FOUND_EXIT_CODE, bash_function_note
from pipeline.executor.limits import UNLIMITED_BYTES, timeout_text, too_large_text
from pipeline.executor.outcomes import TaskOutcome, stderr_tail
from pipeline.executor.task_output import MAX_MEMORY_BYTES, TaskContent, TaskText, prefix_lines
from pipeline.executor.task_queue import ChunkInfo
from pipeline.model.messages import FailureKind, PartialOutput, RecordFormat, RunningTask, TaskFailure
from pipeline.model.results import TaskMetrics, encode_metrics

READ_BYTES = 1 << 16  # read at once: what a pipe holds
MAX_FAILURE_COMMAND_CHARS, MAX_ACTIVITY_COMMAND_CHARS = 200, 120  # of the command, in failures and in status displays
CLOSED_FD = -1


class TaskAssignment(NamedTuple):
    """A task given to a slot (from 1) at `assigned_at`, a time.time(). `tag` precedes each line of its output."""

    task: int
    record: bytes
    slot: int
    rendered: RenderedCommand
    chunk_info: ChunkInfo = ChunkInfo()
    record_format: RecordFormat = RecordFormat()
    tag: bytes = b""
    assigned_at: float = 0.0

    def environment(self, base_environment: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Return the base environment with the variables of this task."""
        number, slot = b"%d" % (self.task + 1), b"%d" % self.slot
        return {
            **base_environment,
            b"PIPE_INDEX": number,
            b"PIPE_ATTEMPT": b"%d" % (self.chunk_info.attempt + 1),
            b"PIPE_RUN": self.chunk_info.run.encode(),
            b"PIPE_SLOT": slot,
            b"PARALLEL_SEQ": number,  # as GNU parallel names them
            b"PARALLEL_JOBSLOT": slot,
        }

    def metrics(
        self, queued_seconds: float, seconds: float, cpu_seconds: float, max_rss: int, stderr_size: int
    ) -> bytes:
        """Return the encoded metrics of this task; empty if they are not collected. Sizes are bytes."""
        if not self.record_format.collect_metrics:
            return b""
        queued_seconds, command = max(0.0, queued_seconds), self.rendered.command
        usage = seconds, cpu_seconds, max_rss
        return encode_metrics(
            TaskMetrics(self.assigned_at, queued_seconds, *usage, self.slot, stderr_size, command, self.record)
        )

    def add_tags(self, text: bytes) -> bytes:
        return prefix_lines(text, self.tag)


class TaskProcess:
    """A spawned task. `stdout_fd`, `stderr_fd` and `pidfd` are to be polled for reading until they are CLOSED_FD.

    Times are the caller's, and 0 if the event has not happened. `check_at` is when to check again whether a process
    of a stopped task's session is left. The outcome of a discarded task is not reported.
    """

    __slots__ = (
        "_size_error", "_stderr", "_stdout", "_timeout_seconds", "assignment",
         "check_at", "ended_at", "is_discarded", "is_killed", "line_buffer", "max_output_bytes",
        "pid", "pidfd", "started_at", "stderr_fd", "stdout_fd", "stopped_at",
    )  # fmt: skip

    def __init__(self, assignment: TaskAssignment, pid: int, stdout_fd: int, stderr_fd: int) -> None:
        self.assignment, self.pid, self.stdout_fd, self.stderr_fd = assignment, pid, stdout_fd, stderr_fd
        self.pidfd = os.pidfd_open(pid)
        self.max_output_bytes = UNLIMITED_BYTES
        self.line_buffer = LineBuffer(assignment) if assignment.record_format.stream_output else None
        self.started_at = self.ended_at = self.stopped_at = self.check_at = self._timeout_seconds = 0.0
        self.is_discarded = self.is_killed = False
        self._size_error = ""
        self._stdout, self._stderr = TaskText(assignment.tag), TaskText(assignment.tag)

    @property
    def task(self) -> int:
        return self.assignment.task

    @property
    def is_finished(self) -> bool:
        """Whether the process has ended and all its output is read."""
        return self.pidfd == self.stdout_fd == self.stderr_fd == CLOSED_FD

    def describe_running(self, now: float) -> RunningTask:
        """Return the task's description for status displays."""
        command = shorten_command(self.assignment.rendered.command, MAX_ACTIVITY_COMMAND_CHARS)
        return RunningTask(self.task, self.assignment.slot, round(max(0.0, now - self.started_at), 3), command)

    def read(self, fd: int, *, is_last: bool) -> bool:
        """Read from `fd`, which is ready; return True at its end. `is_last`: no process can write to it any more."""
        data = os.read(fd, READ_BYTES)
        text = self._stderr if fd == self.stderr_fd else self._stdout
        if self.line_buffer and text is self._stdout and not self._size_error:
            self.line_buffer.feed(data)
        try:
            text.append(data)
        except OSError as error:
            self._on_disk_error(error)
        if self._stdout.raw_size > self.max_output_bytes:
            self._fail(too_large_text(self.max_output_bytes))
        return not data or (is_last and len(data) < READ_BYTES)

    def close_fd(self, fd: int) -> None:
        """Close one of the three descriptors."""
        os.close(fd)
        if fd == self.stdout_fd:
            self.stdout_fd = CLOSED_FD
        elif fd == self.stderr_fd:
            self.stderr_fd = CLOSED_FD
        else:
            self.pidfd = CLOSED_FD

    def open_pipes(self) -> list[int]:
        return [fd for fd in (self.stdout_fd, self.stderr_fd) if fd != CLOSED_FD]

    def terminate(self, now: float, timeout_seconds: float) -> None:
        """Ask the task's first process group to end, because it has run longer than `timeout_seconds`."""
        self.stopped_at, self._timeout_seconds = now, timeout_seconds
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGTERM)
            os.killpg(self.pid, signal.SIGCONT)  # a suspended process receives SIGTERM only when it continues

    def reap(self) -> TaskOutcome:
        """Reap the process, which has ended or is about to, and return its outcome. Call it once."""
        self._flush()
        _, status, usage = os.wait4(self.pid, 0)
        code, assignment = os.waitstatus_to_exitcode(status), self.assignment
        content = TaskContent(self._stdout, self._stderr)
        is_large = self._stdout.is_in_file or self._stderr.is_in_file
        output, stderr = (b"", b"") if is_large else (text.read(0, text.size) for text in (self._stdout, self._stderr))
        seconds, cpu_seconds = self.ended_at - self.started_at, usage.ru_utime + usage.ru_stime
        queued_seconds = self.started_at - assignment.chunk_info.received_at
        metrics = assignment.metrics(queued_seconds, seconds, cpu_seconds, usage.ru_maxrss * 1024, len(stderr))
        outcome = TaskOutcome(self.task, output, stderr, None, seconds, b"", metrics)
        if is_large:
            outcome = outcome._replace(large_sizes=content.sizes, content=content)
        if not (code or self._size_error or self.stopped_at):
            return outcome
        kind, number, reason = self._classify_failure(code)
        text, tail = f"{reason}: {shorten_command(assignment.rendered.command)}", stderr_tail(self._stderr.tail)
        failure = TaskFailure(self.task, kind, number, text, tail, len(assignment.record))
        return outcome._replace(failure=failure, record=assignment.record)

    def _classify_failure(self, exit_code: int) -> tuple[FailureKind, int, str]:
        """Return the kind, code and reason of the failure."""
        if self._size_error:
            return "size", 0, self._size_error
        if self.stopped_at:
            return "timeout", signal.SIGKILL if self.is_killed else signal.SIGTERM, timeout_text(self._timeout_seconds)
        if exit_code > 0:
            line = self.assignment.rendered.line or b""
            note = bash_function_note(line, os.environb) if exit_code == NOT_FOUND_EXIT_CODE else ""
            return "exit", exit_code, f"exit {exit_code}{note}"
        return "signal", -exit_code, signal_name(-exit_code)

    def _flush(self) -> None:
        """Write to the files what is not there yet, so that reading them later cannot fail for want of space."""
        try:
            self._stdout.flush()
            self._stderr.flush()
        except OSError as error:
            self._on_disk_error(error)

    def _on_disk_error(self, error: OSError) -> None:
        self._fail(f"cannot store its output in a temporary file: {error.strerror}")
        self._stderr.clear()

    def _fail(self, reason: str) -> None:
        """End the task, whose output is too large, and forget its stdout."""
        if not self._size_error:
            self._size_error = reason
            kill_processes([self])
        self._stdout.clear()


class LineBuffer:
    """Output of a running task that is not reported yet; it is reported in whole lines, tagged as in the output.

    After a line that is too long for memory nothing more is reported: the result has all of it.
    """

    __slots__ = ("_assignment", "_complete_lines", "_partial_line", "_partial_size", "_reported_bytes")

    def __init__(self, assignment: TaskAssignment) -> None:
        self._assignment, self._reported_bytes = assignment, 0
        self._complete_lines: list[bytes] = []
        self._partial_line: list[bytes] = []  # in the pieces in which it came
        self._partial_size = 0

    def feed(self, data: bytes) -> None:
        """Add output of the task."""
        if self._partial_size > MAX_MEMORY_BYTES:
            self._partial_line = []
            return
        lines, newline, rest = data.rpartition(b"\n")
        if newline:
            self._complete_lines += [*self._partial_line, lines, newline]
            self._partial_line, self._partial_size = [], 0
        if rest:
            self._partial_line.append(rest)
            self._partial_size += len(rest)

    def take_lines(self) -> list[PartialOutput]:
        """Remove and return the whole lines, in at most one message."""
        if not self._complete_lines:
            return []
        text, start = self._assignment.add_tags(b"".join(self._complete_lines)), self._reported_bytes
        self._complete_lines, self._reported_bytes = [], start + len(text)
        info = self._assignment.chunk_info
        return [PartialOutput(info.run, self._assignment.task, info.attempt, start, text)]


def kill_processes(processes: list[TaskProcess]) -> None:
    """Kill all that runs in the sessions of these processes, which must not be reaped yet."""
    kill_sessions({process.pid for process in processes})
    for process in processes:
        process.is_killed = True


def kill_sessions(sessions: Collection[int]) -> None:
    """Kill all processes in these sessions, without waiting for their end.

    A session contains all process groups that a task makes; only a daemon, which leads a session itself, has left it.
    """
    for leader in sessions:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    seen: set[int] = set()
    # a process with a pending SIGKILL cannot fork, so a listing without new processes is the last
    while fresh := set(list_alive_pids(sessions) if sessions else ()) - seen:
        seen |= fresh
        for pid in fresh:
            if _is_in_session(pid, sessions):
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)


def list_alive_pids(sessions: Collection[int]) -> list[int]:
    """Return the processes in these sessions that have not ended; a zombie has."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if _is_in_session(pid, sessions) and not _has_ended(pid)]


def _is_in_session(pid: int, sessions: Collection[int]) -> bool:
    try:
        return os.getsid(pid) in sessions
    except OSError:
        return False


def _has_ended(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in b"ZX"
    except OSError:
        return True


def shorten_command(command: bytes, max_chars: int = MAX_FAILURE_COMMAND_CHARS) -> str:
    """Return the command as text, in one line of at most `max_chars` characters."""
    text = command[: 4 * max_chars].decode(errors="backslashreplace").replace("\n", " ")
    return text if len(text) <= max_chars else text[: max_chars - 3] + "..."


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
