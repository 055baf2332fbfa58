"""A database of results: one table, a row for each task, which a result that is written again replaces.

So it is exact after a crash without being cut back: what was not settled comes once more. What is poured is committed.
An existing file is replaced when the first result is there, and one that holds something else is refused.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from pipeline.output.rows import Row, rows
from pipeline.output.sheet import check
from pipeline.words.errors import UsageError

if TYPE_CHECKING:
    from pipeline.words.errands import Write

TABLE = """
CREATE TABLE IF NOT EXISTS tasks (
    task INTEGER PRIMARY KEY, status TEXT NOT NULL, reason TEXT NOT NULL, exit INTEGER, signal INTEGER,
    attempts INTEGER, worker TEXT, slot INTEGER, started REAL, seconds REAL, queued REAL, cpu REAL, rss INTEGER,
    command TEXT, input TEXT, stdout TEXT, stderr TEXT
)
"""
INDEX = "CREATE INDEX IF NOT EXISTS tasks_by_status ON tasks (status)"
INSERT = f"INSERT OR REPLACE INTO tasks VALUES ({', '.join('?' * 17)})"  # noqa: S608 -- nothing of it is given


class Database:
    """The file at `path`; with `resumed`, it goes on."""

    spout = None

    def __init__(self, path: str, *, resumed: bool) -> None:
        """Raises UsageError if it is plainly not writable, or holds something else."""
        check(path)
        self.path, self.added, self.size = path, 0, 0
        self._resumed, self._words = resumed, list["Write"]()
        self._base: sqlite3.Connection | None = None
        if os.path.exists(path) and os.path.getsize(path):
            self._check()

    def open(self) -> None:
        """Be there, and empty, unless a run goes on. Raises OSError."""
        if self._base:
            return
        try:
            if not self._resumed:
                for name in (self.path, f"{self.path}-journal"):
                    with suppress(FileNotFoundError):
                        os.unlink(name)
            self._base = sqlite3.connect(self.path, isolation_level=None)
            self._base.execute(TABLE)
            self._base.execute(INDEX)
        except sqlite3.Error as error:
            raise OSError(None, str(error)) from None

    def take(self, word: Write) -> None:
        """One more result; tries that failed and are run again have no row."""
        self.added += 1
        self._words.append(word)

    def show(self, lines: bytes) -> None:
        """Running tasks have no row."""

    def pour(self) -> None:
        """Commit all of them. Raises OSError."""
        if not (self._base and self._words):
            return
        try:
            self._base.execute("BEGIN")
            results = [word.result for word in self._words if not word.tried]
            self._base.executemany(INSERT, [_values(row) for result in results for row in rows(result)])
            self._base.execute("COMMIT")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._base.execute("ROLLBACK")
            raise OSError(None, str(error)) from None
        self._words.clear()
        self.size = self.added

    def sync(self) -> None:
        """What is committed is synced: sqlite does that itself."""

    def close(self) -> None:
        """Drop what is not written."""
        if self._base:
            self._base.close()
        self._base = None

    def _check(self) -> None:
        try:
            with closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)) as base:
                tables = [name for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        except sqlite3.Error as error:
            raise UsageError(f"cannot write {self.path}: it is no database of results: {error}") from None
        if tables and tables != ["tasks"]:
            raise UsageError(f"cannot write {self.path}: it holds other tables: {', '.join(tables)}")


def _values(row: Row) -> tuple[object, ...]:
    note, account = row.note, row.account
    status, reason = ("failed", note.kind) if note else ("ok", "")
    when = (account.started, account.seconds, account.queued, account.cpu, account.rss)
    told = (row.number, status, reason, row.exit, row.signal, row.result.tries + 1, row.result.worker, account.slot)
    return (*told, *when, *map(_text, (account.command, row.record, row.stdout, row.stderr)))


def _text(value: bytes) -> str | bytes:
    """Text where it is text, else a blob."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value
