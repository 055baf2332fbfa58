"""The SQLite destination: after a process was killed while it committed, and with bytes that are not text."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from pipeline.model.events import WriteResult
from pipeline.output.database import SqliteDestination
from tests.unit.output.test_formats import result


def test_database_killed_within_a_commit_is_resumed(tmp_path: Path) -> None:
    path, copy = tmp_path / "out.sqlite", tmp_path / "killed.sqlite"
    first = SqliteDestination(str(path), is_resumed=False)
    first.open()
    first.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 1")  # so that pages are written before the commit
        database.execute("BEGIN")
        database.executemany(
            "INSERT INTO tasks VALUES (?, 'ok', ''" + ", ?" * 14 + ")", [(n, *"x" * 14) for n in range(999)]
        )
        for name in ("", "-journal"):
            shutil.copy(f"{path}{name}", f"{copy}{name}")
    again = SqliteDestination(str(copy), is_resumed=True)
    again.open()
    again.close()
    with closing(sqlite3.connect(copy)) as database:
        assert database.execute("SELECT count(*) FROM tasks").fetchone() == (0,)


def test_database_keeps_bytes_that_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "out.sqlite"
    destination = SqliteDestination(str(path), is_resumed=False)
    destination.open()
    destination.write(WriteResult(1, result(record=b"caf\xe9", stdout="ä".encode())))
    destination.flush()
    destination.close()
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT input, stdout FROM tasks").fetchone() == (b"caf\xe9", "ä")
