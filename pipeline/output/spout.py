"""A spout: one descriptor that is written to as far as it takes, and never waited for.

It promises to write all that was added, in order, many pieces in one call, and to say how much is out. It never changes
the flags of a descriptor that others share.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from itertools import islice

from pipeline.output.kernel import KERNEL, Kernel

GATHER = 1024
"""Pieces in one call: Linux' IOV_MAX."""
ATOMIC = 4096
"""Bytes that a pipe takes without waiting once poll() calls it writable: Linux' PIPE_BUF."""


class Spout:
    """One descriptor that is written to as far as it takes.

    A pipe or terminal is opened anew through /proc, so that it can be non-blocking for us alone. Where that is
    impossible (sockets), it is asked before each write, and the write is short.
    """

    def __init__(self, fd: int, kernel: Kernel = KERNEL) -> None:
        """Raises OSError if `fd` is not open."""
        self.added = 0
        self.poured = 0
        self._kernel = kernel
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
            return self._kernel.write(self._fd, list(islice(self._pieces, GATHER)))
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


def opened(fd: int, kernel: Kernel = KERNEL) -> Spout | None:
    """A standard stream, None if this process was started without it."""
    try:
        return Spout(fd, kernel)
    except OSError:
        return None
