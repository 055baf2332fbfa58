"""Files that one process at a time writes: journals, and files that replace another one when they are complete.

- A lock ends with its process, so a killed owner leaves none.
- A file is replaced as a whole or not at all, and what replaces it is on the disk before.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from contextlib import suppress

from pipeline.model.errors import PipelineError, UsageError
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, sync_parent_directory

LOCK_TIMEOUT_SECONDS = 2.0
"""Seconds to wait for another process that may be about to end."""
LOCK_POLL_SECONDS = 0.02


class ReplacementFile:
    """The file at `path`, which will replace the one at `target`. It may be opened again, to write it."""

    def __init__(self, path: str, target: str) -> None:
        """Create the file, or take over one that a killed process left; it is as private as the target.

        Raises UsageError if that is impossible, PipelineError if another process writes it.
        """
        self._path, self._target, self._fd = path, target, open_locked(path)
        with suppress(OSError):  # no target, or another user's
            status = os.stat(target)
            os.fchmod(self._fd, stat.S_IMODE(status.st_mode))
            os.fchown(self._fd, status.st_uid, status.st_gid)

    def commit(self) -> None:
        """Replace the target. Raises PipelineError, and both files stay."""
        try:
            os.fsync(self._fd)
            os.replace(self._path, self._target)
            sync_parent_directory(self._target, DEFAULT_SYSCALLS)
        except OSError as error:
            raise PipelineError(f"cannot replace {self._target} by {self._path}: {error.strerror}") from None
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock, and keep the file. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


def open_locked(path: str) -> int:
    """Open or create the file at `path`, lock it, and return the descriptor.

    Waits a moment for a process that is about to end. Raises UsageError if it is not a regular file, PipelineError if
    another process has locked it.
    """
    deadline = time.monotonic() + LOCK_TIMEOUT_SECONDS
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, 0o666)
        except OSError as error:
            raise UsageError(f"cannot create {path}: {error.strerror}", "choose another file") from None
        status = os.fstat(fd)
        if stat.S_ISREG(status.st_mode) and _try_lock(fd, path):
            return fd
        os.close(fd)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"cannot create {path}: not a regular file", "choose another file")
        if time.monotonic() > deadline:
            owner = _lock_owner(status.st_ino)
            raise PipelineError(f"{path} is in use by {owner}", "stop that run, or choose another file")
        time.sleep(LOCK_POLL_SECONDS)


def _try_lock(fd: int, path: str) -> bool:
    """Lock the file. Return False if another process has locked it, or has just removed it."""
    with suppress(BlockingIOError, FileNotFoundError):
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(path))
    return False


def _lock_owner(inode: int) -> str:
    with open("/proc/locks") as file:
        locks = [line.split() for line in file]
    pids = [fields[4] for fields in locks if "FLOCK" in fields and fields[-3].endswith(f":{inode}")]
    return f"process {pids[0]}" if pids else "another process"
