"""The tape: one long run of bytes in files of equal size, which is written at its end and deleted from its beginning.

Byte `n` lies in file `n // each`, so the files themselves say how far it reaches, and nothing has to be noted. What was
added is in the kernel's hands when the call returns: no `kill -9` can take it back. Two files at most are open at a
time. It deletes only what it was told to drop, and never the file that it writes to.
"""

from __future__ import annotations

import os
from contextlib import suppress

SEGMENT_BYTES = 64 << 20
"""Bytes in a file."""


class SegmentedFile:
    """The bytes from `start` on, as they were left; nothing is made before it is needed."""

    def __init__(self, prefix: str, start: int, segment_size: int = SEGMENT_BYTES) -> None:
        """Files are called `stem` and their number; all but the last are `each` bytes long. Raises OSError."""
        self._prefix, self._segment_size = prefix, segment_size
        self._lowest_segment = start // segment_size
        self._open_fds: dict[int, int] = {}
        number = self._lowest_segment
        while (size := self._size_on_disk(number)) == segment_size:
            number += 1
        self.end = number * segment_size + size

    def splice(self, pipe: int, max_bytes: int) -> int:
        """Move up to so many bytes of a pipe to the end, within the kernel, and never wait; 0 at the pipe's end.

        Raises BlockingIOError if the pipe is empty, OSError with EINVAL if the kernel cannot do this here.
        """
        at = self.end % self._segment_size
        room = min(max_bytes, self._segment_size - at)
        moved = os.splice(pipe, self._segment_fd(), room, offset_dst=at, flags=os.SPLICE_F_NONBLOCK)
        self.end += moved
        return moved

    def append(self, data: bytes) -> int:
        """Add as much of it as fits in one call; how many bytes that was. Raises OSError."""
        at = self.end % self._segment_size
        added = os.pwrite(self._segment_fd(), data[: self._segment_size - at], at)
        self.end += added
        return added

    def read(self, start: int, max_bytes: int) -> bytes:
        """Up to so many bytes from `start` on; nothing at the end. Raises OSError."""
        if start >= self.end:
            return b""
        return os.pread(self._segment_fd(start), min(max_bytes, self.end - start), start % self._segment_size)

    def delete_below(self, below: int) -> None:
        """Delete the files of which all bytes are below that. Raises OSError."""
        while self._lowest_segment < min(below, self.end) // self._segment_size:
            self._close_segment(self._lowest_segment)
            with suppress(FileNotFoundError):
                os.unlink(self._segment_path(self._lowest_segment))
            self._lowest_segment += 1

    def sync(self) -> None:
        """Make all of it survive a power cut. Raises OSError."""
        for number in range(self._lowest_segment, -(-self.end // self._segment_size)):
            file = os.open(self._segment_path(number), os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def close(self) -> None:
        """Close what is open; it opens again when needed."""
        for number in list(self._open_fds):
            self._close_segment(number)

    def _segment_path(self, number: int) -> str:
        return f"{self._prefix}{number:06d}"

    def _size_on_disk(self, number: int) -> int:
        try:
            return os.stat(self._segment_path(number)).st_size
        except FileNotFoundError:
            return 0

    def _segment_fd(self, start: int | None = None) -> int:
        """The open file of the byte at `start`, else of the end."""
        last = self.end // self._segment_size
        number = last if start is None else start // self._segment_size
        if number not in self._open_fds:
            for other in set(self._open_fds) - {last}:
                self._close_segment(other)
            self._open_fds[number] = os.open(self._segment_path(number), os.O_RDWR | os.O_CREAT, 0o600)
        return self._open_fds[number]

    def _close_segment(self, number: int) -> None:
        if number in self._open_fds:
            os.close(self._open_fds.pop(number))
