"""A folder for each task, laid out as GNU parallel's --results: DIR/1/ARGUMENT/2/ARGUMENT/{stdout,stderr,seq}.

With named columns the names stand where the numbers do. Each file is whole or not there, and a task that is written
again replaces its files, so that nothing needs to be cut back after a crash.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pipeline.output.rows import Row, arguments, rows
from pipeline.words.errors import UsageError

if TYPE_CHECKING:
    from pipeline.words.errands import Write

LONGEST = 255
"""Bytes in a name on the disk: longer arguments are cut into several, one inside the other."""


class Folders:
    """All of one DIR."""

    spout = None

    def __init__(self, path: str) -> None:
        """Raises UsageError if it plainly can't be written."""
        if os.path.exists(path) and not os.path.isdir(path):
            raise UsageError(f"cannot write --results {path}: it is no folder")
        self.path, self.added, self.size = path, 0, 0
        self._words: list[Write] = []

    def open(self) -> None:
        """Be there. Raises OSError."""
        os.makedirs(self.path, exist_ok=True)

    def take(self, word: Write) -> None:
        """One more result; tries that failed and are run again have no folder."""
        self.added += 1
        self._words.append(word)

    def show(self, lines: bytes) -> None:
        """Running tasks have no folder."""

    def pour(self) -> None:
        """Write all of them. Raises OSError, naming the task."""
        while self._words:
            for row in rows(self._words[0].result) if not self._words[0].tried else ():
                self._write(row)
            self._words.pop(0)
            self.size += 1

    def sync(self) -> None:
        """Files are whole by their names; what a power cut takes is written again when the run goes on."""
        os.sync()

    def close(self) -> None:
        """Drop what is not written."""
        self._words.clear()

    def _write(self, row: Row) -> None:
        folder = os.path.join(os.fsencode(self.path), *_steps(row))
        try:
            os.makedirs(folder, exist_ok=True)
            for name, text in ((b"stdout", row.stdout), (b"stderr", row.stderr), (b"seq", b"%d" % row.number)):
                path = os.path.join(folder, name)
                with open(path + b".new", "wb") as file:
                    file.write(text)
                os.replace(path + b".new", path)
        except OSError as error:
            raise OSError(error.errno, f"{error.strerror}, for task {row.number}") from None


def _steps(row: Row) -> list[bytes]:
    """The folders that lead to a task."""
    names, values = arguments(row)
    steps: list[bytes] = []
    for at, value in enumerate(values):
        own = _named(value)
        pieces = [own[start : start + LONGEST] for start in range(0, len(own), LONGEST)]
        steps += [_named(names[at]) if names else b"%d" % (at + 1), *pieces]
    return steps


def _named(value: bytes) -> bytes:
    """An argument as a name on the disk, as GNU parallel spells it."""
    return value.replace(b"\\", b"\\\\").replace(b"\t", b"\\t").replace(b"/", b"\\_").replace(b"\n", b"\\n")
