"""Reads files and stdin in turn; splits bytes into records.

The cutter: whole records out of pieces of a file, or blocks of them.

It promises that its work is linear in the bytes, however long a record is, and that what it gives out, joined, is
what was added, with a terminator behind each file that had none (but a block is as it is). It never reads.

The files that tasks are read from, one after the other, "-" being stdin or the spool of it.

It promises to open each only when its turn has come, to read by blocks, never to wait for a slow one, and never to
change the flags of a descriptor that others share. What the bytes mean is the cutter's business.
"""

from __future__ import annotations

import os
import select
import stat
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from pipeline.model.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.input.stdin_spool import StdinSpool


class RecordSplitter:
    """Bytes that were read and not yet given out.

    With `block`, it gives out whole blocks of records, each about that many bytes; else all whole records at hand.
    """

    def __init__(self, terminator: bytes, block_size: int | None) -> None:
        """`mark` ends a record; `block` is a size in bytes."""
        self._terminator = terminator
        self._block_size = block_size
        self._parts: list[bytes] = []
        self._size = 0
        self._taken_size = 0
        self._complete_size = 0
        self._is_finished = False

    def add(self, piece: bytes) -> None:
        """More of the file. Only the new bytes are searched."""
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
        """The file is over: its last record is whole, with a terminator or, in a block, without."""
        if self._complete_size < self._size and not self._block_size:
            self.add(self._terminator)
        self._complete_size = self._size
        self._is_finished = True

    def take(self, size: int) -> bytes:
        """Whole records, at most about `size` bytes of them but at least one; nothing if more has to be added first."""
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


BLOCK_BYTES = 448 << 10
"""Bytes to read at a time: with what was left before still less than is wanted at once, so that it goes out whole."""
STDIN = "-"


class Readable(Protocol):
    """A file, or the spool of stdin."""

    fd: int

    @property
    def may_block(self) -> bool:
        """Whether there can be nothing to read before `fd` is ready."""

    def read(self) -> bytes | None:
        """One block, empty at the end; None when there is nothing yet. Raises OSError."""

    def close(self) -> None:
        """Let go of it."""


class InputFile:
    """One file while it is read."""

    def __init__(self, name: str, stdin: int) -> None:
        """Open it; a FIFO whose writer has not come yet does not wait for one. Raises OSError."""
        self._owns_fd = name != STDIN
        self.fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) if self._owns_fd else stdin
        self._may_block = not stat.S_ISREG(os.fstat(self.fd).st_mode)

    @property
    def may_block(self) -> bool:
        """Whether it can be slow."""
        return self._may_block

    def read(self) -> bytes | None:
        """As a Readable."""
        if self._may_block:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            if not poll.poll(0):
                return None
        try:
            return os.read(self.fd, BLOCK_BYTES)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Stdin is somebody else's and stays open."""
        if self._owns_fd:
            os.close(self.fd)


class InputFiles:
    """All of them."""

    def __init__(self, names: Sequence[str], stdin: int, spool: StdinSpool | None) -> None:
        """Nothing is opened yet. Raises UsageError for what plainly cannot be read."""
        self.name, self.opened_count = "", 0
        """Of the file that is being read, as a person calls it; and how many were opened up to it."""
        self._remaining, self._stdin, self._spool = deque(names), stdin, spool
        self._current: Readable | None = None
        found = [self._identity(name) for name in names]
        self.identities = tuple(name for name, _ in found)
        """What tells each from all others."""
        self.states = tuple(state for _, state in found)
        """What changes when it is written to."""

    def __bool__(self) -> bool:
        return bool(self._current or self._remaining)

    @property
    def pollables(self) -> list[object]:
        """What has to be ready before there can be more."""
        return [self._current.fd] if self._current and self._current.may_block else []

    def feed(self, splitter: RecordSplitter, *, keep_separate: bool) -> str:
        """Read once from a file that may wait, a block from those that are there, over their ends if need be.

        `apart`: what two files hold never comes together. The answer is why the reading broke off; empty if it did not.
        """
        budget = BLOCK_BYTES
        while budget > 0 and self:
            try:
                piece = self.read()
            except OSError as error:
                self.close()
                return f"{self.name}: {error.strerror}"
            if piece:
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
        """Some of the current file, empty at its end; None when there is nothing yet. Raises OSError."""
        if self._current is None:
            name = self._remaining.popleft()
            self.name, self.opened_count = display_name(name), self.opened_count + 1
            self._current = self._spool if name == STDIN and self._spool else InputFile(name, self._stdin)
        return self._current.read()

    def next_file(self) -> None:
        """The current one is over."""
        if self._current is not self._spool and self._current:
            self._current.close()
        self._current = None

    def close(self) -> None:
        """No more of any."""
        self.next_file()
        self._remaining.clear()

    def _identity(self, name: str) -> tuple[object, object]:
        if name == STDIN and self._spool:
            return ("spool", self._spool.id), ()
        return file_identity(name, self._stdin)


def display_name(name: str) -> str:
    """A file as a person calls it."""
    return "stdin" if name == STDIN else name


def file_identity(name: str, stdin: int) -> tuple[object, object]:
    """What tells this file from all others, and what tells its bytes from those before. Raises UsageError."""
    try:
        state = os.fstat(stdin) if name == STDIN else os.stat(name)
    except FileNotFoundError:
        raise UsageError(f"no such file: {name}") from None
    except OSError as error:
        raise UsageError(f"cannot read {display_name(name)}: {error.strerror}") from None
    if stat.S_ISDIR(state.st_mode):
        raise UsageError(f"cannot read {display_name(name)}: it is a folder")
    if name != STDIN and not os.access(name, os.R_OK):
        raise UsageError(f"cannot read {name}: permission denied")
    if not stat.S_ISREG(state.st_mode):
        return (name, os.getpid(), time.monotonic_ns()), ()
    place = (state.st_dev, state.st_ino, os.lseek(stdin, 0, os.SEEK_CUR)) if name == STDIN else os.path.abspath(name)
    return place, (state.st_size, state.st_mtime_ns)
