"""A book: an append-only file of leaves, each with its length and crc32, for the journal and the spill.

It promises that a leaf is there whole or not at all. What a crash has torn off at the end is found and cut; a bad leaf
with a good one behind it is damage, and refused with its offset. It knows nothing of what its leaves say.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress

from pipeline.output.kernel import KERNEL, Kernel, sync_folder
from pipeline.words.errors import UsageError

MARK = b"\xc1\x9eLf"
"""Begins each leaf. A length that was damaged cannot say where the next leaf begins; this can be searched for."""
HEAD = struct.Struct("<4sII")
"""Mark, length, and the crc32 of length and content."""


def leaf_of(content: bytes) -> bytes:
    """A leaf as it stands in the file."""
    return HEAD.pack(MARK, len(content), _crc(content)) + content


def _crc(content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(struct.pack("<I", len(content))))


class Book:
    """One open file. `magic` is its first bytes, by which it is known; the last of them is the version."""

    def __init__(self, fd: int, path: str, magic: bytes, kernel: Kernel = KERNEL) -> None:
        """The descriptor is the book's from now on. To append to what is there, read all of `leaves` first."""
        self.fd, self.path, self._magic, self._kernel = fd, path, magic, kernel
        self.size = os.fstat(fd).st_size
        """Bytes up to the end of the last good leaf, as far as that is known."""
        self._is_named = False

    def leaves(self) -> Iterator[tuple[int, bytes]]:
        """Offset and content of each leaf up to the torn end, if any. Raises UsageError, OSError."""
        at = self._opening()
        while at < self.size:
            content = self.leaf(at)
            if content is None:
                if self._goes_on_behind(at):
                    raise UsageError(f"{self.path} is damaged at byte {at}: restore it, or begin anew")
                self.size = at
                return
            yield at, content
            at += HEAD.size + len(content)

    def leaf(self, at: int) -> bytes | None:
        """The content of the leaf that begins at byte `at`; None if there is no good one. Raises OSError."""
        head = self._read(at, HEAD.size)
        if len(head) < HEAD.size:
            return None
        mark, length, crc = HEAD.unpack(head)
        if mark != MARK or length > self.size - at - HEAD.size:
            return None
        content = self._read(at + HEAD.size, length)
        return content if len(content) == length and _crc(content) == crc else None

    def append(self, content: bytes) -> int:
        """One more leaf; where it begins. After an OSError it is as if it had never been tried."""
        start = self.size or len(self._magic)
        leaf = memoryview((b"" if self.size else self._magic) + leaf_of(content))
        at = self.size
        try:
            while leaf:
                written = self._kernel.write(self.fd, [leaf], at)
                at += written
                leaf = leaf[written:]
        except OSError:
            with suppress(OSError):
                self.cut(self.size)
            raise
        self.size = at
        return start

    def cut(self, size: int) -> None:
        """Take away all from byte `size` on. Raises OSError."""
        self.size = size
        self._kernel.truncate(self.fd, size)

    def sync(self) -> None:
        """All leaves are on the disk, and the file's name. Raises OSError; then it must not be asked again."""
        if not self._is_named:
            sync_folder(self.path, self._kernel)
            self._is_named = True
        self._kernel.sync(self.fd)

    def close(self) -> None:
        """May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _opening(self) -> int:
        """Where the first leaf begins, once the magic is there. Raises UsageError."""
        found, wanted = self._read(0, len(self._magic)), self._magic
        if len(found) < len(wanted) and wanted.startswith(found):
            self.size = 0
        elif found[:-1] != wanted[:-1]:
            raise UsageError(f"{self.path} is not a {wanted[:-1].decode()}: it is left alone")
        elif found != wanted:
            raise UsageError(f"{self.path} is a {wanted[:-1].decode()} of version {found[-1]}, not {wanted[-1]}")
        return len(wanted)

    def _goes_on_behind(self, at: int) -> bool:
        """Whether there is any good leaf behind this byte."""
        from mmap import ACCESS_READ, mmap  # for torn and damaged files only

        with mmap(self.fd, 0, access=ACCESS_READ) as text:
            at = text.find(MARK, at + 1)
            while at >= 0:
                if self.leaf(at) is not None:
                    return True
                at = text.find(MARK, at + 1)
        return False

    def _read(self, at: int, length: int) -> bytes:
        """So many bytes from there, or fewer at the end of the file."""
        found = os.pread(self.fd, length, at)
        while found and len(found) < length:  # a read stops at 2 GiB
            more = os.pread(self.fd, length - len(found), at + len(found))
            if not more:
                break
            found += more
        return found
