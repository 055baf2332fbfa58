"""Copies stdin to disk so that a run can be resumed.

The inlet: stdin as it was given to us, and its way to the disk.

It promises to take two for the same only if what is still to be read of the one is what comes from the other; to move a
pipe's bytes within the kernel, so that none of them is ever in our memory alone; and never to wait, nor to change the
flags of a descriptor that others share.

The spool: what stdin said, on disk, until every task of it is settled.

It promises that what was taken from a pipe is in a file before anybody has read it, so that a `kill -9` at any moment
loses nothing; that whoever opens the folder again reads on from the first task that may not be settled, first from
disk, then from the same stdin; and that another stdin is taken for the same input given again, from its beginning. Of
a socket or terminal, what is in hand between two system calls can be lost. It takes nothing before it was asked once,
then also what nobody has read yet, up to a bound; it never waits, and never mixes two stdins.
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
"""Bytes to take at a time, as many as the source reads."""


class StdinSource:
    """One open stdin. Without a pipe, or a file system that splices, bytes go through `hand`."""

    def __init__(self, fd: int) -> None:
        """Nothing is read yet."""
        self.fd, self.buffer = fd, b""
        self.disk_full_error = ""
        """What the kernel said when there was no room; empty if there is."""
        self._can_splice = True

    def identity(self) -> str:
        """What tells this stdin from all others. Raises UsageError if it is not open.

        A pipe or socket without a name lives as long as somebody holds it open. A FIFO or terminal can be opened anew,
        so it is the same only while our parent, the same as then, has it as its own stdin. A file can be read again.
        """
        try:
            state = os.fstat(self.fd)
        except OSError as error:
            raise UsageError(f"cannot read stdin: {error.strerror}") from None
        which = f"{_read_text('/proc/sys/kernel/random/boot_id').strip()} {state.st_dev} {state.st_ino}"
        if os.readlink(f"/proc/self/fd/{self.fd}").startswith(("pipe:", "socket:")):
            return which
        parent = os.getppid()
        try:
            held = os.path.samestat(state, os.stat(f"/proc/{parent}/fd/0")) and not stat.S_ISREG(state.st_mode)
            began = _read_text(f"/proc/{parent}/stat").rpartition(")")[2].split()[19]
        except OSError:  # it is somebody else's, or has gone
            held, began = False, ""
        return f"{which} {parent} {began}" if held else f"{which} {os.urandom(8).hex()}"

    def is_ready(self) -> bool:
        """Whether it has something to say, or to end."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        return bool(self.buffer or poll.poll(0))

    def is_empty(self) -> bool:
        """Whether it, being ready, has nothing to say."""
        try:
            return not int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        except OSError:  # /dev/null and its like
            return True

    def try_transfer(self, transfer: Callable[[], None]) -> bool:
        """Whether it had something to say that could be moved; without room `full` says so. Raises OSError."""
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
        """How many bytes went to the segments; 0 at the end. Raises BlockingIOError if there are none, OSError."""
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


MAX_UNREAD_BYTES = 1 << 30
"""Bytes on disk at most that nobody has read yet; past them the writer of stdin has to wait."""
TRANSFER_BYTES = 2 << 20
"""Bytes to move at a time, while others wait."""
INPUT_INCOMPLETE = "the input had not been read to its end: give it again on stdin"


class StdinSpool:
    """Stdin by way of a folder: it is read like a file, and told what of it need not be kept.

    `id` is the same in all lives of the folder; `complete`: all is on disk, and stdin is not needed any more; the first
    record that is read here is number `first`.
    """

    def __init__(self, folder: str, stdin: int = 0, *, fsync: bool = False, segment_size: int = SEGMENT_BYTES) -> None:
        """`disk`: once read to its end, it survives a power cut. `each` is the size of a segment in bytes.

        Raises UsageError if the folder can't be used or the rest of the input is missing, PipelineError if it's in use.
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
        """Where the last owner of the folder was; or at the beginning, if this stdin is another one."""
        noted = self._directory.load()
        here = "" if noted and noted.size >= 0 else self._stdin.identity()
        self._load_state(noted or self._directory.save(SpoolState(os.urandom(8).hex(), here)))
        self.id, self.is_complete = self._state.id, self._state.size == self._file.end
        self._is_other_input = not self.is_complete and (
            self._state.stdin_identity != here or self._file.end < self._state.position
        )
        self.first = 0 if self._is_other_input else self._state.first
        if self._is_other_input:
            self._read_offset = self._file.end
            if os.isatty(self.fd):
                raise UsageError(INPUT_INCOMPLETE)

    def _load_state(self, state: SpoolState) -> None:
        self._state = state
        self._directory.remove_stale(state.generation, state.position // self._segment_size)
        self._file = SegmentedFile(self._directory.segment_prefix(state.generation), state.position, self._segment_size)
        self._positions = ReadPositions(state.position, self._segment_size)
        self._read_offset = state.position

    @property
    def disk_full_reason(self) -> str:
        """Why it takes no more for now; empty if it does."""
        return (
            self._stdin.disk_full_error
            and f"no room for stdin in {self._directory.path} ({self._stdin.disk_full_error})"
        )

    @property
    def may_block(self) -> bool:
        """Whether only stdin can bring more."""
        return not (self.is_complete or self.disk_full_reason or self._stdin.buffer or self.unread_bytes)

    @property
    def unread_bytes(self) -> int:
        """Bytes on disk that were not given out."""
        return self._file.end - self._read_offset

    def read(self) -> bytes | None:
        """What comes next, empty at the end; None when there is nothing yet, or no room: then `stuck` says so.

        Raises OSError; UsageError if the input had to be given again and was not.
        """
        if not self.is_complete and not self.unread_bytes and not self._stdin.try_transfer(self._transfer):
            return None
        data = self._file.read(self._read_offset, READ_BYTES)
        self._read_offset += len(data)
        return data

    @property
    def wants_input(self) -> bool:
        """Whether more of stdin can go to the disk before it is read."""
        return not (
            self.is_complete
            or self.disk_full_reason
            or self._is_other_input
            or self._has_failed
            or self.unread_bytes >= MAX_UNREAD_BYTES
        )

    def prefetch(self) -> None:
        """Move some of what stdin has ready to the disk, so that its writer can end before the tasks do."""
        limit, self._stdin.disk_full_error = self._file.end + TRANSFER_BYTES, ""
        try:
            while self.wants_input and self._file.end < limit and self._stdin.try_transfer(self._transfer):
                pass
        except OSError:  # told when all before it has been read
            self._has_failed = True

    def _transfer(self) -> None:
        """From stdin to disk, or note that this was all. Raises BlockingIOError if it has nothing to say, OSError."""
        if self._is_other_input:
            self._restart()
        if not self._stdin.transfer(self._file):
            if self._fsync:
                self._file.sync()
            self._state = self._directory.save(replace(self._state, size=self._file.end))
            self.is_complete = True

    def _restart(self) -> None:
        """The input is given again; that it is the same is verified elsewhere. Before it says a word, all stays."""
        if self._stdin.is_empty():
            raise UsageError(INPUT_INCOMPLETE)
        noted = self._directory.save(SpoolState(self.id, self._stdin.identity(), self._state.generation + 1))
        self._file.close()
        self._load_state(noted)
        self._is_other_input = False

    def on_records_read(self, first: int, size: int) -> None:
        """`size` more bytes of records have been given out; the next one is number `first`."""
        self._positions.on_records_read(first, size, self._file.end)

    def discard_below(self, below: int) -> None:
        """Tasks below this number are settled: note where others begin, then delete the segments before that."""
        with suppress(OSError):  # tried again at the next time
            self._state = self._positions.discard_below(below, self._state, self._directory)
            self._file.delete_below(self._state.position)

    def close(self) -> None:
        """Let go of the folder; all of it stays. May be called twice."""
        self._file.close()
        self._directory.close()

    def remove(self) -> None:
        """The run is over: delete all of it. Before `close`, so that nobody else has come."""
        self._directory.remove()


class ReadPositions:
    """Where records begin behind the beginnings of segments: their numbers, and their bytes."""

    def __init__(self, position: int, segment_size: int) -> None:
        """Records are given out from byte `position` on; a segment has `each` bytes."""
        self._position, self._segment_size = position, segment_size
        self._starts: deque[tuple[int, int]] = deque()

    def on_records_read(self, first: int, size: int, end: int) -> None:
        """As of the spool, which has `end` bytes: the last record may have a terminator more than was there."""
        before, self._position = self._position, min(self._position + size, end)
        if before // self._segment_size < self._position // self._segment_size:
            self._starts.append((first, self._position))

    def discard_below(self, below: int, state: SpoolState, directory: SpoolDirectory) -> SpoolState:
        """All below this number are settled: what is noted from now on. Raises OSError, and all stays."""
        start = next((start for start in reversed(self._starts) if start[0] <= below), None)
        if start is None:
            return state
        state = directory.save(replace(state, first=start[0], position=start[1]))
        while self._starts and self._starts[0][0] <= below:
            self._starts.popleft()
        return state
