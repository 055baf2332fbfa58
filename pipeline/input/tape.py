"""The tape: one long run of bytes in files of equal size, which is written at its end and deleted from its beginning.

Byte `n` lies in file `n // each`, so the files themselves say how far it reaches, and nothing has to be noted. What was
added is in the kernel's hands when the call returns: no `kill -9` can take it back. Two files at most are open at a
time. It deletes only what it was told to drop, and never the file that it writes to.
"""

from __future__ import annotations

import os
from contextlib import suppress

SEGMENT = 64 << 20
"""Bytes in a file."""


class Tape:
    """The bytes from `start` on, as they were left; nothing is made before it is needed."""

    def __init__(self, stem: str, start: int, each: int = SEGMENT) -> None:
        """Files are called `stem` and their number; all but the last are `each` bytes long. Raises OSError."""
        self._stem, self._each = stem, each
        self._lowest = start // each
        self._open: dict[int, int] = {}
        number = self._lowest
        while (size := self._size(number)) == each:
            number += 1
        self.end = number * each + size

    def splice(self, pipe: int, most: int) -> int:
        """Move up to so many bytes of a pipe to the end, within the kernel, and never wait; 0 at the pipe's end.

        Raises BlockingIOError if the pipe is empty, OSError with EINVAL if the kernel cannot do this here.
        """
        at = self.end % self._each
        room = min(most, self._each - at)
        moved = os.splice(pipe, self._file(), room, offset_dst=at, flags=os.SPLICE_F_NONBLOCK)
        self.end += moved
        return moved

    def append(self, data: bytes) -> int:
        """Add as much of it as fits in one call; how many bytes that was. Raises OSError."""
        at = self.end % self._each
        added = os.pwrite(self._file(), data[: self._each - at], at)
        self.end += added
        return added

    def read(self, start: int, most: int) -> bytes:
        """Up to so many bytes from `start` on; nothing at the end. Raises OSError."""
        if start >= self.end:
            return b""
        return os.pread(self._file(start), min(most, self.end - start), start % self._each)

    def drop(self, below: int) -> None:
        """Delete the files of which all bytes are below that. Raises OSError."""
        while self._lowest < min(below, self.end) // self._each:
            self._shut(self._lowest)
            with suppress(FileNotFoundError):
                os.unlink(self._path(self._lowest))
            self._lowest += 1

    def sync(self) -> None:
        """Make all of it survive a power cut. Raises OSError."""
        for number in range(self._lowest, -(-self.end // self._each)):
            file = os.open(self._path(number), os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def close(self) -> None:
        """Close what is open; it opens again when needed."""
        for number in list(self._open):
            self._shut(number)

    def _path(self, number: int) -> str:
        return f"{self._stem}{number:06d}"

    def _size(self, number: int) -> int:
        try:
            return os.stat(self._path(number)).st_size
        except FileNotFoundError:
            return 0

    def _file(self, start: int | None = None) -> int:
        """The open file of the byte at `start`, else of the end."""
        last = self.end // self._each
        number = last if start is None else start // self._each
        if number not in self._open:
            for other in set(self._open) - {last}:
                self._shut(other)
            self._open[number] = os.open(self._path(number), os.O_RDWR | os.O_CREAT, 0o600)
        return self._open[number]

    def _shut(self, number: int) -> None:
        if number in self._open:
            os.close(self._open.pop(number))
