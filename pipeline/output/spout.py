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

from pipeline.output.kernel import DEFAULT_SYSCALLS, Syscalls

MAX_IOVECS = 1024
"""Pieces in one call: Linux' IOV_MAX."""
ATOMIC_WRITE_BYTES = 4096
"""Bytes that a pipe takes without waiting once poll() calls it writable: Linux' PIPE_BUF."""


class NonblockingWriter:
    """One descriptor that is written to as far as it takes.

    A pipe or terminal is opened anew through /proc, so that it can be non-blocking for us alone. Where that is
    impossible (sockets), it is asked before each write, and the write is short.
    """

    def __init__(self, fd: int, syscalls: Syscalls = DEFAULT_SYSCALLS) -> None:
        """Raises OSError if `fd` is not open."""
        self.queued_bytes = 0
        self.written_bytes = 0
        self._syscalls = syscalls
        self.is_blocked = False
        self._pieces: deque[bytes | memoryview] = deque()
        self._fd, self._owns_fd, self._is_nonblocking = fd, False, True
        self._epoll: select.epoll | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                self._owns_fd = True
            except OSError:  # not ours, or nobody reads it
                self._is_nonblocking = False
        elif stat.S_ISSOCK(mode):
            self._is_nonblocking = False

    def add(self, piece: bytes) -> None:
        """To be written behind all that was added before."""
        if piece:
            self._pieces.append(piece)
            self.queued_bytes += len(piece)

    def flush(self) -> None:
        """Write all that goes without waiting; `blocked` says whether something is left. Raises OSError."""
        self.is_blocked = False
        while self._pieces and not self.is_blocked:
            try:
                self._advance(self._write())
            except BlockingIOError:
                self.is_blocked = True

    def _write(self) -> int:
        if self._is_nonblocking:
            return self._syscalls.write(self._fd, list(islice(self._pieces, MAX_IOVECS)))
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return os.write(self._fd, memoryview(self._pieces[0])[:ATOMIC_WRITE_BYTES])

    def _advance(self, size: int) -> None:
        self.written_bytes += size
        while self._pieces and size >= len(self._pieces[0]):
            size -= len(self._pieces.popleft())
        if size:
            self._pieces[0] = memoryview(self._pieces[0])[size:]

    def writable_fd(self) -> int:
        """A descriptor that is readable once this one is writable."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._epoll.register(self._fd, select.EPOLLOUT)
        return self._epoll.fileno()

    def close(self) -> None:
        """Drop what is left."""
        self._pieces.clear()
        self.is_blocked = False
        if self._epoll is not None:
            self._epoll.close()
        if self._owns_fd:
            os.close(self._fd)
        self._epoll, self._owns_fd = None, False


def open_writer(fd: int, syscalls: Syscalls = DEFAULT_SYSCALLS) -> NonblockingWriter | None:
    """A standard stream, None if this process was started without it."""
    try:
        return NonblockingWriter(fd, syscalls)
    except OSError:
        return None
