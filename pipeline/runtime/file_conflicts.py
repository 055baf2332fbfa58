"""Files that a run would both read and write, or write twice.

- Files are compared by device and inode, so also through links; one that does not exist yet by its folder and name.
- Pipes, terminals and other devices may be shared, so they are never in conflict.
- The ventilator and the sink of a pipeline may be separate commands. So each marks its files, and looks for marks of
  the other: the second one to start refuses a file of both. This works on one machine.
- Nothing here changes a file.
"""

from __future__ import annotations

import fcntl
import os
import stat
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING
from zlib import crc32

from msgspec import Struct

from pipeline.model.errors import UsageError
from pipeline.runtime import run_files

if TYPE_CHECKING:
    from pipeline.config.settings import Settings

STDIN_FD, STDOUT_FD, STDERR_FD = 0, 1, 2
MARKS_OFFSET = 1 << 62
"""Marks are locks of single bytes from here on, where no file has content."""
LOCK_STRUCT = struct.Struct("hhqqi4x")
"""Linux' struct flock: type, whence, offset, length and pid."""


class RunFile(Struct, frozen=True):
    """A file of the run. `role` is an option or a noun, and a descriptor of this process has no other name.

    The run may read it as its input, too, if `may_be_input`.
    """

    role: str
    path: str | int
    may_be_input: bool = False

    @property
    def name(self) -> str:
        """The name for messages."""
        return f"{self.role} {self.path}" if isinstance(self.path, str) else self.role


def input_files(settings: Settings) -> list[RunFile]:
    """Return the files that the run reads: its tasks, and the functions of --call and --init."""
    paths = [*settings.files]
    for source in settings.argument_sources:
        paths += source.arguments if source.separator.startswith("::::") else ()
    files = [RunFile("input", path) for path in paths if path != run_files.STDIN]
    if run_files.reads_stdin(settings) or run_files.STDIN in paths:
        files.append(RunFile("stdin", STDIN_FD))
    for flag, function in (("--call", settings.call), ("--init", settings.init)):
        path = function.rpartition(":")[0]
        files += [RunFile(flag, path)] if path.endswith(".py") else []
    return files


def output_files(settings: Settings) -> list[RunFile]:
    """Return the files and folders that the run writes."""
    new_letters = run_files.unfinished_path(settings)
    journal_role = "--journal" if settings.journal else "the journal"
    database_journal = f"{settings.output}-journal" if settings.output.endswith(".sqlite") else ""
    named = [
        RunFile("-o", settings.output),
        RunFile("the database's journal", database_journal),
        RunFile("--failed", settings.failed, may_be_input=new_letters != ""),
        RunFile("--failed", new_letters),
        RunFile("--joblog", settings.joblog),
        RunFile("--results", settings.results_folder),
        RunFile(journal_role, run_files.journal_path(settings)),
        RunFile("the spill", run_files.spill_path(settings)),
        RunFile("--spool" if settings.spool else "the spool", run_files.spool_path(settings)),
    ]
    files = [file for file in named if file.path]
    writes_stdout = not (settings.output or settings.results_folder)
    if writes_stdout:
        files.append(RunFile("stdout", STDOUT_FD))
    if not writes_stdout or _file_key(STDERR_FD) != _file_key(
        STDOUT_FD
    ):  # a user who joins them wants both in one file
        files.append(RunFile("stderr", STDERR_FD))
    return files


def check_conflicts(inputs: Sequence[RunFile], outputs: Sequence[RunFile]) -> None:
    """Raise UsageError if an output is an input, or another output."""
    read = {key: file for file in inputs if (key := _file_key(file.path))}
    written: dict[tuple[int | str, ...], RunFile] = {}
    for output in outputs:
        key = _file_key(output.path)
        if key in read and not output.may_be_input:
            raise _input_conflict(output.name, read[key].name)
        if key and (other := written.setdefault(key, output)) is not output:
            raise UsageError(f"{other.name} and {output.name} are the same file", "give each its own file")


def _input_conflict(output_name: str, input_name: str) -> UsageError:
    hint = "write to another file, and rename it when the run is complete"
    return UsageError(f"{output_name} and {input_name} are the same file", hint)


def _file_key(file: str | int) -> tuple[int | str, ...] | None:
    """Return what is equal only for the same file; None for a device or pipe."""
    missing: tuple[str, ...] = ()
    while True:
        try:
            status = os.stat(file)
        except OSError:
            if isinstance(file, int):
                return None
            file, name = os.path.split(os.path.realpath(file))
            missing = (name, *missing)
        else:
            is_shared = any(kind(status.st_mode) for kind in (stat.S_ISCHR, stat.S_ISFIFO, stat.S_ISSOCK))
            return None if is_shared else (status.st_dev, status.st_ino, *missing)


class FileMarks:
    """Marks of the ventilator or the sink on its files, for the other one of the same pipeline.

    A mark is a shared lock of a byte that depends on pipeline and role, so it conflicts with no lock of others.
    """

    def __init__(self, results_endpoint: str, role: str) -> None:
        """`results_endpoint` is what both stations know of their pipeline, of tcp only the port."""
        is_tcp = results_endpoint.startswith("tcp:")
        key = results_endpoint.rpartition(":")[2] if is_tcp else results_endpoint
        offset = MARKS_OFFSET + 2 * crc32(os.fsencode(key))
        self._own_offset, self._other_offset = (offset, offset + 1) if role == "sink" else (offset + 1, offset)
        self._role, self._fds = role, list[int]()

    def add(self, files: Sequence[RunFile], max_count: int) -> None:
        """Mark these files, at most `max_count` of them: those that exist and can be read, where locks are possible.

        Raises UsageError for a file that the other station has marked.
        """
        for file in files:
            path = file.path if isinstance(file.path, str) else f"/proc/self/fd/{file.path}"
            is_marked = False
            with suppress(OSError):
                if not file.may_be_input and stat.S_ISREG(os.stat(path).st_mode) and len(self._fds) < max_count:
                    self._fds.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
                    is_marked = self._is_marked_by_other(self._fds[-1])
            if is_marked and self._role == "sink":
                raise _input_conflict(file.name, "an input of this pipeline's ventilator")
            if is_marked:
                raise _input_conflict("an output of this pipeline's sink", file.name)

    def close(self) -> None:
        """Remove all marks."""
        while self._fds:
            os.close(self._fds.pop())

    def _is_marked_by_other(self, fd: int) -> bool:
        """Mark the file, then return whether the other station has marked it. Raises OSError."""
        mark = LOCK_STRUCT.pack(fcntl.F_RDLCK, os.SEEK_SET, self._own_offset, 1, 0)
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, mark)
        request = LOCK_STRUCT.pack(fcntl.F_WRLCK, os.SEEK_SET, self._other_offset, 1, 0)
        kind, _, offset, size, _ = LOCK_STRUCT.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, request))
        return (kind, offset, size) == (fcntl.F_RDLCK, self._other_offset, 1)
