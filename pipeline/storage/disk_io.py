"""The calls that a disk can fail, and what to do when it is full.

Output, journal and spill write through a Kernel, so that a test can put another one in its place and fail any call of
it. Want of room is waited for, and told once; any other fault is the caller's. Nothing here ever writes a second time
what was written once, or asks again for a sync that failed.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence

from pipeline.model.events import Waiting
from pipeline.model.state_machine import NEVER, Message

RETRY_SECONDS = 1.0
"""Seconds between two tries while there is no room."""
CURRENT_POSITION = -1
"""Where the descriptor stands."""


class Syscalls:
    """The real one. All of it raises OSError."""

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], offset: int = CURRENT_POSITION) -> int:
        """Write these at byte `at`; how many bytes of them it took."""
        return os.writev(fd, pieces) if offset == CURRENT_POSITION else os.pwritev(fd, pieces, offset)

    def sync(self, fd: int) -> None:
        """All that was written is on the disk."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut it to so many bytes."""
        os.ftruncate(fd, size)


DEFAULT_SYSCALLS = Syscalls()


def sync_parent_directory(path: str, syscalls: Syscalls) -> None:
    """That there is a file at `path` is on the disk. Raises OSError."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        syscalls.sync(fd)
    finally:
        os.close(fd)


class DiskSpaceWait:
    """Whether an edge waits for room on its disk, and what the person was told of it."""

    def __init__(self) -> None:
        """There is room so far."""
        self.retry_at = NEVER
        """The time.monotonic() of the next try, while it waits."""

    @property
    def is_waiting(self) -> bool:
        """Whether it is too early for the next try."""
        return self.retry_at != NEVER and time.monotonic() < self.retry_at

    def on_enospc(self, error: OSError, reason: str) -> list[Message]:
        """A write failed; what the person is to be told. Raises the error when it is not for want of room."""
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise error
        news = self.retry_at == NEVER
        self.retry_at = time.monotonic() + RETRY_SECONDS
        return [Waiting("disk", reason)] if news else []

    def on_success(self) -> list[Message]:
        """A write went well; what the person is to be told."""
        waited, self.retry_at = self.retry_at != NEVER, NEVER
        return [Waiting("disk", active=False)] if waited else []
