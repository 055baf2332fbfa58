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


class Keys:
    """The keyboard of this terminal, for as long as this is entered."""

    def __init__(self) -> None:
        self._terminal = -1
        self._mode: list[Any] = []
        self._interrupted = False

    def __enter__(self) -> Self:
        """Keys come at once, unseen; a new size wakes whoever polls."""
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, _nothing),
            signal.SIGINT: signal.signal(signal.SIGINT, self._interrupt),
        }
        with suppress(OSError, ValueError):  # not there, or not ours: who is in the background would be stopped
            terminal = sys.stdin.fileno()
            if os.isatty(terminal) and os.tcgetpgrp(terminal) == os.getpgrp():
                self._take(terminal)
        return self

    def __exit__(self, *_: object) -> None:
        """Everything as it was before."""
        if self._terminal >= 0:
            import termios

            with suppress(termios.error):  # it has gone
                termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._mode)
        for number, before in self._before.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self._read)
        os.close(self._write)

    def files(self) -> list[int]:
        """What is readable when there is something."""
        return [self._read, self._terminal] if self._terminal >= 0 else [self._read]

    def pressed(self) -> str:
        """The keys since the last call, without waiting; `q` for ^C, and if the terminal has gone."""
        with suppress(BlockingIOError):
            while os.read(self._read, 4096):
                pass
        if self._interrupted:
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

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True

    def _take(self, terminal: int) -> None:
        import termios
        import tty

        self._mode = termios.tcgetattr(terminal)
        tty.setcbreak(terminal, termios.TCSANOW)
        self._terminal = terminal


def _nothing(*_: object) -> None:
    """Handle a signal: it is in the pipe that is polled."""
