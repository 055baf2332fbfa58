"""The shelf: the files of the spill, and where in them each result lies.

There are two rows. *Segments* hold what memory had no place for, neighbours merged into one result. *Logs* are there
for a durable spill only: each result as it came, so that what is in memory outlives the process. A file goes when no
result in it is needed; a durable one is needed until its tasks are forgotten. It never keeps an entry for each result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress

from msgspec import Struct

from pipeline.output.kernel import Kernel, sync_folder
from pipeline.output.segment import Segment
from pipeline.words.messages import Result

SEGMENT = 256 << 20
"""Bytes in a file before the next one is begun."""
LOG = 16 << 20
"""The same, of a log."""


class Extent(Struct, frozen=True):
    """Where a result lies."""

    segment: Segment
    start: int


class Shelf:
    """The files in `durable`, or without names in `folder`."""

    def __init__(self, folder: str | None, durable: str, kernel: Kernel) -> None:
        """None is made before it is needed."""
        self.where = durable or folder or "results ahead of their turn"
        self._folder, self._durable, self._kernel = folder, durable, kernel
        self._segments: list[Segment] = []
        self._logs: list[Segment] = []
        self._old: list[Segment] = []
        self._extents: dict[int, Extent] = {}
        self._below = 0
        self._synced, self._unnamed = False, False
        self._next = 1 + max((int(name[:8]) for name in self._names()), default=0)

    def log(self, result: Result) -> None:
        """Keep it as it came. Raises OSError."""
        if self._durable:
            self._last(self._logs, LOG, "log").append(result)

    def store(self, result: Result) -> None:
        """Keep it, to be taken. Raises OSError."""
        segment = self._last(self._segments, SEGMENT, "segment")
        self._extents[result.first] = Extent(segment, segment.append(result))

    def take(self, first: int) -> Result | None:
        """The stored result that begins with task `first`; None if there is none. Raises OSError."""
        extent = self._extents.pop(first, None)
        if extent is None:
            return None
        result = extent.segment.take(extent.start)
        if not self._durable and not extent.segment.kept:
            self._segments.remove(extent.segment)
            extent.segment.remove()
        return result

    def retire(self, handed: int) -> None:
        """All that was logged is stored now, or was handed out and lies below task `handed`. Raises OSError."""
        if self._synced:
            self.sync()
        for log in (*self._logs, *filter(is_log, self._old)):
            log.end = min(log.end, handed)
        self.forget(self._below)

    def forget(self, below: int) -> None:
        """All tasks below this number are not needed any more. Raises OSError."""
        self._below = max(self._below, below)
        for row in (self._segments, self._logs, self._old) if self._durable else ():
            for segment in [each for each in row if each.end <= self._below]:
                segment.remove()
                row.remove(segment)

    def sync(self) -> None:
        """What is durable is on the disk, and will be from now on before a log goes. Raises OSError."""
        if not self._durable:
            return
        self._synced = True
        for segment in (*self._segments, *self._logs):
            segment.sync()
        if self._unnamed:
            sync_folder(self._durable.rstrip("/"), self._kernel)
            self._unnamed = False

    def left(self) -> Iterator[tuple[Extent, Result]]:
        """What a process before this one has left, segments first. Raises UsageError, OSError."""
        for name in sorted(self._names(), key=lambda name: (name[9:] == "log", name)):
            segment = Segment(os.path.join(self._durable, name), None, self._kernel)
            self._old.append(segment)
            for start, result in segment.results():
                yield Extent(segment, start), result

    def keep(self, extent: Extent, result: Result, parts: list[tuple[int, int]]) -> bool:
        """These ranges of what was left are needed. True if it can be taken from where it is."""
        whole = parts == [(result.first, result.first + result.count)]
        extent.segment.end = max([extent.segment.end, *(high for _, high in parts)])
        if not whole or is_log(extent.segment):
            return False
        extent.segment.kept += 1
        self._extents[result.first] = extent
        return True

    def close(self) -> None:
        """Let go of all; what is durable stays."""
        for row in (self._segments, self._logs, self._old):
            for segment in row:
                segment.close()
            row.clear()
        self._extents.clear()

    def remove(self) -> None:
        """Nothing will be needed, of this process or one before it."""
        self.close()
        for name in self._names():
            os.unlink(os.path.join(self._durable, name))
        with suppress(OSError):  # it was never made, or others have put something in
            os.rmdir(self._durable)

    def _last(self, row: list[Segment], limit: int, kind: str) -> Segment:
        if not row or row[-1].size >= limit:
            row.append(self._begun(kind))
        return row[-1]

    def _begun(self, kind: str) -> Segment:
        if not self._durable:
            return Segment("", self._folder, self._kernel)
        if not os.path.isdir(self._durable):
            os.makedirs(self._durable, 0o700)
            self._unnamed = True
        name = f"{self._next:08}.{kind}"
        self._next += 1
        return Segment(os.path.join(self._durable, name), None, self._kernel)

    def _names(self) -> list[str]:
        names = os.listdir(self._durable) if self._durable and os.path.isdir(self._durable) else []
        return sorted(name for name in names if re.fullmatch(r"[0-9]{8}\.(log|segment)", name))


def is_log(segment: Segment) -> bool:
    """Whether it holds results as they came."""
    return segment.path.endswith(".log")
