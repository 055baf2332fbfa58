"""A folder for each task, laid out as GNU parallel's --results: DIR/1/ARGUMENT/2/ARGUMENT/{stdout,stderr,seq}.

With named columns the names stand where the numbers do. Each file is whole or not there, and a task that is written
again replaces its files, so that nothing needs to be cut back after a crash.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.model.errors import UsageError
from pipeline.output.formats import ResultRow, iter_rows, split_arguments

if TYPE_CHECKING:
    from pipeline.model.events import WriteResult

MAX_NAME_BYTES = 255
"""Bytes in a name on the disk: longer arguments are cut into several, one inside the other."""


class FolderDestination:
    """All of one DIR."""

    writer = None

    def __init__(self, path: str) -> None:
        """Raises UsageError if it plainly can't be written."""
        if os.path.exists(path) and not os.path.isdir(path):
            raise UsageError(f"cannot write --results {path}: it is no folder")
        self.path, self.queued_size, self.written_size = path, 0, 0
        self._pending: list[WriteResult] = []

    def open(self) -> None:
        """Be there. Raises OSError."""
        os.makedirs(self.path, exist_ok=True)

    def write(self, message: WriteResult) -> None:
        """One more result; tries that failed and are run again have no folder."""
        self.queued_size += 1
        self._pending.append(message)

    def write_lines(self, lines: bytes) -> None:
        """Running tasks have no folder."""

    def flush(self) -> None:
        """Write all of them. Raises OSError, naming the task."""
        while self._pending:
            for row in iter_rows(self._pending[0].result) if not self._pending[0].is_retried else ():
                self._write_row(row)
            self._pending.pop(0)
            self.written_size += 1

    def sync(self) -> None:
        """Files are whole by their names; what a power cut takes is written again when the run goes on."""
        os.sync()

    def close(self) -> None:
        """Drop what is not written."""
        self._pending.clear()

    def _write_row(self, row: ResultRow) -> None:
        folder = os.path.join(os.fsencode(self.path), *_path_components(row))
        try:
            os.makedirs(folder, exist_ok=True)
            for name, text in ((b"stdout", row.stdout), (b"stderr", row.stderr), (b"seq", b"%d" % row.number)):
                path = os.path.join(folder, name)
                with open(path + b".new", "wb") as file:
                    file.write(text)
                os.replace(path + b".new", path)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}, for task {row.number}") from None


def _path_components(row: ResultRow) -> list[bytes]:
    """The folders that lead to a task."""
    names, values = split_arguments(row)
    steps: list[bytes] = []
    for at, value in enumerate(values):
        own = _encode_name(value)
        pieces = [own[start : start + MAX_NAME_BYTES] for start in range(0, len(own), MAX_NAME_BYTES)]
        steps += [_encode_name(names[at]) if names else b"%d" % (at + 1), *pieces]
    return steps


def _encode_name(value: bytes) -> bytes:
    """An argument as a name on the disk, as GNU parallel spells it."""
    return value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"/", b"\\_").replace(b"\n", b"\\n")
