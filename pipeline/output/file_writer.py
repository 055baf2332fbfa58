"""One output file or stdout: resume, non-blocking append, sync.

Invariants:
  - bytes are written in the order in which they were added, up to MAX_IOVECS pieces in one call;
  - no call waits for a slow reader, and the flags of a shared descriptor never change;
  - an existing file is touched only when there is something to write, or when a run resumes; a resumed file is
    truncated to its committed size, and one that is shorter is refused.
"""

from __future__ import annotations

import os
import select
import stat
from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from pipeline.model.errors import STDOUT_CLOSED_REASON, UsageError
from pipeline.output.formats import plain_output
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, Syscalls, sync_parent_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipeline.model.events import WriteResult
    from pipeline.output.destinations import ProgressDisplay

STDOUT, STDERR = 1, 2
MAX_IOVECS = 1024
"""Pieces in one call: Linux' IOV_MAX."""
MAX_BACKLOG_BYTES = 4 << 20
"""Bytes in a queue above which no more of a large result is read."""
FILL_STEPS = 8
"""Pieces of a large result that are read in one turn of the event loop."""
ATOMIC_WRITE_BYTES = 4096
"""Bytes that a pipe accepts without waiting once poll() reports it as writable: Linux' PIPE_BUF."""


class FileDestination:
    """A file, or stdout if `path` is empty, with one text per result.

    With `committed_size`, the run resumes, and appends after that many bytes. `header` makes the first line of an
    empty file from the first result.
    """

    def __init__(
        self,
        path: str,
        committed_size: int | None,
        syscalls: Syscalls,
        formatter: Callable[[WriteResult], bytes | Iterator[bytes]] = plain_output,
        header: Callable[[WriteResult], bytes] | None = None,
        display: ProgressDisplay | None = None,
    ) -> None:
        """Raise UsageError if `path` is not writable, or shorter than `committed_size`."""
        self.path, self._syscalls = path, syscalls
        self._formatter, self._header, self._display = formatter, header, display
        self._start_offset, self._fd, self._is_directory_synced = committed_size or 0, STDOUT, False
        self._is_line_complete = True
        self._rest: Iterator[bytes] | None = None
        """The pieces of a large result that are not queued yet."""
        self.writer: NonblockingWriter | None = None
        if not path:
            self.writer = open_writer(STDOUT, syscalls)
            if self.writer is None:
                raise UsageError(STDOUT_CLOSED_REASON)
            return
        check_writable(path)
        if committed_size is not None:
            self._resume(committed_size)

    @property
    def is_filling(self) -> bool:
        """Whether a part of the last result is not queued yet."""
        return self._rest is not None

    @property
    def queued_size(self) -> int:
        """Size of the file once all that was added is written."""
        return self._start_offset + (self.writer.queued_bytes if self.writer else 0)

    @property
    def written_size(self) -> int:
        """Size of the file."""
        return self._start_offset + (self.writer.written_bytes if self.writer else 0)

    def open(self) -> None:
        """Create or truncate the file, unless it is open. Raises OSError."""
        if self.writer is None:
            self._open_file(os.O_TRUNC)

    def write(self, message: WriteResult) -> None:
        """Queue the text of a result, after the header if the file is empty."""
        text = self._formatter(message)
        if text and self._header and not self.queued_size:
            self._add(self._header(message))
        if isinstance(text, bytes):
            self._add(text)
        else:
            self._rest = text

    def write_lines(self, lines: bytes) -> None:
        """Queue lines of a running task, if the file contains plain output."""
        if self._formatter is plain_output:
            self._add(lines)

    def flush(self) -> None:
        """Write what can be written without waiting. Raises OSError."""
        assert self.writer
        if self._display:
            self._display.hide()
        self._fill()
        self.writer.flush()
        if self._display:
            self._display.show(whole=self._is_line_complete and not self.writer.is_blocked)

    def sync(self) -> None:
        """Sync what was written. Raises OSError that names the file."""
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
        """Close the file, and drop what is not written."""
        if self.writer:
            self.writer.close()
        if self._fd > STDERR:
            os.close(self._fd)
        self._fd = STDOUT

    def _open_file(self, extra_flags: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC | extra_flags
        self._fd = os.open(self.path, flags, 0o666)
        self.writer = NonblockingWriter(self._fd, self._syscalls)

    def _resume(self, committed_size: int) -> None:
        try:
            self._open_file(0)
            status = os.fstat(self._fd)
            if stat.S_ISREG(status.st_mode):
                if status.st_size < committed_size:
                    raise UsageError(
                        f"{self.path} was modified: expected at least {committed_size} bytes, found {status.st_size}",
                        "restore the file, or use --restart to run all tasks again",
                    )
                self._syscalls.truncate(self._fd, committed_size)
                os.lseek(self._fd, committed_size, os.SEEK_SET)
        except OSError as error:
            raise UsageError(f"cannot resume writing {self.path}: {error.strerror}") from None

    def _fill(self) -> None:
        """Queue more of a large result. Raises OSError if it cannot be read."""
        assert self.writer
        for _ in range(FILL_STEPS):
            if self._rest is None or self.writer.backlog > MAX_BACKLOG_BYTES:
                return
            text = next(self._rest, None)
            if text is None:
                self._rest = None
            else:
                self._add(text)

    def _add(self, text: bytes) -> None:
        assert self.writer
        self.writer.add(text)
        self._is_line_complete = text.endswith(b"\n") if text else self._is_line_complete


class NonblockingWriter:
    """A queue of bytes for one descriptor.

    A pipe or terminal is opened again through /proc, so that only this process sees it as non-blocking. Where that is
    impossible (sockets), each write is short and follows a poll.
    """

    def __init__(self, fd: int, syscalls: Syscalls = DEFAULT_SYSCALLS) -> None:
        """Raise OSError if `fd` is not open."""
        self.queued_bytes = self.written_bytes = 0
        self.is_blocked = False
        self._syscalls = syscalls
        self._pieces: deque[bytes | memoryview] = deque()
        self._fd, self._owns_fd, self._is_nonblocking = fd, False, True
        self._epoll: select.epoll | None = None
        mode = os.fstat(fd).st_mode
        if stat.S_ISFIFO(mode) or os.isatty(fd):
            try:
                self._fd = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
                self._owns_fd = True
            except OSError:  # another user's, or a pipe without a reader
                self._is_nonblocking = False
        elif stat.S_ISSOCK(mode):
            self._is_nonblocking = False

    @property
    def backlog(self) -> int:
        """Bytes in the queue."""
        return self.queued_bytes - self.written_bytes

    def add(self, piece: bytes) -> None:
        """Append to the queue."""
        if piece:
            self._pieces.append(piece)
            self.queued_bytes += len(piece)

    def flush(self) -> None:
        """Write what can be written without waiting, and set `is_blocked` if something is left. Raises OSError."""
        self.is_blocked = False
        while self._pieces and not self.is_blocked:
            try:
                self._advance(self._write())
            except BlockingIOError:
                self.is_blocked = True

    def writable_fd(self) -> int:
        """Return a descriptor that is readable once this one is writable."""
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


def open_writer(fd: int, syscalls: Syscalls = DEFAULT_SYSCALLS) -> NonblockingWriter | None:
    """Return a writer of a standard stream; None if this process was started without it."""
    try:
        return NonblockingWriter(fd, syscalls)
    except OSError:
        return None


def check_writable(path: str) -> None:
    """Raise UsageError if `path` cannot be written, without touching it."""
    directory = os.path.dirname(path) or "."
    if os.path.isdir(path):
        reason = "is a directory"
    elif not os.path.isdir(directory):
        reason = f"no such directory: {directory}"
    elif not os.access(path if os.path.exists(path) else directory, os.W_OK):
        reason = "permission denied"
    else:
        return
    raise UsageError(f"cannot write {path}: {reason}")
