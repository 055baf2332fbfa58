"""The inlet: stdin as it was given to us, and its way to the disk.

It promises to take two for the same only if what is still to be read of the one is what comes from the other; to move a
pipe's bytes within the kernel, so that none of them is ever in our memory alone; and never to wait, nor to change the
flags of a descriptor that others share.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import stat
import sys
import termios
from collections.abc import Callable

from pipeline.input.tape import SegmentedFile
from pipeline.words.errors import UsageError

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
