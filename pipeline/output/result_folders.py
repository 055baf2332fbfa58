r"""A directory for each task, laid out as by GNU parallel's --results: DIR/1/ARGUMENT/2/ARGUMENT/{stdout,stderr,seq}.

Named columns replace the numbers. Invariants:
  - each file is complete or does not exist;
  - a task that is written again replaces its files, so a resumed run needs no truncation.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.model.errors import UsageError
from pipeline.output.formats import ResultRow, iter_rows, split_arguments

if TYPE_CHECKING:
    from pipeline.model.events import WriteResult

MAX_NAME_BYTES = 255
"""Bytes of a file name: a longer argument is split into nested directories."""


class FolderDestination:
    """The directories of all tasks below `path`; sizes are numbers of results."""

    writer = None

    def __init__(self, path: str) -> None:
        """Raise UsageError if `path` is not a directory."""
        if os.path.exists(path) and not os.path.isdir(path):
            raise UsageError(f"cannot write --results {path}: not a directory", "choose another directory")
        self.path, self.queued_size, self.written_size = path, 0, 0
        self._pending: list[WriteResult] = []

    def open(self) -> None:
        """Create the directory. Raises OSError."""
        os.makedirs(self.path, exist_ok=True)

    def write(self, message: WriteResult) -> None:
        """Queue a result; attempts that are retried get no directory."""
        self.queued_size += 1
        self._pending.append(message)

    def write_lines(self, lines: bytes) -> None:
        """Ignore lines of running tasks: they get no directory."""

    def flush(self) -> None:
        """Write all queued results. Raises OSError that names the task."""
        while self._pending:
            for row in iter_rows(self._pending[0].result) if not self._pending[0].is_retried else ():
                self._write_row(row)
            self._pending.pop(0)
            self.written_size += 1

    def sync(self) -> None:
        """Sync all files: there may be too many to sync one by one."""
        os.sync()

    def close(self) -> None:
        """Drop what is not written."""
        self._pending.clear()

    def _write_row(self, row: ResultRow) -> None:
        directory = os.path.join(os.fsencode(self.path), *_path_components(row))
        try:
            os.makedirs(directory, exist_ok=True)
            for name, text in ((b"stdout", row.stdout), (b"stderr", row.stderr), (b"seq", b"%d" % row.number)):
                path = os.path.join(directory, name)
                with open(path + b".new", "wb") as file:
                    file.write(text)
                os.replace(path + b".new", path)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}, for task {row.number}") from None


def _path_components(row: ResultRow) -> list[bytes]:
    names, values = split_arguments(row)
    components: list[bytes] = []
    for index, value in enumerate(values):
        name = _encode_name(value)
        components.append(_encode_name(names[index]) if names else b"%d" % (index + 1))
        components += [name[start : start + MAX_NAME_BYTES] for start in range(0, len(name), MAX_NAME_BYTES)]
    return components


def _encode_name(value: bytes) -> bytes:
    """Return an argument as a file name, escaped as by GNU parallel."""
    return value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"/", b"\\_").replace(b"\n", b"\\n")
