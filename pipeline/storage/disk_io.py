"""System calls that can fail on a disk, and the wait for space on a full one.

- Output, journal and spill write through Syscalls, so a test can replace it and let any call fail.
- A full disk is waited for and reported once. The caller handles all other errors.
- No bytes are written twice, and a failed sync is not repeated: after a failure, the kernel may drop the data and
  report success.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence

from pipeline.model.events import Waiting
from pipeline.model.state_machine import NEVER, Message

RETRY_SECONDS = 1.0
"""Seconds between two attempts to write to a full disk."""
CURRENT_POSITION = -1
"""Offset that stands for the position of the descriptor."""


class Syscalls:
    """The real system calls. All of them raise OSError."""

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int = CURRENT_POSITION) -> int:
        """Write at `offset` and return the number of bytes written."""
        return os.writev(fd, pieces) if offset == CURRENT_POSITION else os.pwritev(fd, pieces, offset)

    def sync(self, fd: int) -> None:
        """Flush the file to the disk."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes, if it is longer."""
        # ext4 writes a file that was cut to nothing to disk when it is closed, so its removal would wait for the disk
        if os.fstat(fd).st_size > size:
            os.ftruncate(fd, size)


DEFAULT_SYSCALLS = Syscalls()


def sync_parent_directory(path: str, syscalls: Syscalls) -> None:
    """Flush the directory entry of the file at `path` to the disk. Raises OSError."""
    sync_file(os.path.dirname(path) or ".", syscalls)


def sync_file(path: str, syscalls: Syscalls) -> None:
    """Flush the file or directory at `path` to the disk. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.sync(fd)
    finally:
        os.close(fd)


class DiskSpaceWait:
    """Whether an adapter waits for space on its disk. Begin and end of the wait are reported to the user."""

    def __init__(self) -> None:
        self.retry_at = NEVER
        """The time.monotonic() of the next attempt while waiting."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is too early for the next attempt."""
        return self.retry_at != NEVER and time.monotonic() < self.retry_at

    def on_enospc(self, error: OSError, reason: str) -> list[Message]:
        """Start or continue waiting; return what to report. Raises the error if it is not for want of space."""
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise error
        is_new = self.retry_at == NEVER
        self.retry_at = time.monotonic() + RETRY_SECONDS
        return [Waiting("disk", reason)] if is_new else []

    def on_success(self) -> list[Message]:
        """Stop waiting; return what to report."""
        has_waited, self.retry_at = self.retry_at != NEVER, NEVER
        return [Waiting("disk", active=False)] if has_waited else []
