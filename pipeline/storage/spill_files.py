"""Files of the spill buffer.

A segment: one file of results that wait for their turn, written behind its end.

A result that was written comes back as it was, or not at all. A segment without a path has no name on the disk, and is
gone with the process; nothing is pickled.

The shelf: the files of the spill, and where in them each result lies.

There are two rows. *Segments* hold what memory had no place for, neighbours merged into one result. *Logs* are there
for a durable spill only: each result as it came, so that what is in memory outlives the process. A file goes when no
result in it is needed; a durable one is needed until its tasks are forgotten. It never keeps an entry for each result.
"""

from __future__ import annotations

import errno
import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import suppress

from msgspec import Struct
from msgspec.structs import astuple

from pipeline.model.messages import Result, TaskFailure
from pipeline.storage.disk_io import Syscalls, sync_parent_directory
from pipeline.storage.record_log import RecordLog

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


SEGMENT_BYTES = 256 << 20
"""Bytes in a file before the next one is begun."""
LOG_BYTES = 16 << 20
"""The same, of a log."""


class FileLocation(Struct, frozen=True):
    """Where a result lies."""

    file: SpillFile
    offset: int


class SpillFiles:
    """The files in `durable`, or without names in `folder`."""

    def __init__(self, folder: str | None, durable_folder: str, syscalls: Syscalls) -> None:
        """None is made before it is needed."""
        self.location = durable_folder or folder or "results ahead of their turn"
        self._folder, self._durable_folder, self._syscalls = folder, durable_folder, syscalls
        self._segments: list[SpillFile] = []
        self._logs: list[SpillFile] = []
        self._recovered_files: list[SpillFile] = []
        self._locations: dict[int, FileLocation] = {}
        self._discarded_below = 0
        self._must_sync, self._must_sync_directory = False, False
        self._next_number = 1 + max((int(name[:8]) for name in self._file_names()), default=0)

    def log(self, result: Result) -> None:
        """Keep it as it came. Raises OSError."""
        if self._durable_folder:
            self._writable_file(self._logs, LOG_BYTES, "log").append(result)

    def store(self, result: Result) -> None:
        """Keep it, to be taken. Raises OSError."""
        segment = self._writable_file(self._segments, SEGMENT_BYTES, "segment")
        self._locations[result.first] = FileLocation(segment, segment.append(result))

    def pop(self, first: int) -> Result | None:
        """The stored result that begins with task `first`; None if there is none. Raises OSError."""
        extent = self._locations.pop(first, None)
        if extent is None:
            return None
        result = extent.file.pop(extent.offset)
        if not self._durable_folder and not extent.file.live_count:
            self._segments.remove(extent.file)
            extent.file.remove()
        return result

    def drop_logs(self, popped_below: int) -> None:
        """All that was logged is stored now, or was handed out and lies below task `handed`. Raises OSError."""
        if self._must_sync:
            self.sync()
        for log in (*self._logs, *filter(is_log, self._recovered_files)):
            log.end = min(log.end, popped_below)
        self.discard_below(self._discarded_below)

    def discard_below(self, below: int) -> None:
        """All tasks below this number are not needed any more. Raises OSError."""
        self._discarded_below = max(self._discarded_below, below)
        for row in (self._segments, self._logs, self._recovered_files) if self._durable_folder else ():
            for segment in [each for each in row if each.end <= self._discarded_below]:
                segment.remove()
                row.remove(segment)

    def sync(self) -> None:
        """What is durable is on the disk, and will be from now on before a log goes. Raises OSError."""
        if not self._durable_folder:
            return
        self._must_sync = True
        for segment in (*self._segments, *self._logs):
            segment.sync()
        if self._must_sync_directory:
            sync_parent_directory(self._durable_folder.rstrip("/"), self._syscalls)
            self._must_sync_directory = False

    def recover(self) -> Iterator[tuple[FileLocation, Result]]:
        """What a process before this one has left, segments first. Raises UsageError, OSError."""
        for name in sorted(self._file_names(), key=lambda name: (name[9:] == "log", name)):
            segment = SpillFile(os.path.join(self._durable_folder, name), None, self._syscalls)
            self._recovered_files.append(segment)
            for start, result in segment.results():
                yield FileLocation(segment, start), result

    def retain(self, location: FileLocation, result: Result, parts: list[tuple[int, int]]) -> bool:
        """These ranges of what was left are needed. True if it can be taken from where it is."""
        whole = parts == [(result.first, result.first + result.count)]
        location.file.end = max([location.file.end, *(high for _, high in parts)])
        if not whole or is_log(location.file):
            return False
        location.file.live_count += 1
        self._locations[result.first] = location
        return True

    def close(self) -> None:
        """Let go of all; what is durable stays."""
        for row in (self._segments, self._logs, self._recovered_files):
            for segment in row:
                segment.close()
            row.clear()
        self._locations.clear()

    def remove(self) -> None:
        """Nothing will be needed, of this process or one before it."""
        self.close()
        for name in self._file_names():
            os.unlink(os.path.join(self._durable_folder, name))
        with suppress(OSError):  # it was never made, or others have put something in
            os.rmdir(self._durable_folder)

    def _writable_file(self, files: list[SpillFile], max_bytes: int, kind: str) -> SpillFile:
        if not files or files[-1].size >= max_bytes:
            files.append(self._create_file(kind))
        return files[-1]

    def _create_file(self, kind: str) -> SpillFile:
        if not self._durable_folder:
            return SpillFile("", self._folder, self._syscalls)
        if not os.path.isdir(self._durable_folder):
            os.makedirs(self._durable_folder, 0o700)
            self._must_sync_directory = True
        name = f"{self._next_number:08}.{kind}"
        self._next_number += 1
        return SpillFile(os.path.join(self._durable_folder, name), None, self._syscalls)

    def _file_names(self) -> list[str]:
        names = os.listdir(self._durable_folder) if self._durable_folder and os.path.isdir(self._durable_folder) else []
        return sorted(name for name in names if re.fullmatch(r"[0-9]{8}\.(log|segment)", name))


def is_log(file: SpillFile) -> bool:
    """Whether it holds results as they came."""
    return file.path.endswith(".log")
