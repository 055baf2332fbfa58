"""Pages: where results go, each in its form: a file or stdout, a database, a folder for each task.

A page takes each Write once, in order, says how much it was given and how much of that is out, and never waits for a
slow reader. Made in one place, so that their order in `sizes` is always the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pipeline.model.results import remaining_output
from pipeline.output import formats
from pipeline.output.file_writer import FileWriter
from pipeline.storage.disk_io import Syscalls

if TYPE_CHECKING:
    from pipeline.model.events import WriteResult
    from pipeline.output.file_writer import NonblockingWriter
    from pipeline.output.formats import ResultRow

STRUCTURED_SUFFIXES = (".jsonl", ".csv", ".sqlite")
"""How -o ends where more than the output of tasks is written."""
DESTINATION_COUNT = 4
"""In `sizes`: the output, dead letters, the log of tries, and folders, which have none."""


class ProgressDisplay(Protocol):
    """What is drawn on the terminal that results are written to."""

    def hide(self) -> None:
        """Out of the way, please."""

    def show(self, *, whole: bool) -> None:
        """It may come back, if the last line is `whole`."""


class Destination(Protocol):
    """What Output writes to. All but `take` may raise OSError; `added` and `size` are bytes, or results."""

    path: str

    @property
    def writer(self) -> NonblockingWriter | None:
        """What a reader can block."""

    @property
    def queued_size(self) -> int:
        """How long it will be with all that it was given."""

    @property
    def written_size(self) -> int:
        """How long it is."""

    def open(self) -> None:
        """Be there."""

    def write(self, message: WriteResult) -> None:
        """Write this, soon."""

    def write_lines(self, lines: bytes) -> None:
        """Write these lines of a task that still runs, if they are asked for."""

    def flush(self) -> None:
        """Write all that goes without waiting."""

    def sync(self) -> None:
        """What is out is on the disk."""

    def close(self) -> None:
        """Drop what is not written."""


class FileDestination:
    """A sheet, and how results look on it; `head` makes the first line from the first that is written."""

    def __init__(
        self,
        file_writer: FileWriter,
        formatter: Callable[[WriteResult], bytes],
        header: Callable[[WriteResult], bytes] | None = None,
        display: ProgressDisplay | None = None,
    ) -> None:
        self.file_writer, self._formatter, self._header, self._display = file_writer, formatter, header, display
        self.path = file_writer.path

    @property
    def writer(self) -> NonblockingWriter | None:
        """As a Page."""
        return self.file_writer.writer

    @property
    def queued_size(self) -> int:
        """As a Page."""
        return self.file_writer.queued_size

    @property
    def written_size(self) -> int:
        """As a Page."""
        return self.file_writer.written_size

    def open(self) -> None:
        """As a Page."""
        self.file_writer.open()

    def write(self, message: WriteResult) -> None:
        """As a Page."""
        text = self._formatter(message)
        if text and self._header and not self.file_writer.queued_size:
            self.file_writer.add(self._header(message))
        self.file_writer.add(text)

    def write_lines(self, lines: bytes) -> None:
        """As a Page."""
        if self._formatter is plain_output:
            self.file_writer.add(lines)

    def flush(self) -> None:
        """As a Page."""
        if self._display:
            self._display.hide()
        self.file_writer.flush()
        if self._display:
            blocked = self.file_writer.writer and self.file_writer.writer.is_blocked
            self._display.show(whole=self.file_writer.is_line_complete and not blocked)

    def sync(self) -> None:
        """As a Page."""
        self.file_writer.sync()

    def close(self) -> None:
        """As a Page."""
        self.file_writer.close()


def plain_output(message: WriteResult) -> bytes:
    """What its tasks wrote, without what was shown before."""
    return b"" if message.is_retried else remaining_output(message.result, message.streamed_sizes)


def main_destination(
    path: str, committed_size: int | None, syscalls: Syscalls, display: ProgressDisplay | None
) -> Destination:
    """The page of -o, or stdout. Raises UsageError if it is plainly not writable, or was changed."""
    form = os.path.splitext(path)[1]
    if form not in STRUCTURED_SUFFIXES:
        return FileDestination(FileWriter(path, committed_size, syscalls), plain_output, None, display)
    if form == ".sqlite":
        from pipeline.output.database import SqliteDestination

        return SqliteDestination(path, is_resumed=committed_size is not None)
    from pipeline.output import formats

    here = os.uname().nodename
    if form == ".jsonl":
        return FileDestination(FileWriter(path, committed_size, syscalls), _row_formatter(formats.json_line))
    head = lambda word: formats.csv_header(next(formats.iter_rows(word.result)))  # noqa: E731
    return FileDestination(
        FileWriter(path, committed_size, syscalls), _row_formatter(lambda row: formats.csv_line(row, here)), head
    )


def dead_letter_destination(path: str, committed_size: int | None, syscalls: Syscalls) -> Destination:
    """The page of --failed."""

    def format_failures(word: WriteResult) -> bytes:
        return formats.dead_letters(word.result) if word.result.failures and not word.is_retried else b""

    return FileDestination(FileWriter(path, committed_size, syscalls), format_failures)


def joblog_destination(path: str, committed_size: int | None, syscalls: Syscalls) -> Destination:
    """The page of --joblog: every try."""
    from pipeline.output import formats

    here = os.uname().nodename
    form = _row_formatter(lambda row: formats.joblog_line(row, here), include_retried=True)
    return FileDestination(FileWriter(path, committed_size, syscalls), form, lambda _: formats.JOBLOG_HEADER)


def _row_formatter(
    format_row: Callable[[ResultRow], bytes], *, include_retried: bool = False
) -> Callable[[WriteResult], bytes]:
    """A row for each task; with `tries`, for each try of it."""
    from pipeline.output.formats import iter_rows

    def format_rows(word: WriteResult) -> bytes:
        return (
            b""
            if word.is_retried and not include_retried
            else b"".join([format_row(row) for row in iter_rows(word.result)])
        )

    return format_rows
