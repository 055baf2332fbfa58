"""The spill: results that are ahead of their turn, few in memory, many in unlinked temporary files.

It promises to give each kept result back once, when its turn has come, and needs memory for neither bytes nor
single tasks: whenever memory is full, all of it goes to disk, neighbours merged into one result. A file is closed,
and its space free, when nothing is kept in it. Nothing here outlives the process, and nothing is pickled.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errands import Fetch, Keep, Kept, Spilled
from pipeline.errors import StationError
from pipeline.messages import Note, Result
from pipeline.station import NEVER, Address, Message

if TYPE_CHECKING:
    from typing import BinaryIO

MEMORY = 4 << 20
"""Bytes kept in memory at most, what Python adds to them included."""
GROUP = 1 << 20
"""Neighbours are merged up to about this many bytes."""
SEGMENT = 256 << 20
"""Bytes in a file before the next one is begun."""
OVERHEAD = 600
"""Bytes that a small result costs in memory over its contents; about half of it for a note."""

LENGTHS = struct.Struct("<IQQ")
"""Of the header, the output and the ends; the errors are the rest."""


def weight(result: Result) -> int:
    """Bytes of content."""
    return len(result.output) + len(result.ends) + len(result.errors) + sum(len(note.text) for note in result.notes)


def cost(result: Result) -> int:
    """Bytes of memory."""
    return weight(result) + OVERHEAD + OVERHEAD * len(result.notes) // 2


def merged(results: list[Result]) -> Result:
    """Consecutive results as one, the `ends` counted from its start. It bears the name of the first's worker."""
    first = results[0]
    if len(results) == 1:
        return first
    ends: list[int] = []
    base = 0
    for result in results:
        most = len(result.output)  # a worker's word, of which only the last end was checked
        ends += [base + min(end, most) for (end,) in struct.iter_unpack("<I", result.ends)]
        base += len(result.output)
    return Result(
        first.run,
        first.worker,
        first.first,
        sum(result.count for result in results),
        b"".join([result.output for result in results]),
        struct.pack(f"<{len(ends)}I", *ends),
        b"".join([result.errors for result in results]),
        tuple(note for result in results for note in result.notes),
    )


def packed(result: Result) -> bytes:
    """A result as bytes, for this process alone."""
    notes = [[note.task, note.kind, note.code, note.text] for note in result.notes]
    header = json.dumps([result.run, result.worker, result.first, result.count, notes]).encode()
    lengths = LENGTHS.pack(len(header), len(result.output), len(result.ends))
    return b"".join([lengths, header, result.output, result.ends, result.errors])


def unpacked(blob: bytes) -> Result:
    """The result that was packed."""
    header, output, ends = LENGTHS.unpack_from(blob)
    start = LENGTHS.size + header
    run, worker, first, count, notes = json.loads(blob[LENGTHS.size : start])
    middle, last = start + output, start + output + ends
    kept = tuple(Note(*note) for note in notes)
    return Result(run, worker, first, count, blob[start:middle], blob[middle:last], blob[last:], kept)


class Segment:
    """One temporary file without a name: written behind its end, closed when all was taken back."""

    def __init__(self, folder: str | None) -> None:
        """In `folder`, or where temporary files go. Raises OSError."""
        from tempfile import TemporaryFile  # rarely needed, and slow to import

        self._file: BinaryIO = TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - closed when empty
        self.size = 0
        self.kept = 0

    def append(self, blob: bytes) -> int:
        """Where it begins. Raises OSError."""
        start, view = self.size, memoryview(blob)
        while view:
            written = os.pwrite(self._file.fileno(), view, self.size)
            self.size += written
            view = view[written:]
        self.kept += 1
        return start

    def take(self, start: int, length: int) -> bytes:
        """What was appended there; it is not kept from now on. Raises OSError."""
        parts = []
        while length:
            part = os.pread(self._file.fileno(), length, start)
            if not part:
                raise StationError(f"the spill file ends at {start}")
            parts.append(part)
            start += len(part)
            length -= len(part)
        self.kept -= 1
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """The space is free again."""
        self._file.close()


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a result lies, in bytes."""

    segment: Segment
    start: int
    length: int


class Spill:
    """The edge of the sink's SPILL port: takes Keep and Fetch, answers Spilled and Kept."""

    def __init__(self, folder: str | None = None) -> None:
        """Temporary files go to `folder`, else to TMPDIR. None is made before it is needed."""
        self.deadline = NEVER
        self.size = 0
        """Bytes of content that are kept, in memory and on disk."""
        self._folder = folder
        self._memory: dict[int, Result] = {}
        self._cost = 0
        self._disk: dict[int, Extent] = {}
        self._segments: list[Segment] = []
        self._answers: list[Message] = []
        self._number = -1  # nothing yet

    def send(self, _to: Address, message: Message) -> None:
        """Take a Keep, or a Fetch of a task that a kept result begins with."""
        self.deadline = 0.0
        try:
            if isinstance(message, Keep):
                self._keep(message.result)
                self._number = message.number
                self._answer(Spilled(self._number))
            elif isinstance(message, Fetch):
                self._answers.append(Kept(self._fetch(message.first)))
        except OSError as error:
            self._answers.append(Spilled(self._number, f"results ahead of their turn: {error.strerror}"))

    def files(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """The answers since the last time."""
        self.deadline = NEVER
        answers, self._answers = self._answers, []
        return answers

    def close(self) -> None:
        """Forget all."""
        for segment in self._segments:
            segment.close()
        self._segments.clear()
        self._disk.clear()
        self._memory.clear()

    def _answer(self, spilled: Spilled) -> None:
        """Spilled says all up to its number, so the newest is enough."""
        if self._answers and isinstance(self._answers[-1], Spilled) and not self._answers[-1].failure:
            self._answers.pop()
        self._answers.append(spilled)

    def _keep(self, result: Result) -> None:
        self._memory[result.first] = result
        self._cost += cost(result)
        self.size += weight(result)
        if self._cost > MEMORY:
            for first in sorted(self._memory):
                if first in self._memory:
                    self._store(merged(self._neighbours(first)))

    def _store(self, result: Result) -> None:
        if not self._segments or self._segments[-1].size >= SEGMENT:
            self._segments.append(Segment(self._folder))
        segment, blob = self._segments[-1], packed(result)
        self._disk[result.first] = Extent(segment, segment.append(blob), len(blob))

    def _neighbours(self, first: int) -> list[Result]:
        """Out of memory: the result at `first` and, up to a group, those that follow it without a gap."""
        found: list[Result] = []
        size = 0
        while size < GROUP and first in self._memory:
            result = self._memory.pop(first)
            found.append(result)
            first += result.count
            size += cost(result)
            self._cost -= cost(result)
        return found

    def _fetch(self, first: int) -> Result:
        if first in self._memory:
            result = merged(self._neighbours(first))
        elif first in self._disk:
            extent = self._disk.pop(first)
            result = unpacked(extent.segment.take(extent.start, extent.length))
            if not extent.segment.kept:
                extent.segment.close()
                self._segments.remove(extent.segment)
        else:
            raise StationError(f"no result that begins with task {first} is kept")
        self.size -= weight(result)
        return result
