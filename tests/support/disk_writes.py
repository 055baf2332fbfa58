"""What this process writes to the disk, as the kernel counts it; a file system in memory counts nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

_COUNTS = Path("/proc/self/io")
REPETITIONS = 20


def assert_not_written_to_disk(write_and_remove: Callable[[], None]) -> None:
    """Check that a file of one page that is written and removed at once does not reach the disk."""
    if not _COUNTS.exists():
        pytest.skip("this kernel does not count what a process writes")
    before = _bytes_for_disk()
    for _ in range(REPETITIONS):
        write_and_remove()
    assert _bytes_for_disk() - before < REPETITIONS * os.sysconf("SC_PAGESIZE") / 2  # folders may take some


def _bytes_for_disk() -> int:
    """Return the bytes written to files, without those that were removed in time."""
    counts = dict(line.split(": ") for line in _COUNTS.read_text().splitlines())
    return int(counts["write_bytes"]) - int(counts["cancelled_write_bytes"])
