"""Files of the spool: its directory with the lock and the saved state, and the segments that contain the input.

Invariants:
  - one process owns the directory, for as long as it lives;
  - the state is replaced as a whole or not at all, also on a full disk: it is saved alternately in two files, which
    are both created at the beginning;
  - segments are called GENERATION.NUMBER; when the input is given again, a new generation begins;
  - byte n is in segment n // segment_size, so the sizes of the segments say how far the spool reaches;
  - no file is deleted that is not part of the spool.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import time
from contextlib import suppress
from operator import itemgetter
from zlib import crc32

from msgspec import Struct
from msgspec.structs import asdict

from pipeline.model.errors import PipelineError, UsageError

LOCK_TIMEOUT_SECONDS = 2.0
"""How long to wait for an owner that may be about to exit."""
LOCK_RETRY_SECONDS = 0.02
LOCK_FILE = "lock"
STATE_FILES = ("state0", "state1")
STATE_BYTES = 1000
"""Size of each state file: always the same, so that saving needs no more disk space."""
SEGMENT_BYTES = 64 << 20


class SpoolState(Struct, frozen=True):
    """Progress of a spool. Reading begins with record number `first`, at byte `position`."""

    id: str
    stdin_identity: str
    """The stdin that is copied."""
    generation: int = 1
    first: int = 0
    position: int = 0
    size: int = -1
    """Bytes of the whole input; -1 until its end was reached."""


class SpoolDirectory:
    """The locked directory."""

    def __init__(self, path: str, *, fsync: bool = False) -> None:
        """Create and lock it. With `fsync`, a saved state survives a power cut.

        Raises UsageError if the directory cannot be used, PipelineError if another process uses it.
        """
        self.path, self._fsync, self._version = path, fsync, 0
        try:
            self._lock_fd = self._acquire_lock()
        except OSError as error:
            hint = "choose another --spool DIR, or use --no-spool"
            raise UsageError(f"cannot spool stdin in {path}: {error.strerror}", hint) from None

    def segment_prefix(self, generation: int) -> str:
        """Return the beginning of the paths of that generation's segments."""
        return os.path.join(self.path, f"{generation}.")

    def load(self) -> SpoolState | None:
        """Return the last saved state, if any. Raises UsageError if it cannot be read."""
        states = [_read_state(self._path_of(name)) for name in STATE_FILES if _has_content(self._path_of(name))]
        self._version, state = max((item for item in states if item), default=(0, None), key=itemgetter(0))
        if states and state is None:
            hint = "remove it, and run again with the whole input on stdin"
            raise UsageError(f"spool directory {self.path} is damaged", hint)
        return state

    def save(self, state: SpoolState) -> SpoolState:
        """Save and return the state. Raises OSError, and the previous state stays."""
        while True:
            text = json.dumps([self._version + 1, asdict(state)]).encode()
            line = (b"%08x %s" % (crc32(text), text)).ljust(STATE_BYTES)
            file = os.open(self._path_of(STATE_FILES[self._version % 2]), os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                if os.pwrite(file, line, 0) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if self._fsync:
                    os.fsync(file)
            finally:
                os.close(file)
            self._version += 1
            if self._version != 1:  # the first time save to both files, so that there is disk space for both
                return state

    def remove_stale(self, generation: int, lowest_segment: int) -> None:
        """Delete segments of other generations, and of this one those below a number. Raises OSError."""
        for name in self._file_names():
            file_generation, _, number = name.partition(".")
            if number.isdecimal() and (int(file_generation) != generation or int(number) < lowest_segment):
                os.unlink(self._path_of(name))

    def close(self) -> None:
        """Release the lock. May be called twice."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    def remove(self) -> None:
        """Delete the spool, the lock last, and the directory if nothing else is in it. May be called twice."""
        if self._lock_fd < 0:
            return
        for name in [*self._file_names(), LOCK_FILE]:
            with suppress(FileNotFoundError):
                os.unlink(self._path_of(name))
        self.close()
        with suppress(OSError):  # it contains other files
            os.rmdir(self.path)

    def _path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _file_names(self) -> list[str]:
        return [name for name in os.listdir(self.path) if re.fullmatch(r"state[01]|\d+\.\d{6,}", name)]

    def _acquire_lock(self) -> int:
        """Return the descriptor of the lock file."""
        deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            os.makedirs(self.path, 0o700, exist_ok=True)
            lock = os.open(self._path_of(LOCK_FILE), os.O_RDWR | os.O_CREAT, 0o600)
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # the last owner may have removed the file between open and flock
                if os.path.samestat(os.fstat(lock), os.stat(self._path_of(LOCK_FILE))):
                    return lock
            os.close(lock)
            if time.monotonic() > deadline:
                raise PipelineError(f"spool directory {self.path} is in use by another ventilator")
            time.sleep(LOCK_RETRY_SECONDS)


def _has_content(path: str) -> bool:
    """Return whether a state was saved: the file is empty if its owner was killed before the first write."""
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


def _read_state(path: str) -> tuple[int, SpoolState] | None:
    """Return the version and the state of a file; None if it was not written completely."""
    with open(path, "rb") as file:
        crc, _, text = file.read().partition(b" ")
    text = text.rstrip()
    if crc != b"%08x" % crc32(text):
        return None
    version, fields = json.loads(text)
    return version, SpoolState(**fields)


class SegmentedFile:
    """Bytes in segments of equal size, appended at the end and deleted from the beginning.

    Appended bytes are in the kernel's page cache when the call returns, so a `kill -9` cannot lose them. At most two
    segments are open at a time. The segment at the end is never deleted.
    """

    def __init__(self, prefix: str, start: int, segment_size: int = SEGMENT_BYTES) -> None:
        """Find the end, from byte `start` on. A segment's path is `prefix` and its number. Raises OSError."""
        self._prefix, self._segment_size = prefix, segment_size
        self._lowest_segment = start // segment_size
        self._open_fds: dict[int, int] = {}
        number = self._lowest_segment
        while (size := self._size_on_disk(number)) == segment_size:
            number += 1
        self.end = number * segment_size + size

    def splice(self, pipe: int, max_bytes: int) -> int:
        """Move bytes of a pipe to the end, within the kernel, without waiting; return how many, 0 at the pipe's end.

        Raises BlockingIOError if the pipe is empty, OSError with EINVAL if the kernel cannot do this here.
        """
        offset = self.end % self._segment_size
        size = min(max_bytes, self._segment_size - offset)
        moved = os.splice(pipe, self._segment_fd(), size, offset_dst=offset, flags=os.SPLICE_F_NONBLOCK)
        self.end += moved
        return moved

    def append(self, data: bytes) -> int:
        """Append as much as fits in one call, and return how many bytes that was. Raises OSError."""
        offset = self.end % self._segment_size
        added = os.pwrite(self._segment_fd(), data[: self._segment_size - offset], offset)
        self.end += added
        return added

    def read(self, start: int, max_bytes: int) -> bytes:
        """Return bytes from `start` on; b"" at the end. Raises OSError."""
        if start >= self.end:
            return b""
        return os.pread(self._segment_fd(start), min(max_bytes, self.end - start), start % self._segment_size)

    def delete_below(self, below: int) -> None:
        """Delete the segments that contain only bytes below `below`. Raises OSError."""
        while self._lowest_segment < min(below, self.end) // self._segment_size:
            self._close_segment(self._lowest_segment)
            with suppress(FileNotFoundError):
                os.unlink(self._segment_path(self._lowest_segment))
            self._lowest_segment += 1

    def sync(self) -> None:
        """Sync all segments, so that they survive a power cut. Raises OSError."""
        for number in range(self._lowest_segment, -(-self.end // self._segment_size)):
            file = os.open(self._segment_path(number), os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def close(self) -> None:
        """Close all segments; they are opened again when needed."""
        for number in list(self._open_fds):
            self._close_segment(number)

    def _segment_path(self, number: int) -> str:
        return f"{self._prefix}{number:06d}"

    def _size_on_disk(self, number: int) -> int:
        try:
            return os.stat(self._segment_path(number)).st_size
        except FileNotFoundError:
            return 0

    def _segment_fd(self, start: int | None = None) -> int:
        """Return the open segment that contains byte `start`, else the one at the end."""
        last = self.end // self._segment_size
        number = last if start is None else start // self._segment_size
        if number not in self._open_fds:
            for other in set(self._open_fds) - {last}:
                self._close_segment(other)
            self._open_fds[number] = os.open(self._segment_path(number), os.O_RDWR | os.O_CREAT, 0o600)
        return self._open_fds[number]

    def _close_segment(self, number: int) -> None:
        if number in self._open_fds:
            os.close(self._open_fds.pop(number))
