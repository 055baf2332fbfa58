"""A segment: one file of results that wait for their turn, written behind its end.

A result that was written comes back as it was, or not at all. A segment without a path has no name on the disk, and is
gone with the process; nothing is pickled.
"""

from __future__ import annotations

import errno
import json
import os
import struct
from collections.abc import Iterator
from contextlib import suppress

from msgspec.structs import astuple

from pipeline.journal.book import RecordLog
from pipeline.output.kernel import Syscalls
from pipeline.words.messages import Result
from pipeline.words.parts import TaskFailure

SPILL_MAGIC = b"pipe spill\x02"
LENGTHS_STRUCT = struct.Struct("<IQQQQ")
"""Of the header, the output, the ends, the errors and the records; the accounts are the rest."""


def encode_result(result: Result) -> bytes:
    """A result as bytes."""
    notes = [astuple(note) for note in result.failures]
    numbers = [result.first, result.count, result.attempt]
    header = json.dumps([result.run, result.worker, *numbers, notes, result.shape]).encode()
    lengths = LENGTHS_STRUCT.pack(
        *map(len, (header, result.output, result.output_ends, result.stderr, result.failed_records))
    )
    return b"".join(
        [lengths, header, result.output, result.output_ends, result.stderr, result.failed_records, result.metrics]
    )


def decode_result(blob: bytes) -> Result:
    """The result that was packed."""
    at, parts = LENGTHS_STRUCT.size, []
    for length in (*LENGTHS_STRUCT.unpack_from(blob), len(blob)):
        parts.append(blob[at : at + length])
        at += length
    header, output, ends, errors, records, accounts = parts
    run, worker, first, count, tries, notes, shape = json.loads(header)
    kept = tuple(TaskFailure(*note) for note in notes)
    return Result(run, worker, first, count, output, ends, errors, kept, tries, records, accounts, shape)


class SpillFile:
    """One file."""

    def __init__(self, path: str, folder: str | None, syscalls: Syscalls) -> None:
        """At `path`, or without a name in `folder`, or where temporary files go. Raises OSError."""
        self.path = path
        self._log = RecordLog(_open_file(path, folder), path or "results ahead of their turn", SPILL_MAGIC, syscalls)
        self._is_dirty = False
        self.live_count = 0
        """How many of its results were not taken back."""
        self.end = 0
        """All its tasks are below this number."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self._log.size

    def append(self, result: Result) -> int:
        """Where it begins. Raises OSError; then it is not there."""
        start = self._log.append(encode_result(result))
        self._is_dirty = True
        self.live_count += 1
        self.end = max(self.end, result.first + result.count)
        return start

    def results(self) -> Iterator[tuple[int, Result]]:
        """What a process before this one has left, and where. Raises UsageError for damage, OSError."""
        for start, blob in self._log.iter_records():
            yield start, decode_result(blob)

    def pop(self, start: int) -> Result:
        """What was appended there; it counts as kept no longer. Raises OSError."""
        blob = self._log.read_record(start)
        if blob is None:
            raise OSError(errno.EIO, f"the result at byte {start} is damaged", self._log.path)
        self.live_count -= 1
        return decode_result(blob)

    def sync(self) -> None:
        """All of it is on the disk. Raises OSError, never for want of room: that cannot be waited for here."""
        if self._is_dirty:
            try:
                self._log.sync()
            except OSError as error:
                raise OSError(errno.EIO, error.strerror, self._log.path) from None
            self._is_dirty = False

    def close(self) -> None:
        """What has a path stays there."""
        self._log.close()

    def remove(self) -> None:
        """The space is free again."""
        self._log.close()
        if self.path:
            with suppress(FileNotFoundError):
                os.unlink(self.path)


def _open_file(path: str, folder: str | None) -> int:
    if path:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    from tempfile import TemporaryFile  # rarely needed, and slow to import

    with TemporaryFile(buffering=0, dir=folder) as file:
        return os.dup(file.fileno())
