"""A directory for each task, laid out as by GNU parallel's --results, with the files stdout, stderr and seq.

Invariants:
  - each file is complete or does not exist;
  - a task that is written again replaces its files, so a resumed run needs no truncation.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.model.errors import UsageError
from pipeline.output.file_writer import FILL_STEPS
from pipeline.output.folder_names import FolderNames, replace_file
from pipeline.output.formats import ResultRow, iter_rows
from pipeline.output.large_text import iter_chunks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pipeline.model.events import WriteResult


class FolderDestination:
    """The directories of all tasks below `path`; sizes are numbers of results."""

    writer = None

    def __init__(self, path: str) -> None:
        """Raise UsageError if `path` is not a directory."""
        if os.path.exists(path) and not os.path.isdir(path):
            raise UsageError(f"cannot write --results {path}: not a directory", "choose another directory")
        self.path, self.queued_size, self.written_size = path, 0, 0
        self._names, self._pending = FolderNames(path), list["WriteResult"]()
        self._copying: Iterator[None] | None = None
        """The steps that are left of writing the first result, which is large."""

    @property
    def is_filling(self) -> bool:
        """Whether a large result is not written yet."""
        return bool(self._pending)

    def open(self) -> None:
        """Create the directory. Raises OSError."""
        self._names.open()

    def write(self, message: WriteResult) -> None:
        """Queue a result; attempts that are retried get no directory."""
        self.queued_size += 1
        self._pending.append(message)

    def write_lines(self, lines: bytes) -> None:
        """Ignore lines of running tasks: they get no directory."""

    def flush(self) -> None:
        """Write all queued results. Raises OSError that names the task."""
        while self._pending:
            message = self._pending[0]
            if message.result.large_sizes and not message.is_retried:
                if not self._copy(message):
                    return
            else:
                for row in iter_rows(message.result) if not message.is_retried else ():
                    for _ in self._write_row(row):
                        pass
            self._pending.pop(0)
            self.written_size += 1

    def sync(self) -> None:
        """Sync all files: there may be too many to sync one by one."""
        os.sync()

    def close(self) -> None:
        """Drop what is not written."""
        self._pending.clear()

    def _copy(self, message: WriteResult) -> bool:
        """Write more of a large result, from the start after an OSError. Return whether all is written."""
        self._copying = self._copying or self._write_row(next(iter_rows(message.result)))
        steps, self._copying = self._copying, None
        for _ in range(FILL_STEPS):
            if next(steps, self) is self:
                return True
        self._copying = steps
        return False

    def _write_row(self, row: ResultRow) -> Iterator[None]:
        """Write the files of a task, in steps if they are large."""
        try:
            directory = self._names.claim(row)
            for name, text in ((b"stdout", row.stdout), (b"stderr", row.stderr)):
                with replace_file(directory, name) as file:
                    for chunk in iter_chunks(text):
                        file.write(chunk)
                        yield
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}, for task {row.number}") from None
