"""The source: tasks out of arguments, files or stdin, as runs of whole records with their numbers.

It promises to answer one Want with one Records or End, to read lazily and by blocks, to give out what is there
without waiting for more, and to hold no more than one block and one record. It never splits a record, never
changes the flags of a descriptor that others share, and never reads while nobody wants.
"""

from __future__ import annotations

import os
import select
import stat
import time
from typing import TYPE_CHECKING

from pipeline import records
from pipeline.errands import End, Records, Want
from pipeline.errors import UsageError
from pipeline.messages import Recipe
from pipeline.station import NEVER, Address, Message

if TYPE_CHECKING:
    from collections.abc import Sequence

BLOCK = 448 << 10
"""Bytes to read at a time: with what was left before still less than is wanted at once, so that it goes out whole."""
STDIN = "-"


class Cutter:
    """Bytes that were read and not yet given out. Its work is linear in the bytes, however long a record is.

    With `block`, it gives out whole blocks of records, each about that many bytes; else all whole records at hand.
    """

    def __init__(self, mark: bytes, block: int | None) -> None:
        """`mark` ends a record; `block` is a size in bytes."""
        self._mark = mark
        self._block = block
        self._parts: list[bytes] = []
        self._size = 0
        self._given = 0
        self._whole = 0
        self._over = False

    def add(self, piece: bytes) -> None:
        """More of the file. Only the new bytes are searched."""
        if self._given:
            self._parts = [self._parts[0][self._given :]]
            self._size -= self._given
            self._whole = max(0, self._whole - self._given)
            self._given = 0
        self._over = False
        cut = piece.rfind(self._mark) + 1
        if cut:
            self._whole = self._size + cut
        self._parts.append(piece)
        self._size += len(piece)

    def finish(self) -> None:
        """The file is over: its last record is whole, with a terminator or, in a block, without."""
        if self._whole < self._size and not self._block:
            self.add(self._mark)
        self._whole = self._size
        self._over = True

    def take(self, size: int) -> bytes:
        """Whole records, at most about `size` bytes of them but at least one; nothing if more has to be added first."""
        if self._block:
            if self._size - self._given < self._block and not self._over:
                return b""
            size = self._block
        if self._whole <= self._given:
            return b""
        if len(self._parts) > 1:
            self._parts = [b"".join(self._parts)]
        body, start, end = self._parts[0], self._given, self._whole
        if end - start > size:
            end = body.rfind(self._mark, start, start + size) + 1 or body.find(self._mark, start + size) + 1 or end
        self._given = end
        if end == self._size:
            self._parts, self._size, self._given, self._whole = [], 0, 0, 0
        return body[start:end]


class Input:
    """One file while it is read."""

    def __init__(self, name: str, stdin: int) -> None:
        """Open it; a FIFO whose writer has not come yet does not wait for one. Raises OSError."""
        self.name = name
        self._ours = name != STDIN
        self.fd = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY) if self._ours else stdin
        self.waits = not stat.S_ISREG(os.fstat(self.fd).st_mode)

    def read(self) -> bytes | None:
        """One block, empty at the end; None when there is nothing yet. Raises OSError."""
        if self.waits:
            poll = select.poll()
            poll.register(self.fd, select.POLLIN)
            if not poll.poll(0):
                return None
        try:
            return os.read(self.fd, BLOCK)
        except BlockingIOError:
            return None

    def close(self) -> None:
        """Stdin is somebody else's and stays open."""
        if self._ours:
            os.close(self.fd)


class Source:
    """The edge of the ventilator's SOURCE port: takes Want, answers Records or End."""

    def __init__(
        self, recipe: Recipe, files: Sequence[str], arguments: Sequence[str] | None, block: int | None, stdin: int = 0
    ) -> None:
        """Arguments if there are any (not None), else the files in turn, else stdin ("-"). Raises UsageError.

        `block` is a size in bytes; each Records is then one task. `recipe` may say less than what is read in the
        end: the property of that name has the truth.
        """
        if arguments is not None and (files or block):
            msg = "tasks come from the arguments behind :::, so there can be no file and no --block with them"
            raise UsageError(msg)
        self.recipe = Recipe(zero=recipe.zero or arguments is not None, block=block is not None)
        self.deadline = NEVER
        self._stdin = stdin
        self._cutter = Cutter(records.terminator(self.recipe), block)
        self._left = [] if arguments is not None else list(files) or [STDIN]
        self._input: Input | None = None
        self._want: int | None = None
        self._total = 0
        self._reason = ""
        self._identity: tuple[object, ...] = (self.recipe, block, arguments and tuple(arguments))
        self._identity += tuple(identity(name, stdin) for name in self._left)
        if arguments:
            self._cutter.add(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))

    @property
    def fingerprint(self) -> str:
        """The same for the same tasks: 32 hex digits. What cannot be read twice has a new one in each process."""
        from hashlib import blake2b  # 5 ms that only a ventilator spends

        return blake2b(repr(self._identity).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()

    def send(self, _to: Address, message: Message) -> None:
        """Take a Want."""
        if isinstance(message, Want):
            self._want = message.size
            self.deadline = 0.0

    def files(self) -> list[object]:
        """The input, if it may wait and there is a Want to wait for."""
        if self._want is None or self._input is None or not self._input.waits:
            return []
        return [self._input.fd]

    def receive(self) -> list[Message]:
        """The answer to the Want as soon as there is one."""
        if self._want is None:
            return []
        body = self._cutter.take(self._want)
        if not body:
            self._fill()
            body = self._cutter.take(self._want)
        if body:
            count = records.count(body, self.recipe)
            answer: Message = Records(self._total, count, body)
            self._total += count
        elif self._input or self._left:
            self.deadline = NEVER if self.files() else 0.0
            return []
        else:
            answer = End(self._total, self._reason)
        self._want, self.deadline = None, NEVER
        return [answer]

    def close(self) -> None:
        """Close what is open."""
        self._stop()
        self._want, self.deadline = None, NEVER

    def _fill(self) -> None:
        """Read once from an input that may wait, a block from files that are there, over their ends if need be."""
        budget = BLOCK
        while budget > 0 and (self._input or self._left):
            name = self._input.name if self._input else self._left[0]
            try:
                self._input = self._input or Input(self._left.pop(0), self._stdin)
                piece = self._input.read()
            except OSError as error:
                self._stop()
                self._reason = f"{named(name)}: {error.strerror}"
                return
            if piece:
                self._cutter.add(piece)
                budget -= BLOCK if self._input.waits else len(piece)
            elif piece is None:
                return
            else:
                self._cutter.finish()
                self._input.close()
                self._input = None
                budget -= BLOCK if self.recipe.block else 0

    def _stop(self) -> None:
        if self._input:
            self._input.close()
        self._input, self._left = None, []


def named(name: str) -> str:
    """A file as a person calls it."""
    return "stdin" if name == STDIN else name


def identity(name: str, stdin: int) -> tuple[object, ...]:
    """What tells this file's bytes from all others. Raises UsageError if they cannot be read."""
    try:
        state = os.fstat(stdin) if name == STDIN else os.stat(name)
    except FileNotFoundError:
        raise UsageError(f"no such file: {name}") from None
    except OSError as error:
        raise UsageError(f"cannot read {named(name)}: {error.strerror}") from None
    if stat.S_ISDIR(state.st_mode):
        raise UsageError(f"cannot read {named(name)}: it is a folder")
    if name != STDIN and not os.access(name, os.R_OK):
        raise UsageError(f"cannot read {name}: permission denied")
    if not stat.S_ISREG(state.st_mode):
        return name, os.getpid(), time.monotonic_ns()
    place = (state.st_dev, state.st_ino, os.lseek(stdin, 0, os.SEEK_CUR)) if name == STDIN else os.path.abspath(name)
    return place, state.st_size, state.st_mtime_ns
