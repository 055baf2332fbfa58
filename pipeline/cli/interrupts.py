"""How ^C and SIGTERM reach a program of the lab, whose page shall not speak of it.

A KeyboardInterrupt comes at any line, also in the middle of a library's `__init__`; a socket that is half made then is
never closed, and its context never ends. Promises: it is raised in the program's own lines and where it waits; while a
library makes something, starts it or puts it away, it comes a little later. SIGTERM is a KeyboardInterrupt, too.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType, TracebackType

RETRY_SECONDS = 0.01  # seconds
CLEANUP_SECONDS = 0.5
"""Seconds after one came, in which no other does: who holds ^C down shall not break off what clears up."""
UNINTERRUPTIBLE_FUNCTIONS = frozenset(
    {"socket", "__init__", "__enter__", "__exit__", "__del__", "start", "destroy", "close"}
)
"""Names of functions outside of the lab that must not be left in their middle."""
INTERRUPTIBLE_FUNCTION = "term"
"""But the end of a context may be waited for long, and somebody may not want to."""


class TerminationInterrupt(KeyboardInterrupt):
    """By SIGTERM."""


class InterruptHandler:
    """SIGINT and SIGTERM of this process, from now on. `folder` is where the program's own lines stand."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._deferred_signal, self._raised_at = 0, -CLEANUP_SECONDS
        sys.unraisablehook, sys.excepthook = self._on_unraisable, _show_exception
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raise now, or put it off."""
        number = self._deferred_signal if number == signal.SIGALRM else number
        clearing = self._raised_at + CLEANUP_SECONDS - time.monotonic()
        if number and (clearing > 0 or self._is_uninterruptible(frame)):
            self._deferred_signal = number
            signal.setitimer(signal.ITIMER_REAL, max(clearing, RETRY_SECONDS))
        elif number:
            self._deferred_signal, self._raised_at = 0, time.monotonic()
            raise TerminationInterrupt if number == signal.SIGTERM else KeyboardInterrupt

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """It was raised where nobody can pass it on, while a library frees something: it comes again."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._raised_at = -CLEANUP_SECONDS
            self._deferred_signal = (
                signal.SIGTERM if isinstance(unraisable.exc_value, TerminationInterrupt) else signal.SIGINT
            )
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        else:
            sys.__unraisablehook__(unraisable)

    def _is_uninterruptible(self, frame: FrameType | None) -> bool:
        """Whether what runs above the program's own lines must not be left."""
        if frame and frame.f_code.co_name == INTERRUPTIBLE_FUNCTION:
            return False
        while frame and not frame.f_code.co_filename.startswith(self._folder):
            if frame.f_code.co_name in UNINTERRUPTIBLE_FUNCTIONS:
                return True
            frame = frame.f_back
        return False


def _show_exception(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """What is told of an exception that nobody has caught; Cython tells of one that it loses in this way, too."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, value, trace)
