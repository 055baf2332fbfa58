"""SQLite destination: one table with a row for each task.

Invariants:
  - a result that is written again replaces its row, so a resumed run needs no truncation;
  - what was flushed is committed;
  - an existing file is replaced only when there is a result to write; a database with other tables is refused.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from pipeline.model.errors import UsageError
from pipeline.output.file_writer import check_writable
from pipeline.output.formats import ResultRow, iter_rows
from pipeline.output.large_text import LargeText, Text

if TYPE_CHECKING:
    from pipeline.model.events import WriteResult

CREATE_TABLE = """
CREATE TABLE IF NOT EXISTS tasks (
    task INTEGER PRIMARY KEY, status TEXT NOT NULL, reason TEXT NOT NULL, exit INTEGER, signal INTEGER,
    attempts INTEGER, worker TEXT, slot INTEGER, started REAL, seconds REAL, queued REAL, cpu REAL, rss INTEGER,
    command TEXT, input TEXT, stdout TEXT, stderr TEXT
)
"""
CREATE_INDEX = "CREATE INDEX IF NOT EXISTS tasks_by_status ON tasks (status)"
MAX_CELL_BYTES = 1_000_000_000
"""Bytes that SQLite can store in one cell."""
INSERT_ROW = f"INSERT OR REPLACE INTO tasks VALUES ({', '.join('?' * 17)})"  # noqa: S608 -- contains no input


class SqliteDestination:
    """The database at `path`; sizes are numbers of results."""

    writer = None
    is_filling = False

    def __init__(self, path: str, *, is_resumed: bool) -> None:
        """Raise UsageError if `path` is not writable, or contains something else."""
        check_writable(path)
        self.path, self.queued_size, self.written_size = path, 0, 0
        self._is_resumed, self._pending = is_resumed, list["WriteResult"]()
        self._connection: sqlite3.Connection | None = None
        if os.path.exists(path) and os.path.getsize(path):
            self._check_tables()

    def open(self) -> None:
        """Create the database, unless it is open or the run resumes. Raises OSError."""
        if self._connection:
            return
        try:
            if not self._is_resumed:
                for name in (self.path, f"{self.path}-journal"):
                    with suppress(FileNotFoundError):
                        os.unlink(name)
            self._connection = sqlite3.connect(self.path, isolation_level=None)
            self._connection.execute(CREATE_TABLE)
            self._connection.execute(CREATE_INDEX)
        except sqlite3.Error as error:
            raise OSError(None, str(error)) from None

    def write(self, message: WriteResult) -> None:
        """Queue a result; attempts that are retried get no row."""
        self.queued_size += 1
        self._pending.append(message)

    def write_lines(self, lines: bytes) -> None:
        """Ignore lines of running tasks: they get no row."""

    def flush(self) -> None:
        """Commit all queued results. Raises OSError."""
        if not (self._connection and self._pending):
            return
        rows = [row for message in self._pending if not message.is_retried for row in iter_rows(message.result)]
        for row in rows:
            if max(len(row.stdout), len(row.stderr)) > MAX_CELL_BYTES:
                text = f"task {row.number} wrote more than the {MAX_CELL_BYTES:,} bytes that SQLite can store"
                raise OSError(None, f"{text} (use -o FILE.jsonl or --results DIR)")
        try:
            self._connection.execute("BEGIN")
            self._connection.executemany(INSERT_ROW, map(_row_values, rows))
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise OSError(None, str(error)) from None
        self._pending.clear()
        self.written_size = self.queued_size

    def sync(self) -> None:
        """Do nothing: SQLite syncs each commit."""

    def close(self) -> None:
        """Close the database, and drop what is not written."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def _check_tables(self) -> None:
        hint = "choose another file"
        try:
            # Not read-only: if a kill interrupted a commit, the first read rolls it back.
            with closing(sqlite3.connect(f"file:{self.path}?mode=rw", uri=True)) as database:
                tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        except sqlite3.Error as error:
            raise UsageError(f"cannot write {self.path}: not a result database: {error}", hint) from None
        if tables and tables != ["tasks"]:
            raise UsageError(f"cannot write {self.path}: contains other tables: {', '.join(tables)}", hint)


def _row_values(row: ResultRow) -> tuple[object, ...]:
    failure, metrics = row.failure, row.metrics
    status, reason = ("failed", failure.kind) if failure else ("ok", "")
    values: tuple[object, ...] = (row.number, status, reason, row.exit_code, row.signal)
    values += (row.result.attempt + 1, row.result.worker, metrics.slot)
    values += (metrics.started_at, metrics.seconds, metrics.queued_seconds, metrics.cpu_seconds, metrics.max_rss)
    return (*values, *map(_text_or_blob, (metrics.command, row.record, row.stdout, row.stderr)))


def _text_or_blob(text: Text) -> str | bytes:
    value = text.read_all() if isinstance(text, LargeText) else text
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
