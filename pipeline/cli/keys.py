"""The keys a person presses while looking on, and the terminal's new size, as things to poll.

Promises: the terminal is as it was afterwards, and without one, or in the background, nothing is read and nothing is
changed. ^C is a key, too: as an exception it could come inside a library, and get lost there.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import Any, Self


class Keyboard:
    """The keyboard of this terminal, for as long as this is entered."""

    def __init__(self) -> None:
        self._terminal = -1
        self._previous_mode: list[Any] = []
        self._is_interrupted = False

    def __enter__(self) -> Self:
        """Keys come at once, unseen; a new size wakes whoever polls."""
        self._read_fd, self._write_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._previous_wakeup_fd = signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        self._previous_handlers = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, _do_nothing),
            signal.SIGINT: signal.signal(signal.SIGINT, self._on_interrupt),
        }
        with suppress(OSError, ValueError):  # not there, or not ours: who is in the background would be stopped
            terminal = sys.stdin.fileno()
            if os.isatty(terminal) and os.tcgetpgrp(terminal) == os.getpgrp():
                self._claim_terminal(terminal)
        return self

    def __exit__(self, *_: object) -> None:
        """Everything as it was before."""
        if self._terminal >= 0:
            import termios

            with suppress(termios.error):  # it has gone
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._previous_mode)
        for number, before in self._previous_handlers.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._previous_wakeup_fd)
        os.close(self._read_fd)
        os.close(self._write_fd)

    def file_descriptors(self) -> list[int]:
        """What is readable when there is something."""
        return [self._read_fd, self._terminal] if self._terminal >= 0 else [self._read_fd]

    def read_keys(self) -> str:
        """The keys since the last call, without waiting; `q` for ^C, and if the terminal has gone."""
        with suppress(BlockingIOError):
            while os.read(self._read_fd, 4096):
                pass
        if self._is_interrupted:
            return "q"
        if self._terminal < 0:
            return ""
        import select

        poll = select.poll()
        poll.register(self._terminal, select.POLLIN)
        if not poll.poll(0):
            return ""
        with suppress(OSError):
            return os.read(self._terminal, 4096).decode(errors="replace") or "q"
        return "q"

    def _on_interrupt(self, *_: object) -> None:
        self._is_interrupted = True

    def _claim_terminal(self, terminal: int) -> None:
        import termios
        import tty

        self._previous_mode = termios.tcgetattr(terminal)
        tty.setcbreak(terminal, termios.TCSANOW)
        self._terminal = terminal


def _do_nothing(*_: object) -> None:
    """Handle a signal: it is in the pipe that is polled."""
