"""Spool of stdin: copies stdin to disk until all of its tasks are settled, so that a run can be resumed.

Invariants:
  - bytes of a pipe are moved within the kernel and are on disk before they are read: a `kill -9` loses none
    (of a socket or terminal, it can lose what is between two system calls);
  - a resumed spool is read from the first task that may be unsettled: first from disk, then from the same stdin;
  - another stdin is taken as the same input from its beginning, which the sink's checksums verify;
  - nothing is copied before the first request; then up to MAX_UNREAD_BYTES are copied ahead of reading;
  - no call waits, and the flags of a descriptor that is shared with other processes never change.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import sys
import termios
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from pipeline.input.spool_files import SEGMENT_BYTES, SegmentedFile, SpoolDirectory, SpoolState
from pipeline.model.errors import UsageError
from pipeline.model.structs import replace

READ_BYTES = 448 << 10
"""Bytes per read, as many as the source reads from a file."""
TRANSFER_BYTES = 2 << 20
"""Bytes to copy ahead in one call, while other events wait."""
MAX_UNREAD_BYTES = 1 << 30
"""Bytes on disk ahead of reading; beyond them the writer of stdin has to wait."""


class StdinSpool:
    """Stdin by way of a directory: it is read like a file, and settled tasks are discarded.

    `id` stays the same when the run is resumed. `is_complete`: all of the input is on disk, and stdin is not needed any
    more. `first` is the number of the first record that is read here.
    """

    def __init__(self, folder: str, stdin: int = 0, *, fsync: bool = False, segment_size: int = SEGMENT_BYTES) -> None:
        """Open or create the spool. With `fsync`, it survives a power cut once stdin was read to its end.

        Raises UsageError if the directory can't be used or the rest of the input is missing, PipelineError if the
        directory is in use.
        """
        self.fd, self._has_failed = stdin, False
        self._stdin, self._segment_size, self._fsync = StdinSource(stdin), segment_size, fsync
        self._directory = SpoolDirectory(folder, fsync=fsync)
        try:
            self._resume()
        except (OSError, UsageError) as error:
            self._directory.close()
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"cannot spool stdin in {folder}: {error.strerror}") from None

    def _resume(self) -> None:
        """Continue after the saved state; read from the beginning if this stdin is another one."""
        saved = self._directory.load()
        identity = "" if saved and saved.size >= 0 else self._stdin.identity()
        self._load_state(saved or self._directory.save(SpoolState(os.urandom(8).hex(), identity)))
        self.id, self.is_complete = self._state.id, self._state.size == self._file.end
        self._is_other_input = not self.is_complete and (
            self._state.stdin_identity != identity or self._file.end < self._state.position
        )
        self.first = 0 if self._is_other_input else self._state.first
        if self._is_other_input:
            self._read_offset = self._file.end
            if os.isatty(self.fd):
                raise _input_missing()

    def _load_state(self, state: SpoolState) -> None:
        self._state = state
        self._directory.remove_stale(state.generation, state.position // self._segment_size)
        self._file = SegmentedFile(self._directory.segment_prefix(state.generation), state.position, self._segment_size)
        self._positions = ReadPositions(state.position, self._segment_size)
        self._read_offset = state.position

    @property
    def disk_full_reason(self) -> str:
        """Why nothing more can be copied for now; empty if it can."""
        error = self._stdin.disk_full_error
        return error and f"spool directory {self._directory.path}: {error}"

    @property
    def may_block(self) -> bool:
        """Whether there can be nothing to read before stdin is ready."""
        return not (self.is_complete or self.disk_full_reason or self._stdin.buffer or self.unread_bytes)

    @property
    def unread_bytes(self) -> int:
        """Bytes on disk that were not read yet."""
        return self._file.end - self._read_offset

    @property
    def wants_input(self) -> bool:
        """Whether stdin can be copied ahead of reading."""
        return not (
            self.is_complete
            or self.disk_full_reason
            or self._is_other_input
            or self._has_failed
            or self.unread_bytes >= MAX_UNREAD_BYTES
        )

    def read(self) -> bytes | None:
        """Read a block: b"" at the end, None if there is nothing yet or no disk space (see `disk_full_reason`).

        Raises OSError; UsageError if the input had to be given again and was not.
        """
        if not self.is_complete and not self.unread_bytes and not self._stdin.try_transfer(self._transfer):
            return None
        data = self._file.read(self._read_offset, READ_BYTES)
        self._read_offset += len(data)
        return data

    def prefetch(self) -> None:
        """Copy what stdin has ready, so that its writer can end before the tasks do."""
        limit, self._stdin.disk_full_error = self._file.end + TRANSFER_BYTES, ""
        try:
            while self.wants_input and self._file.end < limit and self._stdin.try_transfer(self._transfer):
                pass
        except OSError:  # `read` reports it, after everything before it was read
            self._has_failed = True

    def on_records_read(self, first: int, size: int) -> None:
        """Note that `size` more bytes of records were returned; the next record is number `first`."""
        self._positions.on_records_read(first, size, self._file.end)

    def discard_below(self, below: int) -> None:
        """Save where the tasks from this number on begin, then delete the segments before that."""
        with suppress(OSError):  # tried again the next time
            self._state = self._positions.discard_below(below, self._state, self._directory)
            self._file.delete_below(self._state.position)

    def close(self) -> None:
        """Close all files, and keep them. May be called twice."""
        self._file.close()
        self._directory.close()

    def remove(self) -> None:
        """Delete the spool at the end of the run. Call it before `close`, which lets other processes in."""
        self._directory.remove()

    def _transfer(self) -> None:
        """Copy from stdin, or save that it has ended. Raises BlockingIOError if it has nothing ready, OSError."""
        if self._is_other_input:
            self._restart()
        if not self._stdin.transfer(self._file):
            if self._fsync:
                self._file.sync()
            self._state = self._directory.save(replace(self._state, size=self._file.end))
            self.is_complete = True

    def _restart(self) -> None:
        """Start a new generation with the first bytes of the other stdin; until then the old one stays."""
        if self._stdin.is_empty():
            raise _input_missing()
        state = self._directory.save(SpoolState(self.id, self._stdin.identity(), self._state.generation + 1))
        self._file.close()
        self._load_state(state)
        self._is_other_input = False


def _input_missing() -> UsageError:
    return UsageError("the rest of the input is missing: stdin was not read to its end", "give the same input on stdin")


class ReadPositions:
    """Record numbers and byte positions of the first record after the beginning of each segment."""

    def __init__(self, position: int, segment_size: int) -> None:
        """Start at byte `position`."""
        self._position, self._segment_size = position, segment_size
        self._starts: deque[tuple[int, int]] = deque()

    def on_records_read(self, first: int, size: int, end: int) -> None:
        """See StdinSpool. The file has `end` bytes: `size` may include a terminator that the last record lacks."""
        previous, self._position = self._position, min(self._position + size, end)
        if previous // self._segment_size < self._position // self._segment_size:
            self._starts.append((first, self._position))

    def discard_below(self, below: int, state: SpoolState, directory: SpoolDirectory) -> SpoolState:
        """Save and return the state once all tasks below this number are settled. Raises OSError without effect."""
        start = next((start for start in reversed(self._starts) if start[0] <= below), None)
        if start is None:
            return state
        state = directory.save(replace(state, first=start[0], position=start[1]))
        while self._starts and self._starts[0][0] <= below:
            self._starts.popleft()
        return state


class StdinSource:
    """An open stdin. Unless it is a pipe, and the file system can splice, its bytes go through `buffer`."""

    def __init__(self, fd: int) -> None:
        self.fd, self.buffer = fd, b""
        self.disk_full_error = ""
        """The kernel's message when the disk is full; empty if it is not."""
        self._can_splice = True

    def identity(self) -> str:
        """Return what distinguishes this stdin from all others. Raises UsageError if it is not open.

        A pipe or socket without a name exists as long as a process holds it open. A FIFO or terminal can be opened
        again: it is the same only while our parent, the same as before, has it as its own stdin. A file can be read
        again.
        """
        try:
            status = os.fstat(self.fd)
        except OSError as error:
            raise UsageError(f"cannot read stdin: {error.strerror}") from None
        identity = f"{_read_text('/proc/sys/kernel/random/boot_id').strip()} {status.st_dev} {status.st_ino}"
        if os.readlink(f"/proc/self/fd/{self.fd}").startswith(("pipe:", "socket:")):
            return identity
        parent = os.getppid()
        try:
            parent_stdin = os.stat(f"/proc/{parent}/fd/0")
            parent_start = _read_text(f"/proc/{parent}/stat").rpartition(")")[2].split()[19]
        except OSError:  # it belongs to another user, or has exited
            return f"{identity} {os.urandom(8).hex()}"
        is_shared = os.path.samestat(status, parent_stdin) and not stat.S_ISREG(status.st_mode)
        return f"{identity} {parent} {parent_start}" if is_shared else f"{identity} {os.urandom(8).hex()}"

    def is_ready(self) -> bool:
        """Return whether it has bytes, or has ended."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(self.buffer or poll.poll(0))

    def is_empty(self) -> bool:
        """Return whether it, being ready, has no bytes."""
        try:
            return not int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        except OSError:  # /dev/null and other devices
            return True

    def try_transfer(self, transfer: Callable[[], None]) -> bool:
        """Call `transfer` if stdin is ready, and return whether it succeeded.

        On a full disk, `disk_full_error` is set. Raises OSError.
        """
        self.disk_full_error = ""
        try:
            if not self.is_ready():
                return False
            transfer()
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                raise
            self.disk_full_error = os.strerror(error.errno)
        return not self.disk_full_error

    def transfer(self, file: SegmentedFile) -> int:
        """Copy to the file; return how many bytes, 0 at the end. Raises BlockingIOError if none is ready, OSError."""
        if self._can_splice:
            try:
                return file.splice(self.fd, READ_BYTES)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                self._can_splice = False
        self.buffer = self.buffer or os.read(self.fd, READ_BYTES)
        moved = file.append(self.buffer) if self.buffer else 0
        self.buffer = self.buffer[moved:]
        return moved


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
