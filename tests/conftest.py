"""What tests of real processes are given."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from labs import soon
from psutil import Process
from stage import Stage


@pytest.fixture
def stage() -> Iterator[Stage]:
    """An empty stage; whoever is left on it at the end is killed."""
    with Stage() as stage:
        yield stage


@pytest.fixture
def tidy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What runs in this process leaves no thread, no process, no open file and no file in the temporary folder."""
    folder = tmp_path / "tidy"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    assert soon(lambda: set(threading.enumerate()) <= threads)
    assert soon(lambda: len(os.listdir("/proc/self/fd")) <= files)
    assert Process().children() == []
    assert list(folder.iterdir()) == []
