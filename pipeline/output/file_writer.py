"""One output file or stdout: resume, non-blocking append, sync.

A spout: one descriptor that is written to as far as it takes, and never waited for.

It promises to write all that was added, in order, many pieces in one call, and to say how much is out. It never changes
the flags of a descriptor that others share.

A sheet: one file of the output, or stdout, begun anew or gone on with.

It promises that an existing file is touched only when there is something to write, or when a run goes on behind what
is committed, and that it is then cut to just that. It refuses a file that is shorter: somebody has changed it.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from itertools import islice

from pipeline.model.errors import STDOUT_CLOSED_REASON, UsageError
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, Syscalls, sync_parent_directory

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


STDOUT, STDERR = 1, 2


class FileWriter:
    """One file, or stdout if `path` is empty. With `size`, it goes on behind so many bytes."""

    def __init__(self, path: str, committed_size: int | None, syscalls: Syscalls) -> None:
        """Raises UsageError if it is plainly not writable, or shorter than `size`."""
        self.path, self._syscalls = path, syscalls
        self._start_offset, self._fd, self._is_directory_synced = committed_size or 0, STDOUT, False
        self.writer: NonblockingWriter | None = None
        self.is_line_complete = True
        """Whether the last that was added is a whole line."""
        if not path:
            self.writer = open_writer(STDOUT, syscalls)
            if self.writer is None:
                raise UsageError(STDOUT_CLOSED_REASON)
            return
        check_writable(path)
        if committed_size is not None:
            self._resume(committed_size)

    def open(self) -> None:
        """Be there, and empty, unless it is open already. Raises OSError."""
        if self.writer is None:
            self._open_file(os.O_TRUNC)

    def _open_file(self, extra_flags: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | extra_flags
        self._fd = os.open(self.path, flags, 0o666)
        self.writer = NonblockingWriter(self._fd, self._syscalls)

    def _resume(self, committed_size: int) -> None:
        try:
            self._open_file(0)
            there = os.fstat(self._fd)
            if stat.S_ISREG(there.st_mode):
                if there.st_size < committed_size:
                    raise UsageError(
                        f"{self.path} has {there.st_size} bytes where {committed_size} were written: it was changed"
                    )
                self._syscalls.truncate(self._fd, committed_size)
                os.lseek(self._fd, committed_size, os.SEEK_SET)
        except OSError as error:
            raise UsageError(f"cannot go on writing {self.path}: {error.strerror}") from None

    def add(self, text: bytes) -> None:
        """To be written behind all that was added before. It must be open."""
        assert self.writer
        self.writer.add(text)
        self.is_line_complete = text.endswith(b"\n") if text else self.is_line_complete

    def flush(self) -> None:
        """Write all that goes without waiting. Raises OSError."""
        if self.writer:
            self.writer.flush()

    @property
    def queued_size(self) -> int:
        """How long it will be with all that was added."""
        return self._start_offset + (self.writer.queued_bytes if self.writer else 0)

    @property
    def written_size(self) -> int:
        """How long it is."""
        return self._start_offset + (self.writer.written_bytes if self.writer else 0)

    def sync(self) -> None:
        """What is out is on the disk. Raises OSError, naming the file."""
        if self.writer is None or not stat.S_ISREG(os.fstat(self._fd).st_mode):
            return
        try:
            if self.path and not self._is_directory_synced:
                sync_parent_directory(self.path, self._syscalls)
                self._is_directory_synced = True
            self._syscalls.sync(self._fd)
        except OSError as error:
            raise OSError(error.errno, error.strerror, self.path or "stdout") from None

    def close(self) -> None:
        """Drop what is not written."""
        if self.writer:
            self.writer.close()
        if self._fd > STDERR:
            os.close(self._fd)
        self._fd = STDOUT


def check_writable(path: str) -> None:
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
