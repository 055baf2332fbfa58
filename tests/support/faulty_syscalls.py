"""Kernels that fail: the k-th call of a run, or all of some kind for as long as a test wants."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from pipeline.storage.disk_io import CURRENT_POSITION, Syscalls

if TYPE_CHECKING:
    from collections.abc import Sequence


class FaultySyscalls(Syscalls):
    """Fails its call number `kth`, counted from 1; a write that fails has written half of it before."""

    def __init__(self, failing_call: int = 0, error: int = errno.EIO) -> None:
        self.calls: list[str] = []
        self.is_full = False
        """Every write fails for want of room."""
        self.has_failed = False
        self._failing_call, self._error = failing_call, error

    def write(self, fd: int, pieces: Sequence[bytes | memoryview], at: int = CURRENT_POSITION) -> int:
        text = b"".join(pieces)
        try:
            self._call("write")
        except OSError:
            half = text[: len(text) // 2]
            if at == CURRENT_POSITION:
                os.write(fd, half)
                os.lseek(fd, -len(half), os.SEEK_CUR)
            else:
                os.pwrite(fd, half, at)
            raise
        short = text[: max(1, 2 * len(text) // 3)]
        return super().write(fd, [short], at)

    def sync(self, fd: int) -> None:
        self._call("sync")
        super().sync(fd)

    def truncate(self, fd: int, size: int) -> None:
        self._call("truncate")
        super().truncate(fd, size)

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if len(self.calls) == self._failing_call:
            self.has_failed = True
            raise OSError(self._error, os.strerror(self._error))
        if self.is_full and name == "write":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
