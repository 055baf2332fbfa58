"""Start of task processes, and the outcome of a task that could not be started.

Invariants:
  - each program is looked up once, and a missing one that all tasks need is reported before any task;
  - no call blocks, and a started process is not remembered here.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

from pipeline.executor.exec_errors import EXIT_CODES, describe_exec_error, find_program, is_binary, not_found_error
from pipeline.executor.outcomes import TaskOutcome
from pipeline.executor.task_process import CLOSED_FD, TaskAssignment, TaskProcess, shorten_command
from pipeline.model.messages import TaskFailure
from pipeline.system.signals import ALL_SIGNALS

DEFAULT_SIGNALS = tuple(ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP})


class TaskSpawner:
    """Starts tasks with this process's environment; with `stdin`, the record is the task's stdin.

    Raises UsageError for a `program` that is not found.
    """

    def __init__(self, program: bytes | None, *, stdin: bool = False) -> None:
        self._program_paths: dict[bytes, bytes | None] = {}
        # braces may hold a column's name: then each task says what to run
        if program is not None and self._find_cached(program) is None and b"{" not in program:
            raise not_found_error(program)
        self._environment, self._stdin = dict(os.environb), stdin
        self._null_fd = os.open(os.devnull, os.O_RDONLY)

    @property
    def is_closed(self) -> bool:
        return self._null_fd == CLOSED_FD

    def start(self, assignment: TaskAssignment) -> TaskProcess:
        """Start the task. Raise OSError as `spawn_process` does."""
        stdin = create_memfd(assignment.record) if self._stdin else self._null_fd
        environment, rendered = assignment.environment(self._environment), assignment.rendered
        program = None if rendered.program is None else self._find_cached(rendered.program)
        try:
            return spawn_process(assignment, program, environment, stdin)
        except OSError as error:
            path = (program or find_program(rendered.argv[0])) if error.errno == errno.ENOEXEC else None
            if path is None or is_binary(path):
                raise
            # a script without a #! line is run by the shell, as everywhere
            script = rendered._replace(argv=[b"sh", path, *rendered.argv[1:]])
            process = spawn_process(assignment._replace(rendered=script), b"/bin/sh", environment, stdin)
            process.assignment = assignment
            return process
        finally:
            if self._stdin:
                os.close(stdin)

    def close(self) -> None:
        os.close(self._null_fd)
        self._null_fd = CLOSED_FD

    def _find_cached(self, program: bytes) -> bytes | None:
        if program not in self._program_paths:
            self._program_paths[program] = find_program(program)
        return self._program_paths[program]


def spawn_process(
    assignment: TaskAssignment, program: bytes | None, environment: Mapping[bytes, bytes], stdin: int
) -> TaskProcess:
    """Start the task in a session of its own; `program` is the file, or None to look argv[0] up in PATH.

    Raises OSError; the error is EINVAL when an argument contains a NUL byte.
    """
    start = os.posix_spawnp if program is None else os.posix_spawn
    argv = assignment.rendered.argv
    fds = list(os.pipe())
    try:
        fds += os.pipe()
        stdout, child_stdout, stderr, child_stderr = fds
        pid = start(
            argv[0] if program is None else program,
            argv,
            environment,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, child_stdout, 1),
                (os.POSIX_SPAWN_DUP2, child_stderr, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except (OSError, ValueError) as error:
        for fd in fds:
            os.close(fd)
        if isinstance(error, ValueError):
            raise OSError(errno.EINVAL, "a command cannot contain a NUL byte") from error
        raise
    os.close(child_stdout)  # before TaskProcess opens its pidfd: now a file descriptor is free for it
    os.close(child_stderr)
    return TaskProcess(assignment, pid, stdout, stderr)


def create_memfd(record: bytes) -> int:
    """Return an unnamed file that contains the record, at its start. Unlike a pipe, writing it never blocks."""
    fd = os.memfd_create("task")
    unwritten = memoryview(record)
    while unwritten:
        unwritten = unwritten[os.write(fd, unwritten) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def os_error_outcome(assignment: TaskAssignment, error: OSError, now: float) -> TaskOutcome:
    """Return the outcome of a task that could not be started, with the exit codes of a shell."""
    number, argv = error.errno or 0, assignment.rendered.argv
    if number not in EXIT_CODES:
        return start_failure(assignment, f"{error.strerror}: {shorten_command(assignment.rendered.command)}", now)
    code, reason = EXIT_CODES[number], describe_exec_error(number, argv, assignment.environment(os.environb))
    text = f"exit {code}: {reason}"  # also on stderr, as a shell does: an exit code alone is not shown
    stderr = assignment.add_tags(f"{text}\n".encode())
    return start_failure(assignment, text, now)._replace(
        stderr=stderr,
        failure=TaskFailure(assignment.task, "exit", code, text, text, len(assignment.record)),
        metrics=assignment.metrics(now - assignment.chunk_info.received_at, 0.0, 0.0, 0, len(stderr)),
    )


def start_failure(assignment: TaskAssignment, text: str, now: float) -> TaskOutcome:
    """Return the outcome of a task that cannot be run. `now` is a time.monotonic()."""
    metrics = assignment.metrics(now - assignment.chunk_info.received_at, 0.0, 0.0, 0, 0)
    failure = TaskFailure(assignment.task, "exception", 1, text, "", len(assignment.record))
    return TaskOutcome(assignment.task, b"", b"", failure, 0.0, assignment.record, metrics)
