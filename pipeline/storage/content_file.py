"""A file with the content of one large result, or with what one task writes to a pipe.

- Bytes are appended and then read; after an OSError the file is as before.
- A file without a path has no name on the disk, and is gone when the object is.
"""

from __future__ import annotations

import os
from contextlib import suppress

from pipeline.storage.disk_io import DEFAULT_SYSCALLS, Syscalls

CLOSED_FD = -1


class ContentFile:
    """One file. It exists as long as this object or, with a path, until `remove`."""

    def __init__(self, path: str = "", folder: str | None = None, syscalls: Syscalls = DEFAULT_SYSCALLS) -> None:
        """Open or create the file at `path`; if empty, one without a name in `folder` or TMPDIR. Raises OSError."""
        self._fd = CLOSED_FD
        self.path, self._syscalls = path, syscalls
        self._fd = open_file(path, folder)
        self.size = os.fstat(self._fd).st_size

    def append(self, body: bytes) -> None:
        """Append all of these bytes, or raise OSError."""
        rest, offset = memoryview(body), self.size
        try:
            while rest:
                written = self._syscalls.write(self._fd, [rest], offset)
                rest, offset = rest[written:], offset + written
        except OSError:
            with suppress(OSError):
                self._syscalls.truncate(self._fd, self.size)
            raise
        self.size = offset

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on, fewer at the end. Raises OSError."""
        if self._fd == CLOSED_FD:
            self._fd = open_file(self.path, None)
        pieces: list[bytes] = []
        while size > 0 and (piece := os.pread(self._fd, size, start)):
            pieces.append(piece)
            start, size = start + len(piece), size - len(piece)
        return b"".join(pieces)

    def release(self) -> None:
        """Close a file that has a path until it is used again: many may wait for their turn."""
        if self.path:
            self.close()

    def remove(self) -> None:
        """Remove the name of the file."""
        if self.path:
            with suppress(FileNotFoundError):
                os.unlink(self.path)

    def close(self) -> None:
        if self._fd != CLOSED_FD:
            os.close(self._fd)
            self._fd = CLOSED_FD

    __del__ = close


def open_file(path: str, folder: str | None) -> int:
    """Open or create the file at `path`; if empty, one without a name in `folder` or TMPDIR. Raises OSError."""
    if path:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    from tempfile import TemporaryFile  # rarely needed, and slow to import

    with TemporaryFile(buffering=0, dir=folder) as file:
        return os.dup(file.fileno())
