"""The environment of all tests, and a fixture for code that must leave nothing behind."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from psutil import Process

from tests.support.lab_programs import becomes_true

OF_THE_USER = """
BASH_ENV CDPATH CLICOLOR CLICOLOR_FORCE COLUMNS ENV FORCE_COLOR GITHUB_ACTIONS LINES NO_COLOR PARALLEL POSIXLY_CORRECT
PY_COLORS PYTHONIOENCODING PYTHONUNBUFFERED PYTHONWARNINGS TMPDIR TTY_COMPATIBLE TTY_INTERACTIVE XDG_RUNTIME_DIR
""".split()
"""Variables that change what programs print, or where they put things. A test that is about one sets it."""


def pytest_configure() -> None:
    """Give tests the same surroundings on each machine. Nothing depends on locale and time zone: they stay."""
    for name in OF_THE_USER:
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name.startswith("PIPE_")]:
        del os.environ[name]
    os.environ["TERM"] = "xterm"
    os.umask(0o022)


@pytest.fixture
def tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What runs in this process leaves no thread, no process, no open file and no file in the temporary folder."""
    folder = tmp_path / "tidy"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    assert becomes_true(lambda: set(threading.enumerate()) <= threads)
    assert becomes_true(lambda: len(os.listdir("/proc/self/fd")) <= files)
    assert Process().children() == []
    assert list(folder.iterdir()) == []
