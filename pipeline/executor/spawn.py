"""From an assignment to a running child, and what is said of a task that could not be started.

It finds programs, once each, and makes the pipes; it has no memory of what it has started. A command that is not
there is told before any task, where it is the same for all. Nothing here waits.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

from pipeline.executor.outcomes import TaskOutcome
from pipeline.executor.task_process import CLOSED_FD, TaskAssignment, TaskProcess, shorten_command
from pipeline.model.errors import UsageError
from pipeline.model.messages import TaskFailure

DEFAULT_SIGNALS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
NOT_FOUND_EXIT_CODE = 127
SHELL_EXIT_CODES = {
    errno.ENOENT: NOT_FOUND_EXIT_CODE,
    errno.ENOTDIR: NOT_FOUND_EXIT_CODE,
    errno.EACCES: 126,
    errno.ENOEXEC: 126,
}
"""What a shell says of a command that can't be executed."""


class TaskSpawner:
    """Starts tasks with this process's environment; with `stdin`, a task is what it reads.

    Raises UsageError for a `program` that is not found.
    """

    def __init__(self, program: bytes | None, *, stdin: bool = False) -> None:
        self._program_paths: dict[bytes, bytes | None] = {}
        # what stands in braces may be a column's name: then it is the task that says what to run
        if program is not None and self._find_cached(program) is None and b"{" not in program:
            raise UsageError(not_found_text(program))
        self._environment, self._stdin = dict(os.environb), stdin
        self._null_fd = os.open(os.devnull, os.O_RDONLY)

    @property
    def is_closed(self) -> bool:
        """Whether it starts no more."""
        return self._null_fd == CLOSED_FD

    def start(self, assignment: TaskAssignment) -> TaskProcess:
        """Start it. Raises as `spawn` does."""
        stdin = create_memfd(assignment.record) if self._stdin else self._null_fd
        environment, rendered = assignment.environment(self._environment), assignment.rendered
        program = None if rendered.program is None else self._find_cached(rendered.program)
        try:
            return spawn_process(assignment, program, environment, stdin)
        except OSError as fault:
            if fault.errno != errno.ENOEXEC or program is None:
                raise
            # a script without a #! line is the shell's, as everywhere
            scripted = rendered._replace(argv=[b"sh", program, *rendered.argv[1:]])
            child = spawn_process(assignment._replace(rendered=scripted), b"/bin/sh", environment, stdin)
            child.assignment = assignment
            return child
        finally:
            if self._stdin:
                os.close(stdin)

    def close(self) -> None:
        """Let go of everything."""
        os.close(self._null_fd)
        self._null_fd = CLOSED_FD

    def _find_cached(self, program: bytes) -> bytes | None:
        """As `found`, looked for once for each word."""
        if program not in self._program_paths:
            self._program_paths[program] = find_program(program)
        return self._program_paths[program]


def spawn_process(
    assignment: TaskAssignment, program: bytes | None, environment: Mapping[bytes, bytes], stdin: int
) -> TaskProcess:
    """Start it in a session of its own; `program` is the file, or None: look argv[0] up in PATH.

    Raises OSError when that can't be done: EINVAL when a word holds a NUL byte.
    """
    start = os.posix_spawnp if program is None else os.posix_spawn
    argv = assignment.rendered.argv
    ends = list(os.pipe())
    try:
        ends += os.pipe()
        out, out_end, err, err_end = ends
        pid = start(
            argv[0] if program is None else program,
            argv,
            environment,
            file_actions=(
                (os.POSIX_SPAWN_DUP2, stdin, 0),
                (os.POSIX_SPAWN_DUP2, out_end, 1),
                (os.POSIX_SPAWN_DUP2, err_end, 2),
            ),
            setsid=True,
            setsigmask=(),
            setsigdef=DEFAULT_SIGNALS,
        )
    except (OSError, ValueError) as fault:
        for fd in ends:
            os.close(fd)
        if isinstance(fault, ValueError):
            raise OSError(errno.EINVAL, "a command can't hold a NUL byte") from fault
        raise
    os.close(out_end)  # before the Child is made: it needs a file descriptor, and now there is one
    os.close(err_end)
    return TaskProcess(assignment, pid, out, err)


def find_program(program: bytes) -> bytes | None:
    """The file that `word` names, by PATH unless it has a slash; None when there is none."""
    places = [""] if b"/" in program else os.get_exec_path()
    for place in places:
        path = os.path.join(os.fsencode(place), program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def not_found_text(program: bytes) -> str:
    """Why that is no program, and what to do."""
    name = os.fsdecode(program)
    if b"/" not in program:
        return f"command not found: {name}; no folder of PATH has it"
    if os.path.isdir(program):
        return f"{name} is a folder, not a command"
    if os.path.exists(program):
        return f"{name} is not executable: chmod +x it, or name what runs it before it"
    return f"command not found: {name}"


def create_memfd(record: bytes) -> int:
    """A file of no name that holds `record`, to be read from its start. It never blocks, as a pipe would."""
    file = os.memfd_create("task")
    left = memoryview(record)
    while left:
        left = left[os.write(file, left) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def os_error_outcome(assignment: TaskAssignment, error: OSError, now: float) -> TaskOutcome:
    """The outcome of a task that could not be started, with the codes that a shell has for it."""
    code = SHELL_EXIT_CODES.get(error.errno or 0, 0)
    if not code:
        return start_failure(assignment, f"{error.strerror}: {shorten_command(assignment.rendered.command)}", now)
    program = shorten_command(b"".join(assignment.rendered.argv[:1]))
    why = "command not found" if code == NOT_FOUND_EXIT_CODE else error.strerror
    text = f"exit {code}: {why}: {program}"  # as a shell would say it: a note of an exit code alone is not shown
    errors = assignment.add_tags(f"{text}\n".encode())
    return start_failure(assignment, text, now)._replace(
        stderr=errors,
        failure=TaskFailure(assignment.task, "exit", code, text, text, len(assignment.record)),
        metrics=assignment.metrics(now - assignment.chunk_info.received_at, 0.0, 0.0, 0, len(errors)),
    )


def start_failure(assignment: TaskAssignment, text: str, now: float) -> TaskOutcome:
    """The outcome of a task that can't be run, and why. Times are those of time.monotonic()."""
    account = assignment.metrics(now - assignment.chunk_info.received_at, 0.0, 0.0, 0, 0)
    note = TaskFailure(assignment.task, "exception", 1, text, "", len(assignment.record))
    return TaskOutcome(assignment.task, b"", b"", note, 0.0, assignment.record, account)
