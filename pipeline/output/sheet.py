"""A sheet: one file of the output, or stdout, begun anew or gone on with.

It promises that an existing file is touched only when there is something to write, or when a run goes on behind what
is committed, and that it is then cut to just that. It refuses a file that is shorter: somebody has changed it.
"""

from __future__ import annotations

import os
import stat

from pipeline.output.kernel import Kernel, sync_folder
from pipeline.output.spout import Spout, opened
from pipeline.words.errors import CLOSED, UsageError

STDOUT, STDERR = 1, 2


class Sheet:
    """One file, or stdout if `path` is empty. With `size`, it goes on behind so many bytes."""

    def __init__(self, path: str, size: int | None, kernel: Kernel) -> None:
        """Raises UsageError if it is plainly not writable, or shorter than `size`."""
        self.path, self._kernel = path, kernel
        self._base, self._fd, self._is_named = size or 0, STDOUT, False
        self.spout: Spout | None = None
        self.ends_line = True
        """Whether the last that was added is a whole line."""
        if not path:
            self.spout = opened(STDOUT, kernel)
            if self.spout is None:
                raise UsageError(CLOSED)
            return
        check(path)
        if size is not None:
            self._go_on(size)

    def open(self) -> None:
        """Be there, and empty, unless it is open already. Raises OSError."""
        if self.spout is None:
            self._open(os.O_TRUNC)

    def _open(self, how: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | how
        self._fd = os.open(self.path, flags, 0o666)
        self.spout = Spout(self._fd, self._kernel)

    def _go_on(self, size: int) -> None:
        try:
            self._open(0)
            there = os.fstat(self._fd)
            if stat.S_ISREG(there.st_mode):
                if there.st_size < size:
                    raise UsageError(f"{self.path} has {there.st_size} bytes where {size} were written: it was changed")
                self._kernel.truncate(self._fd, size)
                os.lseek(self._fd, size, os.SEEK_SET)
        except OSError as error:
            raise UsageError(f"cannot go on writing {self.path}: {error.strerror}") from None

    def add(self, text: bytes) -> None:
        """To be written behind all that was added before. It must be open."""
        assert self.spout
        self.spout.add(text)
        self.ends_line = text.endswith(b"\n") if text else self.ends_line

    def pour(self) -> None:
        """Write all that goes without waiting. Raises OSError."""
        if self.spout:
            self.spout.pour()

    @property
    def added(self) -> int:
        """How long it will be with all that was added."""
        return self._base + (self.spout.added if self.spout else 0)

    @property
    def size(self) -> int:
        """How long it is."""
        return self._base + (self.spout.poured if self.spout else 0)

    def sync(self) -> None:
        """What is out is on the disk. Raises OSError, naming the file."""
        if self.spout is None or not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return
        try:
            if self.path and not self._is_named:
                sync_folder(self.path, self._kernel)
                self._is_named = True
            self._kernel.sync(self._fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path or "stdout") from None

    def close(self) -> None:
        """Drop what is not written."""
        if self.spout:
            self.spout.close()
        if self._fd > STDERR:
            os.close(self._fd)
        self._fd = STDOUT


def check(path: str) -> None:
    """Raises UsageError if `path` cannot be written, without touching it."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        reason = "it is a folder"
    elif not os.path.isdir(folder):
        reason = f"no such folder: {folder}"
    elif not os.access(path if os.path.exists(path) else folder, os.W_OK):
        reason = "permission denied"
    else:
        return
    raise UsageError(f"cannot write {path}: {reason}")
