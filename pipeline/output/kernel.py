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

from pipeline.words.notices import Waiting
from pipeline.words.station import NEVER, Message

AGAIN = 1.0
"""Seconds between two tries while there is no room."""
HERE = -1
"""Where the descriptor stands."""


class Kernel:
    """The real one. All of it raises OSError."""

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], at: int = HERE) -> int:
        """Write these at byte `at`; how many bytes of them it took."""
        return os.writev(fd, pieces) if at == HERE else os.pwritev(fd, pieces, at)

    def sync(self, fd: int) -> None:
        """All that was written is on the disk."""
        os.fdatasync(fd)

    def truncate(self, fd: int, size: int) -> None:
        """Cut it to so many bytes."""
        os.ftruncate(fd, size)


KERNEL = Kernel()


def sync_folder(path: str, kernel: Kernel) -> None:
    """That there is a file at `path` is on the disk. Raises OSError."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kernel.sync(fd)
    finally:
        os.close(fd)


class Room:
    """Whether an edge waits for room on its disk, and what the person was told of it."""

    def __init__(self) -> None:
        """There is room so far."""
        self.again = NEVER
        """The time.monotonic() of the next try, while it waits."""

    @property
    def waits(self) -> bool:
        """Whether it is too early for the next try."""
        return self.again != NEVER and time.monotonic() < self.again

    def lacking(self, error: OSError, reason: str) -> list[Message]:
        """A write failed; what the person is to be told. Raises the error when it is not for want of room."""
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise error
        news = self.again == NEVER
        self.again = time.monotonic() + AGAIN
        return [Waiting("disk", reason)] if news else []

    def found(self) -> list[Message]:
        """A write went well; what the person is to be told."""
        waited, self.again = self.again != NEVER, NEVER
        return [Waiting("disk", active=False)] if waited else []
