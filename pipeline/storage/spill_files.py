"""Files of the spill buffer, and where each result is in them.

- *Segments* hold what did not fit into memory, neighbours merged into one result.
- *Logs* exist only for a durable spill: each result as it arrived, so that results in memory survive the process.
- A file is removed when none of its results is needed. Results in a durable one are needed until they are discarded.
- There is one location for each result in a segment, none for those in a log.
- The *content* of a large result has a file of its own, which is written before the result is, and whose name the
  result's record contains.
- A result is read back unchanged or not at all. A file without a path has no name on the disk and disappears with the
  process. Nothing is pickled.
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
from pipeline.model.results import LargeContent, LargeResult, with_content
from pipeline.storage.content_file import ContentFile, open_file
from pipeline.storage.disk_io import Syscalls, sync_file, sync_parent_directory
from pipeline.storage.record_log import RecordLog

SPILL_MAGIC = b"pipe spill\x03"
LENGTHS_STRUCT = struct.Struct("<IQQQQ")
"""Lengths of header, output, output ends, stderr and failed records; the rest are the metrics."""
SEGMENT_BYTES = 256 << 20
"""Bytes in a segment before the next one is started."""
LOG_BYTES = 16 << 20
"""Bytes in a log before the next one is started."""
TEMPORARY_NAME = "temporary spill file"


class FileLocation(Struct, frozen=True):
    """Where a result is stored."""

    file: SpillFile
    offset: int


class SpillFiles:
    """Files in `durable_folder`, or without names in `folder`. Each is created when it is needed."""

    def __init__(self, folder: str | None, durable_folder: str, syscalls: Syscalls) -> None:
        self.location = durable_folder or folder or TEMPORARY_NAME
        self._folder, self._durable_folder, self._syscalls = folder, durable_folder, syscalls
        self._segments: list[SpillFile] = []
        self._logs: list[SpillFile] = []
        self._recovered_files: list[SpillFile] = []
        self._locations: dict[int, FileLocation] = {}
        self._contents: dict[int, LargeContent] = {}
        """Contents of the large results in segments, by their task."""
        self._named_contents: list[tuple[int, ContentFile]] = []
        """Contents that survive the process, with their task."""
        self._unsynced_paths: list[str] = []
        self._discarded_below = 0
        self._must_sync, self._must_sync_directory = False, False
        self._next_number = 1 + max((int(name[:8]) for name in self._file_names()), default=0)

    def log(self, result: Result) -> None:
        """Write a result to the log, if the spill is durable. Raises OSError."""
        if not self._durable_folder:
            return
        self._writable_file(self._logs, LOG_BYTES, "log").append(result)
        if isinstance(result, LargeResult) and isinstance(result.content, ContentFile):
            result.content.release()
            self._unsynced_paths.append(result.content.path)

    def store(self, result: Result) -> None:
        """Write a result to a segment. Raises OSError."""
        segment = self._writable_file(self._segments, SEGMENT_BYTES, "segment")
        self._locations[result.first] = FileLocation(segment, segment.append(result))
        if isinstance(result, LargeResult) and result.content:
            self._contents[result.first] = result.content

    def create_content(self, task: int) -> ContentFile:
        """Create the file for the content of a large result of this task. Raises OSError."""
        if not self._durable_folder:
            return ContentFile("", self._folder, self._syscalls)
        content = ContentFile(self._next_path("content"), None, self._syscalls)
        self._named_contents.append((task, content))
        return content

    def pop(self, first: int) -> Result | None:
        """Return the stored result that begins with task `first`; None if there is none. Raises OSError."""
        location = self._locations.pop(first, None)
        if location is None:
            return None
        result = location.file.pop(location.offset)
        if not self._durable_folder and not location.file.live_count:
            self._segments.remove(location.file)
            location.file.remove()
        content = self._contents.pop(first, None)
        return with_content(result, content) if content else result

    def drop_logs(self, popped_below: int) -> None:
        """Remove the logs: each result in them is stored, or was popped and is below this task. Raises OSError."""
        if self._must_sync:
            self.sync()
        for file in (*self._logs, *self._recovered_files):
            if file.is_log:
                file.end = min(file.end, popped_below)
        self.discard_below(self._discarded_below)

    def discard_below(self, below: int) -> None:
        """Remove the files of which all tasks are below this number. Raises OSError."""
        self._discarded_below = max(self._discarded_below, below)
        for files in (self._segments, self._logs, self._recovered_files) if self._durable_folder else ():
            for file in [file for file in files if file.end <= self._discarded_below]:
                file.remove()
                files.remove(file)
        for task, content in self._named_contents:
            if task < self._discarded_below:
                content.remove()
        self._named_contents = [item for item in self._named_contents if item[0] >= self._discarded_below]

    def sync(self) -> None:
        """Flush durable files to the disk; from now on also before a log is removed. Raises OSError."""
        if not self._durable_folder:
            return
        self._must_sync = True
        self._sync_contents()
        for file in (*self._segments, *self._logs):
            file.sync()
        if self._must_sync_directory:
            sync_parent_directory(self._durable_folder.rstrip("/"), self._syscalls)
            self._must_sync_directory = False

    def _sync_contents(self) -> None:
        """Flush the contents of all results in logs. Raises OSError, never ENOSPC, as SpillFile.sync."""
        if not self._unsynced_paths:
            return
        try:
            for path in self._unsynced_paths:
                with suppress(FileNotFoundError):  # discarded meanwhile
                    sync_file(path, self._syscalls)
            sync_parent_directory(self._unsynced_paths[0], self._syscalls)
        except OSError as error:
            raise OSError(errno.EIO, error.strerror, self._durable_folder) from None
        self._unsynced_paths.clear()

    def recover(self) -> Iterator[tuple[FileLocation, Result]]:
        """Yield what an earlier process left, segments first. Raises UsageError, OSError."""
        names = [name for name in self._file_names() if not name.endswith(".content")]
        for name in sorted(names, key=lambda name: (name.endswith("log"), name)):
            file = SpillFile(os.path.join(self._durable_folder, name), None, self._syscalls)
            self._recovered_files.append(file)
            for offset, result, content_name in file.results():
                location = FileLocation(file, offset)
                if not result.large_sizes:
                    yield location, result
                elif content := self._find_content(content_name, result):
                    yield location, with_content(result, content)

    def _find_content(self, name: str, result: Result) -> ContentFile | None:
        """Return the complete content of a large result, if it is still there."""
        path = os.path.join(self._durable_folder, os.path.basename(name))
        if not os.path.isfile(path) or os.path.getsize(path) != sum(result.large_sizes):
            return None
        content = ContentFile(path, None, self._syscalls)
        content.release()
        return content

    def remove_unused_contents(self) -> None:
        """Remove the contents that no retained result names, after `recover`. Raises OSError."""
        used = {content.path for _, content in self._named_contents}
        for name in self._file_names():
            path = os.path.join(self._durable_folder, name)
            if name.endswith(".content") and path not in used:
                os.unlink(path)

    def retain(self, location: FileLocation, result: Result, parts: list[tuple[int, int]]) -> bool:
        """Keep the files, of which these ranges are needed. Return whether the result can be popped from there."""
        if isinstance(result, LargeResult) and isinstance(result.content, ContentFile):
            self._named_contents.append((result.first, result.content))
        is_complete = parts == [(result.first, result.first + result.count)]
        location.file.end = max([location.file.end, *(high for _, high in parts)])
        if not is_complete or location.file.is_log:
            return False
        location.file.live_count += 1
        self._locations[result.first] = location
        if isinstance(result, LargeResult) and result.content:
            self._contents[result.first] = result.content
        return True

    def close(self) -> None:
        """Close all files; durable ones stay."""
        for files in (self._segments, self._logs, self._recovered_files):
            for file in files:
                file.close()
            files.clear()
        self._locations.clear()
        self._contents.clear()
        self._named_contents.clear()

    def remove(self) -> None:
        """Remove all durable files, those of earlier processes included, and their folder."""
        self.close()
        for name in self._file_names():
            os.unlink(os.path.join(self._durable_folder, name))
        with suppress(OSError):  # the folder was never created, or holds other files
            os.rmdir(self._durable_folder)

    def _writable_file(self, files: list[SpillFile], max_bytes: int, kind: str) -> SpillFile:
        if not files or files[-1].size >= max_bytes:
            files.append(self._create_file(kind))
        return files[-1]

    def _create_file(self, kind: str) -> SpillFile:
        if not self._durable_folder:
            return SpillFile("", self._folder, self._syscalls)
        return SpillFile(self._next_path(kind), None, self._syscalls)

    def _next_path(self, kind: str) -> str:
        """Return the path of another durable file, in a folder that exists."""
        if not os.path.isdir(self._durable_folder):
            os.makedirs(self._durable_folder, 0o700)
            self._must_sync_directory = True
        self._next_number += 1
        return os.path.join(self._durable_folder, f"{self._next_number - 1:08}.{kind}")

    def _file_names(self) -> list[str]:
        names = os.listdir(self._durable_folder) if self._durable_folder and os.path.isdir(self._durable_folder) else []
        return sorted(name for name in names if re.fullmatch(r"[0-9]{8}\.(log|segment|content)", name))


class SpillFile:
    """One segment or log."""

    def __init__(self, path: str, folder: str | None, syscalls: Syscalls) -> None:
        """Open or create the file at `path`; if empty, one without a name in `folder` or TMPDIR. Raises OSError."""
        self._path = path
        self._log = RecordLog(open_file(path, folder), path or TEMPORARY_NAME, SPILL_MAGIC, syscalls)
        self._is_dirty = False
        self.live_count = 0
        """Results that were not popped."""
        self.end = 0
        """All tasks in the file are below this number."""

    @property
    def is_log(self) -> bool:
        """Whether the file holds results as they arrived."""
        return self._path.endswith(".log")

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._log.size

    def append(self, result: Result) -> int:
        """Append a result and return its offset. After an OSError it is not in the file."""
        offset = self._log.append(encode_result(result))
        self._is_dirty = True
        self.live_count += 1
        self.end = max(self.end, result.first + result.count)
        return offset

    def results(self) -> Iterator[tuple[int, Result, str]]:
        """Yield offset, result, and the name of its content file, if any, of what an earlier process left.

        Raises UsageError if damaged, OSError.
        """
        for offset, content in self._log.iter_records():
            yield offset, *decode_result(content)

    def pop(self, offset: int) -> Result:
        """Return the result at `offset` and count it as popped. Raises OSError."""
        content = self._log.read_record(offset)
        if content is None:
            raise OSError(errno.EIO, f"the result at byte {offset} is damaged", self._log.path)
        self.live_count -= 1
        return decode_result(content)[0]

    def sync(self) -> None:
        """Flush the file to the disk. Raises OSError, but never ENOSPC: after a failed sync, waiting does not help."""
        if self._is_dirty:
            try:
                self._log.sync()
            except OSError as error:
                raise OSError(errno.EIO, error.strerror, self._log.path) from None
            self._is_dirty = False

    def close(self) -> None:
        """Close the file; one with a path stays on disk."""
        self._log.close()

    def remove(self) -> None:
        """Close and delete the file."""
        self._log.close()
        if self._path:
            with suppress(FileNotFoundError):
                os.unlink(self._path)


def encode_result(result: Result) -> bytes:
    """Encode a result."""
    failures = [astuple(failure) for failure in result.failures]
    numbers = [result.first, result.count, result.attempt]
    content = result.content if isinstance(result, LargeResult) else None
    content_name = os.path.basename(content.path) if isinstance(content, ContentFile) else ""
    texts = result.shape, result.large_sizes, content_name
    header = json.dumps([result.run, result.worker, *numbers, failures, *texts]).encode()
    parts = [header, result.output, result.output_ends, result.stderr, result.failed_records]
    return b"".join([LENGTHS_STRUCT.pack(*map(len, parts)), *parts, result.metrics])


def decode_result(content: bytes) -> tuple[Result, str]:
    """Decode the result that `encode_result` encoded, without the content of a large one, and the name of that."""
    offset, parts = LENGTHS_STRUCT.size, []
    for length in (*LENGTHS_STRUCT.unpack_from(content), len(content)):
        parts.append(content[offset : offset + length])
        offset += length
    header, output, output_ends, stderr, failed_records, metrics = parts
    run, worker, first, count, attempt, failures, shape, large_sizes, content_name = json.loads(header)
    failed = tuple(TaskFailure(*fields) for fields in failures)
    bodies = output, output_ends, stderr, failed, attempt, failed_records, metrics
    return Result(run, worker, first, count, *bodies, shape, tuple(large_sizes)), content_name
