"""The output: what tasks wrote, to stdout or a file, and what they complained of, to stderr behind it.

It promises to write each result whole and in the order it was given, many small ones in one call, all of it at
once while the reader keeps up; and to say what is out. It never waits for a slow reader, never changes the flags
of a descriptor that others share, and touches an existing file only when there is something to write.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.errands import Write, Written
from pipeline.errors import CLOSED, PipelineError, UsageError
from pipeline.messages import Result
from pipeline.station import NEVER, Address, Message

if TYPE_CHECKING:
    from collections.abc import Callable

GATHER = 1024
"""Pieces in one call: Linux' IOV_MAX."""
ATOMIC = 4096
"""Bytes that a pipe takes without waiting once poll() calls it writable: Linux' PIPE_BUF."""


class Spout:
    """One descriptor that is written to as far as it takes.

    A pipe or terminal is opened anew through /proc, so that it can be non-blocking for us alone. Where that is
    impossible (sockets), it is asked before each write, and the write is short.
    """

    def __init__(self, fd: int) -> None:
        """Raises OSError if `fd` is not open."""
        self.added = 0
        self.poured = 0
        self.blocked = False
        self._pieces: deque[bytes | memoryview] = deque()
        self._fd, self._ours, self._polite = fd, False, True
        self._epoll: select.epoll | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                self._ours = True
            except OSError:  # not ours, or nobody reads it
                self._polite = False
        elif stat.S_ISSOCK(mode):
            self._polite = False

    def add(self, piece: bytes) -> None:
        """To be written behind all that was added before."""
        if piece:
            self._pieces.append(piece)
            self.added += len(piece)

    def pour(self) -> None:
        """Write all that goes without waiting; `blocked` says whether something is left. Raises OSError."""
        self.blocked = False
        while self._pieces and not self.blocked:
            try:
                self._advance(self._write())
            except BlockingIOError:
                self.blocked = True

    def _write(self) -> int:
        if self._polite:
            return os.writev(self._fd, list(islice(self._pieces, GATHER)))
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self._fd, memoryview(self._pieces[0])[:ATOMIC])

    def _advance(self, size: int) -> None:
        self.poured += size
        while self._pieces and size >= len(self._pieces[0]):
            size -= len(self._pieces.popleft())
        if size:
            self._pieces[0] = memoryview(self._pieces[0])[size:]

    def ready(self) -> int:
        """A descriptor that is readable once this one is writable."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._epoll.register(self._fd, select.EPOLLOUT)
        return self._epoll.fileno()

    def close(self) -> None:
        """Drop what is left."""
        self._pieces.clear()
        self.blocked = False
        if self._epoll is not None:
            self._epoll.close()
        if self._ours:
            os.close(self._fd)
        self._epoll, self._ours = None, False


class Output:
    """The edge of the sink's OUTPUT port: takes Write, answers Written."""

    def __init__(self, path: str = "", errors: Callable[[bytes], None] | None = None, *, verbose: bool = False) -> None:
        """To the file at `path`, or to stdout if that is empty. Raises UsageError if it is plainly not writable.

        `errors` shows bytes to the person where stderr is not written to directly; it may wait. `verbose` names each
        task that ended with an exit code, too, and not only those that could not say why they failed.
        """
        self.deadline = NEVER
        self._path = path
        self._show, self._verbose = errors, verbose
        self._file = -1
        self._out: Spout | None = None
        self._err: Spout | None = None
        self._number = -1  # nothing yet
        self._failure = ""
        self._told = True
        self._coming: deque[tuple[int, int, bytes]] = deque()
        self._shown: deque[tuple[int, int]] = deque()
        if path:
            check(path)
        else:
            self._out = opened(1)
            if self._out is None:
                raise UsageError(CLOSED)
        if errors is None:
            self._err = opened(2)

    def send(self, _to: Address, message: Message) -> None:
        """Take a Write. After a failure nothing more is written."""
        if not isinstance(message, Write) or self._failure:
            return
        if self._out is None:
            try:
                self._out = self._create()
            except OSError as error:
                self._fail(error)
                return
        self._out.add(message.result.output)
        self._coming.append((message.number, self._out.added, complaints(message.result, verbose=self._verbose)))
        self._told, self.deadline = False, 0.0

    def files(self) -> list[object]:
        """Readable when a blocked stdout or stderr takes more."""
        return [spout.ready() for spout in (self._out, self._err) if spout and spout.blocked]

    def receive(self) -> list[Message]:
        """Write what can be written; Written when that finished a result, or failed."""
        if self._told:
            return []
        try:
            if self._out and not self._failure:
                self._out.pour()
        except OSError as error:
            self._fail(error)
        self.deadline = NEVER
        before = self._number
        self._settle()
        self._told = bool(self._failure) or not (self._coming or self._shown)
        return [Written(self._number, self._failure)] if self._number > before or self._failure else []

    def finish(self) -> None:
        """The run is over: make sure that the file is there even if nothing was written. Raises PipelineError."""
        if self._path and self._out is None and not self._failure:
            try:
                self._out = self._create()
            except OSError as error:
                raise PipelineError(f"cannot write {self._path}: {error.strerror}") from None

    def close(self) -> None:
        """Close what is open, and drop what is not written."""
        for spout in (self._out, self._err):
            if spout:
                spout.close()
        if self._file >= 0:
            os.close(self._file)
        self._file, self._told, self.deadline = -1, True, NEVER

    def _create(self) -> Spout:
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        return Spout(self._file)

    def _fail(self, error: OSError) -> None:
        if error.errno in {errno.EPIPE, errno.EBADF} and not self._path:
            self._failure = CLOSED
        else:
            size = self._out.poured if self._out else 0
            self._failure = f"{self._path or 'stdout'}: {error.strerror} after {size} bytes"
        self._told, self.deadline = False, 0.0

    def _settle(self) -> None:
        """Show the errors behind what is out, and count as written what is out with its errors."""
        while self._out and self._coming and self._coming[0][1] <= self._out.poured:
            number, _, errors = self._coming.popleft()
            if self._err:
                self._err.add(errors)
            elif self._show and errors:
                self._show(errors)
            self._shown.append((number, self._err.added if self._err else 0))
        if self._err:
            try:
                self._err.pour()
            except OSError:  # stderr is gone: nobody can be told
                self._err.close()
                self._err = None
        while self._shown and (self._err is None or self._shown[0][1] <= self._err.poured):
            self._number = self._shown.popleft()[0]


def complaints(result: Result, *, verbose: bool) -> bytes:
    """What its tasks wrote to stderr; then, a line each, who of them failed, and why. Task numbers start at 1 here."""
    named = (f"pipe: task {note.task + 1}: {note.text}" for note in result.notes if note.kind != "exit" or verbose)
    lines = ("".join(c if c.isprintable() else "?" for c in line) + "\n" for line in named)
    return result.errors + "".join(lines).encode(errors="replace")


def opened(fd: int) -> Spout | None:
    """A standard stream, None if this process was started without it."""
    try:
        return Spout(fd)
    except OSError:
        return None


def check(path: str) -> None:
    """Raises UsageError if `path` cannot be written, without touching it."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        reason = "it is a folder"
    elif not os.path.isdir(folder):
        reason = f"no such folder: {folder}"
    elif not os.access(path if os.path.exists(path) else folder, os.W_OK):
        reason = "permission denied"
    else:
        return
    raise UsageError(f"cannot write {path}: {reason}")
