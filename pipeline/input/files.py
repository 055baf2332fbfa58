"""Reading of files and stdin in turn, and splitting of bytes into records.

Invariants:
  - a file is opened when its turn has come, and read by blocks; nothing waits for a slow one;
  - the flags of a descriptor that is shared with other processes never change;
  - splitting is linear in the number of bytes, however long a record is;
  - the joined output of RecordSplitter is its input, plus a terminator after each file that lacks one
    (a block stays as it is).
"""

from __future__ import annotations

import codecs
import os
import select
import stat
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.input.stdin_spool import StdinSpool

BLOCK_BYTES = 448 << 10
"""Bytes per read: together with the rest of the block before it, less than one request asks for."""
START_BYTES = 4096
"""Bytes of each file that tell its encoding."""
STDIN = "-"


class InputFiles:
    """All files of the input, "-" being stdin or its spool."""

    def __init__(self, names: Sequence[str], stdin: int, spool: StdinSpool | None) -> None:
        """Check the files, but open none. Raises UsageError for one that cannot be read."""
        self.name, self.opened_count = "", 0
        """Display name of the current file, and the number of files opened up to it."""
        self._remaining, self._stdin, self._spool = deque(names), stdin, spool
        self._current: Readable | None = None
        self._has_content = False
        pairs = [self._identity(name) for name in names]
        self.identities = tuple(identity for identity, _ in pairs)
        self.states = tuple(state for _, state in pairs)

    def __bool__(self) -> bool:
        return bool(self._current or self._remaining)

    @property
    def pollables(self) -> list[object]:
        """The descriptors that must be ready before more can be read."""
        return [self._current.fd] if self._current and self._current.may_block else []

    def feed(self, splitter: RecordSplitter, *, keep_separate: bool) -> str:
        """Read once from a file that may block; else read a block, from several files if need be.

        With `keep_separate`, bytes of two files are never added in one call. Return why reading failed, or "".
        """
        budget = BLOCK_BYTES
        while budget > 0 and self:
            try:
                piece = self.read()
            except OSError as error:
                self.close()
                return f"{self.name}: {error.strerror}"
            if piece:
                if splitter.is_text and not self._has_content and (encoding := find_wide_encoding(piece)):
                    self.close()
                    return f"{self.name} is encoded in {encoding}; {convert_hint(encoding)}"
                self._has_content = True
                splitter.add(piece)
                budget -= BLOCK_BYTES if self.pollables else len(piece)
            elif piece is None:
                break
            else:
                splitter.finish()
                self.next_file()
                budget -= BLOCK_BYTES if keep_separate else 0
        return ""

    def read(self) -> bytes | None:
        """Read from the current file: b"" at its end, None if there is nothing yet. Raises OSError."""
        if self._current is None:
            name = self._remaining.popleft()
            self.name, self.opened_count = display_name(name), self.opened_count + 1
            self._current = self._spool if name == STDIN and self._spool else InputFile(name, self._stdin)
        return self._current.read()

    def next_file(self) -> None:
        """Close the current file. The spool stays open: its owner closes it."""
        if self._current is not self._spool and self._current:
            self._current.close()
        self._current, self._has_content = None, False

    def check_encodings(self) -> None:
        """Raise UsageError for a file that would be split between the bytes of a character."""
        for name in self._remaining:
            with suppress(OSError):  # reading reports it
                if encoding := find_wide_encoding(_read_start(name, self._stdin)):
                    raise UsageError(f"{display_name(name)} is encoded in {encoding}", convert_hint(encoding))

    def close(self) -> None:
        """Close the current file, and forget all others."""
        self.next_file()
        self._remaining.clear()

    def _identity(self, name: str) -> tuple[object, object]:
        if name == STDIN and self._spool:
            return ("spool", self._spool.id), ()
        return file_identity(name, self._stdin)


class Readable(Protocol):
    """A file, or the spool of stdin."""

    fd: int

    @property
    def may_block(self) -> bool:
        """Whether there can be nothing to read before `fd` is ready."""

    def read(self) -> bytes | None:
        """Read a block: b"" at the end, None if there is nothing yet. Raises OSError."""

    def close(self) -> None:
        """Close it."""


class InputFile:
    """An open file, or stdin."""

    def __init__(self, name: str, stdin: int) -> None:
        """Open the file, without waiting for the writer of a FIFO. Raises OSError."""
        self._owns_fd = name != STDIN
        self.fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) if self._owns_fd else stdin
        self.may_block = not stat.S_ISREG(os.fstat(self.fd).st_mode)

    def read(self) -> bytes | None:
        """Read a block: b"" at the end, None if there is nothing yet. Raises OSError."""
        if self.may_block:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            if not poll.poll(0):
                return None
        try:
            return os.read(self.fd, BLOCK_BYTES)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Close the file; stdin stays open, because it is shared."""
        if self._owns_fd:
            os.close(self.fd)


class RecordSplitter:
    """Bytes that were read and not yet returned.

    With `block_size`, whole blocks of records are returned, each of about that many bytes; else all whole records.
    """

    def __init__(self, terminator: bytes, block_size: int | None) -> None:
        self._terminator, self._block_size = terminator, block_size
        self.is_text = terminator == b"\n" and not block_size
        """Whether the bytes are lines, so that the encoding matters."""
        self._parts: list[bytes] = []
        self._size = self._taken_size = self._complete_size = 0
        self._is_finished = False

    def add(self, piece: bytes) -> None:
        """Add bytes of the file. Only they are searched for a terminator."""
        if self._taken_size:
            self._parts = [self._parts[0][self._taken_size :]]
            self._size -= self._taken_size
            self._complete_size = max(0, self._complete_size - self._taken_size)
            self._taken_size = 0
        self._is_finished = False
        cut = piece.rfind(self._terminator) + 1
        if cut:
            self._complete_size = self._size + cut
        self._parts.append(piece)
        self._size += len(piece)

    def finish(self) -> None:
        """End the file: its last record is complete. A block gets no terminator."""
        if self._complete_size < self._size and not self._block_size:
            self.add(self._terminator)
        self._complete_size = self._size
        self._is_finished = True

    def take(self, size: int) -> bytes:
        """Return whole records, about `size` bytes of them but at least one; b"" if more has to be added first."""
        if self._block_size:
            if self._size - self._taken_size < self._block_size and not self._is_finished:
                return b""
            size = self._block_size
        if self._complete_size <= self._taken_size:
            return b""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        body, start, end = self._parts[0], self._taken_size, self._complete_size
        if end - start > size:
            end = (
                body.rfind(self._terminator, start, start + size) + 1
                or body.find(self._terminator, start + size) + 1
                or end
            )
        self._taken_size = end
        if end == self._size:
            self._parts, self._size, self._taken_size, self._complete_size = [], 0, 0, 0
        return body[start:end]


def find_wide_encoding(start: bytes) -> str:
    """Return the encoding of a text with this beginning if it is UTF-16 or UTF-32, else an empty text.

    A byte-order mark alone is not enough: other bytes may begin like one, but contain no NUL.
    """
    if b"\0" not in start:
        return ""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    return "UTF-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ""


def convert_hint(encoding: str) -> str:
    """Return what to do with a text in this encoding."""
    return f"convert it: `iconv -f {encoding} -t UTF-8`"


def _read_start(name: str, stdin: int) -> bytes:
    """Return the first bytes of a regular file, and none of others, which cannot be read twice. Raises OSError."""
    if not stat.S_ISREG(os.fstat(stdin).st_mode if name == STDIN else os.stat(name).st_mode):
        return b""
    if name == STDIN:
        return os.pread(stdin, START_BYTES, os.lseek(stdin, 0, os.SEEK_CUR))
    with open(name, "rb") as file:
        return file.read(START_BYTES)


def display_name(name: str) -> str:
    """Return the name of a file for messages."""
    return "stdin" if name == STDIN else name


def file_identity(name: str, stdin: int) -> tuple[object, object]:
    """Return what distinguishes this file from all others, and its content from earlier ones. Raises UsageError."""
    try:
        status = os.fstat(stdin) if name == STDIN else os.stat(name)
    except FileNotFoundError:
        raise UsageError(f"no such file: {name}") from None
    except OSError as error:
        raise UsageError(f"cannot read {display_name(name)}: {error.strerror}") from None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"cannot read {display_name(name)}: is a directory")
    if name != STDIN and not os.access(name, os.R_OK):
        raise UsageError(f"cannot read {name}: permission denied")
    if not stat.S_ISREG(status.st_mode):  # cannot be read twice: it differs in each process
        return (name, os.getpid(), time.monotonic_ns()), ()
    identity = (
        (status.st_dev, status.st_ino, os.lseek(stdin, 0, os.SEEK_CUR)) if name == STDIN else os.path.abspath(name)
    )
    return identity, (status.st_size, status.st_mtime_ns)
