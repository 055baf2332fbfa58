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

from pipeline.model.errors import UsageError
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, Syscalls, sync_parent_directory

RECORD_MAGIC = b"\xc1\x9eLf"
"""Begins each leaf. A length that was damaged cannot say where the next leaf begins; this can be searched for."""
RECORD_HEADER = struct.Struct("<4sII")
"""Mark, length, and the crc32 of length and content."""


def encode_record(content: bytes) -> bytes:
    """A leaf as it stands in the file."""
    return RECORD_HEADER.pack(RECORD_MAGIC, len(content), _crc(content)) + content


def _crc(content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(struct.pack("<I", len(content))))


class RecordLog:
    """One open file. `magic` is its first bytes, by which it is known; the last of them is the version."""

    def __init__(self, fd: int, path: str, magic: bytes, syscalls: Syscalls = DEFAULT_SYSCALLS) -> None:
        """The descriptor is the book's from now on. To append to what is there, read all of `leaves` first."""
        self.fd, self.path, self._magic, self._syscalls = fd, path, magic, syscalls
        self.size = os.fstat(fd).st_size
        """Bytes up to the end of the last good leaf, as far as that is known."""
        self._is_directory_synced = False

    def iter_records(self) -> Iterator[tuple[int, bytes]]:
        """Offset and content of each leaf up to the torn end, if any. Raises UsageError, OSError."""
        at = self._check_magic()
        while at < self.size:
            content = self.read_record(at)
            if content is None:
                if self._has_valid_record_after(at):
                    raise UsageError(f"{self.path} is damaged at byte {at}: restore it, or begin anew")
                self.size = at
                return
            yield at, content
            at += RECORD_HEADER.size + len(content)

    def read_record(self, offset: int) -> bytes | None:
        """The content of the leaf that begins at byte `at`; None if there is no good one. Raises OSError."""
        head = self._read(offset, RECORD_HEADER.size)
        if len(head) < RECORD_HEADER.size:
            return None
        mark, length, crc = RECORD_HEADER.unpack(head)
        if mark != RECORD_MAGIC or length > self.size - offset - RECORD_HEADER.size:
            return None
        content = self._read(offset + RECORD_HEADER.size, length)
        return content if len(content) == length and _crc(content) == crc else None

    def append(self, content: bytes) -> int:
        """One more leaf; where it begins. After an OSError it is as if it had never been tried."""
        start = self.size or len(self._magic)
        leaf = memoryview((b"" if self.size else self._magic) + encode_record(content))
        at = self.size
        try:
            while leaf:
                written = self._syscalls.write(self.fd, [leaf], at)
                at += written
                leaf = leaf[written:]
        except OSError:
            with suppress(OSError):
                self.truncate(self.size)
            raise
        self.size = at
        return start

    def truncate(self, size: int) -> None:
        """Take away all from byte `size` on. Raises OSError."""
        self.size = size
        self._syscalls.truncate(self.fd, size)

    def sync(self) -> None:
        """All leaves are on the disk, and the file's name. Raises OSError; then it must not be asked again."""
        if not self._is_directory_synced:
            sync_parent_directory(self.path, self._syscalls)
            self._is_directory_synced = True
        self._syscalls.sync(self.fd)

    def close(self) -> None:
        """May be called twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _check_magic(self) -> int:
        """Where the first leaf begins, once the magic is there. Raises UsageError."""
        found, wanted = self._read(0, len(self._magic)), self._magic
        if len(found) < len(wanted) and wanted.startswith(found):
            self.size = 0
        elif found[:-1] != wanted[:-1]:
            raise UsageError(f"{self.path} is not a {wanted[:-1].decode()}: it is left alone")
        elif found != wanted:
            raise UsageError(f"{self.path} is a {wanted[:-1].decode()} of version {found[-1]}, not {wanted[-1]}")
        return len(wanted)

    def _has_valid_record_after(self, offset: int) -> bool:
        """Whether there is any good leaf behind this byte."""
        from mmap import ACCESS_READ, mmap  # for torn and damaged files only

        with mmap(self.fd, 0, access=ACCESS_READ) as text:
            offset = text.find(RECORD_MAGIC, offset + 1)
            while offset >= 0:
                if self.read_record(offset) is not None:
                    return True
                offset = text.find(RECORD_MAGIC, offset + 1)
        return False

    def _read(self, offset: int, length: int) -> bytes:
        """So many bytes from there, or fewer at the end of the file."""
        found = os.pread(self.fd, length, offset)
        while found and len(found) < length:  # a read stops at 2 GiB
            more = os.pread(self.fd, length - len(found), offset + len(found))
            if not more:
                break
            found += more
        return found
