"""Destinations of results: a file or stdout, a database, a directory for each task.

A destination accepts each WriteResult once, in order, reports how much it has accepted and how much of that is
written, and never waits for a slow reader.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol

from pipeline.output import formats
from pipeline.output.file_writer import FileDestination
from pipeline.storage.disk_io import Syscalls

if TYPE_CHECKING:
    from pipeline.model.events import WriteResult
    from pipeline.output.file_writer import NonblockingWriter

STRUCTURED_SUFFIXES = (".jsonl", ".csv", ".sqlite")
"""Endings of -o FILE that ask for more than the output of tasks."""
DESTINATION_COUNT = 4
"""In `sizes`: the output, dead letters, the job log, and result directories (whose size is not needed)."""


class ProgressDisplay(Protocol):
    """A progress bar on the terminal to which results are written."""

    def hide(self) -> None:
        """Remove it from the terminal."""

    def show(self, *, whole: bool) -> None:
        """Draw it again, if the last line of the output is `whole`."""


class Destination(Protocol):
    """A place to which ResultOutput writes. All but `write` may raise OSError; sizes are bytes, or results."""

    path: str

    @property
    def is_filling(self) -> bool:
        """Whether a part of the last result, which is large, is not queued yet; `flush` continues."""

    @property
    def writer(self) -> NonblockingWriter | None:
        """The descriptor that a slow reader can block."""

    @property
    def queued_size(self) -> int:
        """Its size once all that was added is written."""

    @property
    def written_size(self) -> int:
        """Its size."""

    def open(self) -> None:
        """Create it, unless it is open."""

    def write(self, message: WriteResult) -> None:
        """Queue a result."""

    def write_lines(self, lines: bytes) -> None:
        """Queue lines of a running task, if this destination has a place for them."""

    def flush(self) -> None:
        """Write what can be written without waiting, of a large result no more than a moment takes."""

    def sync(self) -> None:
        """Sync what was written."""

    def close(self) -> None:
        """Close it, and drop what is not written."""


def main_destination(
    path: str, committed_size: int | None, syscalls: Syscalls, display: ProgressDisplay | None
) -> Destination:
    """Return the destination of -o, or stdout. Raises UsageError if it is not writable, or was modified."""
    suffix = os.path.splitext(path)[1]
    if suffix == ".sqlite":
        from pipeline.output.database import SqliteDestination

        return SqliteDestination(path, is_resumed=committed_size is not None)
    if suffix == ".jsonl":
        return FileDestination(path, committed_size, syscalls, _row_formatter(formats.json_line))
    if suffix == ".csv":
        hostname = os.uname().nodename
        formatter = _row_formatter(lambda row: formats.csv_line(row, hostname))
        return FileDestination(path, committed_size, syscalls, formatter, _format_csv_header)
    return FileDestination(path, committed_size, syscalls, display=display)


def dead_letter_destination(path: str, committed_size: int | None, syscalls: Syscalls) -> Destination:
    """Return the destination of --failed."""
    return FileDestination(path, committed_size, syscalls, _format_dead_letters)


def joblog_destination(path: str, committed_size: int | None, syscalls: Syscalls) -> Destination:
    """Return the destination of --joblog, which has a row for each attempt."""
    hostname = os.uname().nodename
    formatter = _row_formatter(lambda row: formats.joblog_line(row, hostname), include_retried=True)
    return FileDestination(path, committed_size, syscalls, formatter, lambda _: formats.JOBLOG_HEADER)


def _row_formatter(
    format_row: Callable[[formats.ResultRow], bytes | Iterator[bytes]], *, include_retried: bool = False
) -> Callable[[WriteResult], bytes | Iterator[bytes]]:
    """Return a formatter that makes a row for each task or, with `include_retried`, for each attempt."""

    def format_rows(message: WriteResult) -> bytes | Iterator[bytes]:
        if message.is_retried and not include_retried:
            return b""
        rows = [format_row(row) for row in formats.iter_rows(message.result)]
        # only a large result, which has one row, is not formatted at once
        return rows[0] if message.result.large_sizes else b"".join([row for row in rows if isinstance(row, bytes)])

    return format_rows


def _format_csv_header(message: WriteResult) -> bytes:
    return formats.csv_header(next(formats.iter_rows(message.result)))


def _format_dead_letters(message: WriteResult) -> bytes:
    return b"" if message.is_retried else formats.dead_letters(message.result)
