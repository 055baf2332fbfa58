"""Output of a task, in memory and, from a certain size on, in files.

Invariants:
  - nothing is cut: all that was appended can be read back, tagged;
  - memory use does not depend on how much a task writes.
"""

from __future__ import annotations

import re

from pipeline.executor.outcomes import STDERR_TAIL_BYTES
from pipeline.storage.content_file import ContentFile

MAX_MEMORY_BYTES = 4 << 20
"""Bytes that a task may write to one pipe before they go to a file."""
WRITE_BYTES = 1 << 20  # at least, in one write to the file

_INNER_LINE_START = re.compile(rb"(?<=[\r\n])(?=.)", re.DOTALL)  # of each line but the first


def prefix_lines(text: bytes, tag: bytes) -> bytes:
    """Return the text with the tag before each line. A line also starts after a carriage return, as in GNU parallel."""
    if not tag or not text:
        return text
    if b"\r" not in text:
        return tag + text[:-1].replace(b"\n", b"\n" + tag) + text[-1:]  # 40 times faster
    return tag + _INNER_LINE_START.sub(tag.replace(b"\\", rb"\\"), text)


class TaskText:
    """Text that one task has written to one pipe, with `tag` before each line. `raw_size` counts bytes without tags."""

    __slots__ = ("_file", "_is_line_start", "_memory_size", "_pieces", "_tag", "raw_size", "tail")

    def __init__(self, tag: bytes = b"") -> None:
        self._tag, self._is_line_start = tag, True
        self._pieces: list[bytes] = []
        self._memory_size = self.raw_size = 0
        self._file: ContentFile | None = None
        self.tail = b""
        """The end of what was written, without tags."""

    @property
    def size(self) -> int:
        return self._memory_size + (self._file.size if self._file else 0)

    @property
    def is_in_file(self) -> bool:
        """Whether it was too much for memory."""
        return self._file is not None

    def append(self, data: bytes) -> None:
        """Add text that the task has written. Raises OSError if the file cannot be written; then it is incomplete."""
        if not data:
            return
        self.raw_size += len(data)
        self.tail = (self.tail + data[-STDERR_TAIL_BYTES:])[-STDERR_TAIL_BYTES:]
        text = prefix_lines(data, self._tag)
        if self._tag and not self._is_line_start:
            text = text[len(self._tag) :]
        self._is_line_start = data[-1:] in b"\r\n"
        self._pieces.append(text)
        self._memory_size += len(text)
        if self._memory_size > (WRITE_BYTES if self._file else MAX_MEMORY_BYTES):
            self._write()

    def clear(self) -> None:
        """Forget everything."""
        self._pieces.clear()
        self._memory_size, self._file = 0, None

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on, fewer at the end. Call `flush` before. Raises OSError."""
        return self._file.read(start, size) if self._file else b"".join(self._pieces)[start : start + size]

    def flush(self) -> None:
        """Write everything to the file, if there is one. Raises OSError."""
        if self._file:
            self._write()

    def _write(self) -> None:
        if self._file is None:
            self._file = ContentFile()
        self._file.append(b"".join(self._pieces))
        self._pieces.clear()
        self._memory_size = 0


class TaskContent:
    """Content of a large result: stdout and then stderr of one task."""

    def __init__(self, stdout: TaskText, stderr: TaskText) -> None:
        self._stdout, self._stderr = stdout, stderr

    @property
    def sizes(self) -> tuple[int, int]:
        """Bytes of stdout and of stderr."""
        return self._stdout.size, self._stderr.size

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes from `start` on, fewer at the end. Raises OSError."""
        output = self._stdout.read(start, size) if start < self._stdout.size else b""
        rest = size - len(output)
        return output + (self._stderr.read(max(0, start - self._stdout.size), rest) if rest else b"")
