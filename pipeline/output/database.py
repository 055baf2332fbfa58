"""A database of results: one table, a row for each task, which a result that is written again replaces.

So it is exact after a crash without being cut back: what was not settled comes once more. What is poured is committed.
An existing file is replaced when the first result is there, and one that holds something else is refused.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from pipeline.model.errors import UsageError
from pipeline.output.file_writer import check_writable
from pipeline.output.formats import ResultRow, iter_rows

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
INSERT_ROW = f"INSERT OR REPLACE INTO tasks VALUES ({', '.join('?' * 17)})"  # noqa: S608 -- nothing of it is given


class SqliteDestination:
    """The file at `path`; with `resumed`, it goes on."""

    writer = None

    def __init__(self, path: str, *, is_resumed: bool) -> None:
        """Raises UsageError if it is plainly not writable, or holds something else."""
        check_writable(path)
        self.path, self.queued_size, self.written_size = path, 0, 0
        self._is_resumed, self._pending = is_resumed, list["WriteResult"]()
        self._connection: sqlite3.Connection | None = None
        if os.path.exists(path) and os.path.getsize(path):
            self._check_tables()

    def open(self) -> None:
        """Be there, and empty, unless a run goes on. Raises OSError."""
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
        """One more result; tries that failed and are run again have no row."""
        self.queued_size += 1
        self._pending.append(message)

    def write_lines(self, lines: bytes) -> None:
        """Running tasks have no row."""

    def flush(self) -> None:
        """Commit all of them. Raises OSError."""
        if not (self._connection and self._pending):
            return
        try:
            self._connection.execute("BEGIN")
            results = [word.result for word in self._pending if not word.is_retried]
            self._connection.executemany(
                INSERT_ROW, [_row_values(row) for result in results for row in iter_rows(result)]
            )
            self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._connection.execute("ROLLBACK")
            raise OSError(None, str(error)) from None
        self._pending.clear()
        self.written_size = self.queued_size

    def sync(self) -> None:
        """What is committed is synced: sqlite does that itself."""

    def close(self) -> None:
        """Drop what is not written."""
        if self._connection:
            self._connection.close()
        self._connection = None

    def _check_tables(self) -> None:
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as base:
                tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        except sqlite3.Error as error:
            raise UsageError(f"cannot write {self.path}: it is no database of results: {error}") from None
        if tables and tables != ["tasks"]:
            raise UsageError(f"cannot write {self.path}: it holds other tables: {', '.join(tables)}")


def _row_values(row: ResultRow) -> tuple[object, ...]:
    note, account = row.failure, row.metrics
    status, reason = ("failed", note.kind) if note else ("ok", "")
    when = (account.started_at, account.seconds, account.queued_seconds, account.cpu_seconds, account.max_rss)
    told = (
        row.number,
        status,
        reason,
        row.exit_code,
        row.signal,
        row.result.attempt + 1,
        row.result.worker,
        account.slot,
    )
    return (*told, *when, *map(_text_or_blob, (account.command, row.record, row.stdout, row.stderr)))


def _text_or_blob(value: bytes) -> str | bytes:
    """Text where it is text, else a blob."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
