"""From an assignment to a running child, and what is said of a task that could not be started.

It finds programs, once each, and makes the pipes; it has no memory of what it has started. A command that is not
there is told before any task, where it is the same for all. Nothing here waits.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Mapping

from pipeline.executor.assignment import Assignment
from pipeline.executor.child import CLOSED, Child, shown
from pipeline.executor.outcomes import Outcome
from pipeline.words.errors import UsageError
from pipeline.words.parts import Note

DEFAULTS = tuple(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
NOT_FOUND = 127
EXIT_CODES = {errno.ENOENT: NOT_FOUND, errno.ENOTDIR: NOT_FOUND, errno.EACCES: 126, errno.ENOEXEC: 126}
"""What a shell says of a command that can't be executed."""


class Spawner:
    """Starts tasks with this process's environment; with `stdin`, a task is what it reads.

    Raises UsageError for a `program` that is not found.
    """

    def __init__(self, program: bytes | None, *, stdin: bool = False) -> None:
        self._programs: dict[bytes, bytes | None] = {}
        # what stands in braces may be a column's name: then it is the task that says what to run
        if program is not None and self._found(program) is None and b"{" not in program:
            raise UsageError(unfound(program))
        self._environment, self._stdin = dict(os.environb), stdin
        self._null = os.open(os.devnull, os.O_RDONLY)

    @property
    def closed(self) -> bool:
        """Whether it starts no more."""
        return self._null == CLOSED

    def start(self, given: Assignment) -> Child:
        """Start it. Raises as `spawn` does."""
        stdin = file_of(given.record) if self._stdin else self._null
        environment, rendered = given.environment(self._environment), given.rendered
        program = None if rendered.program is None else self._found(rendered.program)
        try:
            return spawn(given, program, environment, stdin)
        except OSError as fault:
            if fault.errno != errno.ENOEXEC or program is None:
                raise
            # a script without a #! line is the shell's, as everywhere
            scripted = rendered._replace(argv=[b"sh", program, *rendered.argv[1:]])
            child = spawn(given._replace(rendered=scripted), b"/bin/sh", environment, stdin)
            child.assignment = given
            return child
        finally:
            if self._stdin:
                os.close(stdin)

    def close(self) -> None:
        """Let go of everything."""
        os.close(self._null)
        self._null = CLOSED

    def _found(self, word: bytes) -> bytes | None:
        """As `found`, looked for once for each word."""
        if word not in self._programs:
            self._programs[word] = found(word)
        return self._programs[word]


def spawn(given: Assignment, program: bytes | None, environment: Mapping[bytes, bytes], stdin: int) -> Child:
    """Start it in a session of its own; `program` is the file, or None: look argv[0] up in PATH.

    Raises OSError when that can't be done: EINVAL when a word holds a NUL byte.
    """
    start = os.posix_spawnp if program is None else os.posix_spawn
    argv = given.rendered.argv
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
            setsigdef=DEFAULTS,
        )
    except (OSError, ValueError) as fault:
        for fd in ends:
            os.close(fd)
        if isinstance(fault, ValueError):
            raise OSError(errno.EINVAL, "a command can't hold a NUL byte") from fault
        raise
    os.close(out_end)  # before the Child is made: it needs a file descriptor, and now there is one
    os.close(err_end)
    return Child(given, pid, out, err)


def found(word: bytes) -> bytes | None:
    """The file that `word` names, by PATH unless it has a slash; None when there is none."""
    places = [""] if b"/" in word else os.get_exec_path()
    for place in places:
        path = os.path.join(os.fsencode(place), word)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def unfound(word: bytes) -> str:
    """Why that is no program, and what to do."""
    name = os.fsdecode(word)
    if b"/" not in word:
        return f"command not found: {name}; no folder of PATH has it"
    if os.path.isdir(word):
        return f"{name} is a folder, not a command"
    if os.path.exists(word):
        return f"{name} is not executable: chmod +x it, or name what runs it before it"
    return f"command not found: {name}"


def file_of(record: bytes) -> int:
    """A file of no name that holds `record`, to be read from its start. It never blocks, as a pipe would."""
    file = os.memfd_create("task")
    left = memoryview(record)
    while left:
        left = left[os.write(file, left) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def failed(given: Assignment, fault: OSError, now: float) -> Outcome:
    """The outcome of a task that could not be started, with the codes that a shell has for it."""
    code = EXIT_CODES.get(fault.errno or 0, 0)
    if not code:
        return unstarted(given, f"{fault.strerror}: {shown(given.rendered.command)}", now)
    program = shown(b"".join(given.rendered.argv[:1]))
    why = "command not found" if code == NOT_FOUND else fault.strerror
    text = f"exit {code}: {why}: {program}"  # as a shell would say it: a note of an exit code alone is not shown
    errors = given.tagged(f"{text}\n".encode())
    return unstarted(given, text, now)._replace(
        errors=errors,
        note=Note(given.task, "exit", code, text, text, len(given.record)),
        account=given.account(now - given.lot.since, 0.0, 0.0, 0, len(errors)),
    )


def unstarted(given: Assignment, text: str, now: float) -> Outcome:
    """The outcome of a task that can't be run, and why. Times are those of time.monotonic()."""
    account = given.account(now - given.lot.since, 0.0, 0.0, 0, 0)
    note = Note(given.task, "exception", 1, text, "", len(given.record))
    return Outcome(given.task, b"", b"", note, 0.0, given.record, account)
