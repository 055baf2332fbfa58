"""Segment files and metadata of the spool.

A spool's folder: who owns it, how far it is, and which files in it are ours.

It promises one owner at a time, for as long as that process lives; that what is noted is replaced whole or not at all,
also on a full disk, by turns in two places that were made at the beginning; and to delete no file but its own. Segments
are called `LIFE.NUMBER`: when the input is given again, a new life begins, and files of the one before are nobody's.

The tape: one long run of bytes in files of equal size, which is written at its end and deleted from its beginning.

Byte `n` lies in file `n // each`, so the files themselves say how far it reaches, and nothing has to be noted. What was
added is in the kernel's hands when the call returns: no `kill -9` can take it back. Two files at most are open at a
time. It deletes only what it was told to drop, and never the file that it writes to.
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
"""Seconds to wait for an owner that may be about to leave."""
STATE_FILES = ("noted0", "noted1")
STATE_BYTES = 1000
"""Bytes for a note, always the same."""


class SpoolState(Struct, frozen=True):
    """How far a spool is. Reading begins with record number `first`, at byte `position`."""

    id: str
    stdin_identity: str
    """Which one it is filled from."""
    generation: int = 1
    first: int = 0
    position: int = 0
    size: int = -1
    """Bytes of the whole input, once its end was seen."""


class SpoolDirectory:
    """The folder, locked."""

    def __init__(self, path: str, *, fsync: bool = False) -> None:
        """`disk`: what is noted survives a power cut.

        Raises UsageError if this cannot be a folder of ours, PipelineError if another process uses it.
        """
        self.path, self._fsync, self._version = path, fsync, 0
        try:
            self._lock_fd = self._acquire_lock()
        except OSError as error:
            raise UsageError(
                f"cannot spool stdin in {path}: {error.strerror}; choose another --spool DIR, or --no-spool"
            ) from None

    def segment_prefix(self, generation: int) -> str:
        """What the paths of that life's segments begin with."""
        return os.path.join(self.path, f"{generation}.")

    def load(self) -> SpoolState | None:
        """What was noted last; None if nothing was. Raises UsageError if it cannot be read."""
        found = [_read_state(self._path_of(name)) for name in STATE_FILES if _has_content(self._path_of(name))]
        self._version, noted = max((each for each in found if each), default=(0, None), key=itemgetter(0))
        if found and noted is None:
            raise UsageError(f"{self.path} is damaged: remove it, and give the input again from its beginning")
        return noted

    def save(self, state: SpoolState) -> SpoolState:
        """Note that. Raises OSError, and what was noted before stays."""
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
            if self._version != 1:  # at first both, so that there is room for both
                return state

    def remove_stale(self, generation: int, lowest_segment: int) -> None:
        """Delete the segments of other lives, and of this one those below number `lowest`. Raises OSError."""
        for name in self._file_names():
            which, _, number = name.partition(".")
            if number.isdecimal() and (int(which) != generation or int(number) < lowest_segment):
                os.unlink(self._path_of(name))

    def close(self) -> None:
        """Let go of it. May be called twice."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
        self._lock_fd = -1

    def remove(self) -> None:
        """Delete what is ours, the lock last, and the folder if nothing else is in it. May be called twice."""
        if self._lock_fd < 0:
            return
        for name in [*self._file_names(), "lock"]:
            with suppress(FileNotFoundError):
                os.unlink(self._path_of(name))
        self.close()
        with suppress(OSError):  # somebody else's files
            os.rmdir(self.path)

    def _path_of(self, name: str) -> str:
        return os.path.join(self.path, name)

    def _file_names(self) -> list[str]:
        return [name for name in os.listdir(self.path) if re.fullmatch(r"noted[01]|\d+\.\d{6,}", name)]

    def _acquire_lock(self) -> int:
        """The descriptor of the lock. The last owner may remove it, so what is locked must still be what is there."""
        limit = time.monotonic() + LOCK_TIMEOUT_SECONDS
        while True:
            os.makedirs(self.path, 0o700, exist_ok=True)
            lock = os.open(self._path_of("lock"), os.O_RDWR | os.O_CREAT, 0o600)
            with suppress(BlockingIOError, FileNotFoundError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock), os.stat(self._path_of("lock"))):
                    return lock
            os.close(lock)
            if time.monotonic() > limit:
                raise PipelineError(f"another ventilator keeps its stdin in {self.path}")
            time.sleep(0.02)


def _has_content(path: str) -> bool:
    """An empty one is of somebody who was killed before the first word."""
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False


def _read_state(path: str) -> tuple[int, SpoolState] | None:
    """Its turn and what it says; None if it was not written whole."""
    with open(path, "rb") as file:
        crc, _, text = file.read().partition(b" ")
    text = text.rstrip()
    if crc != b"%08x" % crc32(text):
        return None
    turn, noted = json.loads(text)
    return turn, SpoolState(**noted)


SEGMENT_BYTES = 64 << 20
"""Bytes in a file."""


class SegmentedFile:
    """The bytes from `start` on, as they were left; nothing is made before it is needed."""

    def __init__(self, prefix: str, start: int, segment_size: int = SEGMENT_BYTES) -> None:
        """Files are called `stem` and their number; all but the last are `each` bytes long. Raises OSError."""
        self._prefix, self._segment_size = prefix, segment_size
        self._lowest_segment = start // segment_size
        self._open_fds: dict[int, int] = {}
        number = self._lowest_segment
        while (size := self._size_on_disk(number)) == segment_size:
            number += 1
        self.end = number * segment_size + size

    def splice(self, pipe: int, max_bytes: int) -> int:
        """Move up to so many bytes of a pipe to the end, within the kernel, and never wait; 0 at the pipe's end.

        Raises BlockingIOError if the pipe is empty, OSError with EINVAL if the kernel cannot do this here.
        """
        at = self.end % self._segment_size
        room = min(max_bytes, self._segment_size - at)
        moved = os.splice(pipe, self._segment_fd(), room, offset_dst=at, flags=os.SPLICE_F_NONBLOCK)
        self.end += moved
        return moved

    def append(self, data: bytes) -> int:
        """Add as much of it as fits in one call; how many bytes that was. Raises OSError."""
        at = self.end % self._segment_size
        added = os.pwrite(self._segment_fd(), data[: self._segment_size - at], at)
        self.end += added
        return added

    def read(self, start: int, max_bytes: int) -> bytes:
        """Up to so many bytes from `start` on; nothing at the end. Raises OSError."""
        if start >= self.end:
            return b""
        return os.pread(self._segment_fd(start), min(max_bytes, self.end - start), start % self._segment_size)

    def delete_below(self, below: int) -> None:
        """Delete the files of which all bytes are below that. Raises OSError."""
        while self._lowest_segment < min(below, self.end) // self._segment_size:
            self._close_segment(self._lowest_segment)
            with suppress(FileNotFoundError):
                os.unlink(self._segment_path(self._lowest_segment))
            self._lowest_segment += 1

    def sync(self) -> None:
        """Make all of it survive a power cut. Raises OSError."""
        for number in range(self._lowest_segment, -(-self.end // self._segment_size)):
            file = os.open(self._segment_path(number), os.O_RDONLY)
            try:
                os.fsync(file)
            finally:
                os.close(file)

    def close(self) -> None:
        """Close what is open; it opens again when needed."""
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
        """The open file of the byte at `start`, else of the end."""
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
