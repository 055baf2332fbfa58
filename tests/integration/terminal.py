"""Command of the cluster on a separate terminal, with its output and key presses."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from contextlib import suppress

from tests.integration.cluster import TIMEOUT_SECONDS, Cluster


class Terminal:
    """`pipe ARGUMENTS` in the foreground of a new terminal; `seen` is its output so far."""

    def __init__(self, cluster: Cluster, *arguments: object, columns: int = 100, lines: int = 24) -> None:
        command, environment = (
            cluster.command(*arguments),
            {**cluster.environment(), "TERM": "xterm", "COLUMNS": "", "LINES": ""},
        )
        self.screen_text = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.execvpe(command[0], command, environment)  # noqa: S606 -- the words are ours

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def wait_for_text(self, text: str) -> None:
        """Wait until the terminal shows the text."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while text not in self.screen_text:
            assert self._read(), self.screen_text
            assert time.monotonic() < until, self.screen_text

    def wait(self) -> int:
        """Wait for the end, and return the exit code."""
        until = time.monotonic() + TIMEOUT_SECONDS
        while self._read():
            if time.monotonic() > until:
                os.kill(self._pid, signal.SIGKILL)
        _, status = os.waitpid(self._pid, 0)
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        """Read the output within a second; return False if the terminal was closed."""
        poll = select.poll()  # not select(): a test's process may have more than 1024 files
        poll.register(self._fd, select.POLLIN)
        if poll.poll(1000):
            with suppress(OSError):
                self.screen_text += os.read(self._fd, 65536).decode(errors="replace")
                return True
            return False
        return True
