r"""Names of the directories of --results: DIR/1/ARGUMENT/2/ARGUMENT, as by GNU parallel.

Named columns, in GNU parallel's order, replace the numbers. Invariants:
  - each task of a run has a directory of its own, below DIR. If the name belongs to another task, or the file system
    refuses it, the suffix `\#` with the task's number is added;
  - no component is empty, `.` or `..`, or contains a slash;
  - a task that is written again gets the same directory: the number in its file `seq` says whose it is;
  - a directory of an earlier run is used again.

The run is stored in the fraction of the modification time of `seq`: so the layout needs no other file, and a restarted
sink no memory. Where the file system keeps no fractions, every directory counts as one of this run.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO
from zlib import crc32

from pipeline.output.formats import ResultRow, split_arguments

FILE_NAMES = (b"stdout", b"stderr", b"seq")
MAX_NAME_BYTES = 255
"""Bytes of a file name, where the file system does not say how many it accepts."""
SECOND, COARSEST_FRACTION, MARK_UNIT = 1_000_000_000, 10_000_000, 1000
"""Nanoseconds. File systems with times coarser than the unit of marks have times that are multiples of 10 ms."""
UNUSABLE_NAME_ERRORS = {
    errno.EEXIST,
    errno.EILSEQ,
    errno.EINVAL,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
}
"""Errors that another name may not have: it is too long, has refused bytes, or has a file in its way."""
_ESCAPES = ((b"\\", b"\\\\"), (b"\t", b"\\t"), (b"\n", b"\\n"), (b"\0", b"\\0"), (b"/", b"\\_"))
_SPECIAL_NAMES = {b"": b"\\e", b".": b"\\.", b"..": b"\\.."}
_LEADING_NUMBER = re.compile(rb"\s*([-+]?\d+(?:\.\d+)?)")


class FolderNames:
    """The directories of tasks below `path`."""

    def __init__(self, path: str) -> None:
        self._path, self._max_name_bytes = os.fsencode(path), MAX_NAME_BYTES

    def open(self) -> None:
        """Create `path`. Raises OSError."""
        os.makedirs(self._path, exist_ok=True)
        with suppress(OSError):
            self._max_name_bytes = os.pathconf(self._path, "PC_NAME_MAX")

    def claim(self, row: ResultRow) -> bytes:
        """Return the directory of this task, created and with its `seq`. Raises OSError."""
        parts, suffix = self._components(row), b"\\#%d" % row.number
        numbered = parts[-1][: self._max_name_bytes - len(suffix)] + suffix
        for components in (parts, [*parts[:-1], numbered], [suffix]):
            try:
                if directory := self._try_claim(components, row):
                    return directory
            except OSError as error:
                if error.errno not in UNUSABLE_NAME_ERRORS:
                    raise
        raise FileExistsError(errno.EEXIST, f"{suffix.decode()} contains other files")

    def _components(self, row: ResultRow) -> list[bytes]:
        names, values = split_arguments(row)
        columns = [(names[index] if names else b"%d" % (index + 1), value) for index, value in enumerate(values)]
        if names:
            columns.sort(key=lambda column: _sort_key(column[0]))
        return [_encode_name(text)[: self._max_name_bytes] for column in columns for text in column] or [b"\\e"]

    def _try_claim(self, components: list[bytes], row: ResultRow) -> bytes:
        """Return the directory, or b"" if another task of the run has it. Raises OSError."""
        directory, mark = os.path.join(self._path, *components), crc32(row.result.run.encode()) % 1_000_000 * MARK_UNIT
        try:
            os.mkdir(directory)
        except FileNotFoundError:
            _make_directories(self._path, components)
        except FileExistsError:
            if not _is_available(directory, b"%d" % row.number, mark):
                return b""
        with replace_file(directory, b"seq") as file:
            file.write(b"%d" % row.number)
            file.flush()
            now = time.time_ns()
            os.utime(file.fileno(), ns=(now, now // SECOND * SECOND + mark))
        return directory


@contextmanager
def replace_file(directory: bytes, name: bytes) -> Iterator[IO[bytes]]:
    """Open a file that replaces this one at the end. Raises OSError."""
    path = os.path.join(directory, b"\\" + name + b".new")  # no argument has this name
    with open(path, "wb") as file:
        yield file
    os.replace(path, os.path.join(directory, name))


def _make_directories(path: bytes, components: list[bytes]) -> None:
    """Create what is missing of nested directories. They may be deeper than os.makedirs can recurse."""
    for component in components:
        path = os.path.join(path, component)
        with suppress(FileExistsError):
            os.mkdir(path)


def _is_available(directory: bytes, number: bytes, mark: int) -> bool:
    """Return whether this directory is the one of this task, or of an earlier run. Raises OSError."""
    if any(os.path.isdir(os.path.join(directory, name)) for name in FILE_NAMES):
        return False
    try:
        with open(os.path.join(directory, b"seq"), "rb") as file:
            fraction = os.fstat(file.fileno()).st_mtime_ns % SECOND
            return file.read(len(number) + 1) == number or (fraction != mark and fraction % COARSEST_FRACTION != 0)
    except FileNotFoundError:
        return True


def _encode_name(text: bytes) -> bytes:
    """Return an argument as a file name, escaped as by GNU parallel."""
    for char, escape in _ESCAPES:
        text = text.replace(char, escape)
    return _SPECIAL_NAMES.get(text, text)


def _sort_key(name: bytes) -> tuple[float, bytes]:
    """Return the key of a column's name: first by the number that it begins with, if any."""
    match = _LEADING_NUMBER.match(name)
    return float(match[1]) if match else 0.0, name
