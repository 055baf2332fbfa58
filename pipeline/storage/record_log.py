"""Append-only file of records with length and checksum; the base of journal and spill files.

- A record is in the file completely or not at all. An incomplete record at the end, left by a crash, is cut off.
- A bad record before a good one is damage: it is reported with its offset, and the file is not used.
- The contents of records are opaque here.
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
"""Begins each record. If a length is damaged, the next record is found by searching for this."""
RECORD_HEADER = struct.Struct("<4sII")
"""Magic, length of the content, and the crc32 of length and content."""


def encode_record(content: bytes) -> bytes:
    """Return a record as it is stored."""
    return RECORD_HEADER.pack(RECORD_MAGIC, len(content), _crc(content)) + content


def _crc(content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(struct.pack("<I", len(content))))


class RecordLog:
    """One open file. It starts with `magic`, whose last byte is the version of the format."""

    def __init__(self, fd: int, path: str, magic: bytes, syscalls: Syscalls = DEFAULT_SYSCALLS) -> None:
        """Take over the descriptor. Before appending to an existing file, exhaust `iter_records`."""
        self.fd, self.path, self._magic, self._syscalls = fd, path, magic, syscalls
        self.size = os.fstat(fd).st_size
        """Bytes up to the end of the last good record, as far as it has been read."""
        self._is_directory_synced = False

    def iter_records(self) -> Iterator[tuple[int, bytes]]:
        """Yield offset and content of each record, up to an incomplete end. Raises UsageError, OSError."""
        offset = self._check_magic()
        while offset < self.size:
            content = self.read_record(offset)
            if content is None:
                if self._has_valid_record_after(offset):
                    hint = "restore it from a copy, or use --restart to discard the run"
                    raise UsageError(f"{self.path} is damaged at byte {offset}", hint)
                self.size = offset
                return
            yield offset, content
            offset += RECORD_HEADER.size + len(content)

    def read_record(self, offset: int) -> bytes | None:
        """Return the content of the record at `offset`; None if there is no good one. Raises OSError."""
        header = self._read(offset, RECORD_HEADER.size)
        if len(header) < RECORD_HEADER.size:
            return None
        magic, length, crc = RECORD_HEADER.unpack(header)
        if magic != RECORD_MAGIC or length > self.size - offset - RECORD_HEADER.size:
            return None
        content = self._read(offset + RECORD_HEADER.size, length)
        return content if len(content) == length and _crc(content) == crc else None

    def append(self, content: bytes) -> int:
        """Append a record and return its offset. After an OSError the file is as before."""
        start = self.size or len(self._magic)
        record = memoryview((b"" if self.size else self._magic) + encode_record(content))
        offset = self.size
        try:
            while record:
                written = self._syscalls.write(self.fd, [record], offset)
                offset += written
                record = record[written:]
        except OSError:
            with suppress(OSError):
                self.truncate(self.size)
            raise
        self.size = offset
        return start

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes. Raises OSError."""
        self.size = size
        self._syscalls.truncate(self.fd, size)

    def sync(self) -> None:
        """Flush all records and the name of the file to the disk. Raises OSError; then do not call it again."""
        if not self._is_directory_synced:
            sync_parent_directory(self.path, self._syscalls)
            self._is_directory_synced = True
        self._syscalls.sync(self.fd)

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def _check_magic(self) -> int:
        """Return the offset of the first record. Raises UsageError."""
        found, expected = self._read(0, len(self._magic)), self._magic
        name = expected[:-1].decode()
        if len(found) < len(expected) and expected.startswith(found):
            self.size = 0
        elif found[:-1] != expected[:-1]:
            raise UsageError(f"{self.path} is not a {name}", "choose another file")
        elif found != expected:
            hint = "use the version of pipe that wrote it, or --restart to discard the run"
            raise UsageError(f"{self.path} is a {name} of version {found[-1]}, not {expected[-1]}", hint)
        return len(expected)

    def _has_valid_record_after(self, offset: int) -> bool:
        from mmap import ACCESS_READ, mmap  # for incomplete and damaged files only

        with mmap(self.fd, 0, access=ACCESS_READ) as content:
            offset = content.find(RECORD_MAGIC, offset + 1)
            while offset >= 0:
                if self.read_record(offset) is not None:
                    return True
                offset = content.find(RECORD_MAGIC, offset + 1)
        return False

    def _read(self, offset: int, length: int) -> bytes:
        """Read `length` bytes, or fewer at the end of the file."""
        content = os.pread(self.fd, length, offset)
        while content and len(content) < length:  # a read stops at 2 GiB
            more = os.pread(self.fd, length - len(content), offset + len(content))
            if not more:
                break
            content += more
        return content
