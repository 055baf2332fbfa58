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

LATER = 0.01  # seconds
CLEARING = 0.5
"""Seconds after one came, in which no other does: who holds ^C down shall not break off what clears up."""
HALF_DONE = frozenset({"socket", "__init__", "__enter__", "__exit__", "__del__", "start", "destroy", "close"})
"""Names of functions outside of the lab that must not be left in their middle."""
WAITS = "term"
"""But the end of a context may be waited for long, and somebody may not want to."""


class Terminated(KeyboardInterrupt):
    """By SIGTERM."""


class Interrupts:
    """SIGINT and SIGTERM of this process, from now on. `folder` is where the program's own lines stand."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._put_off, self._raised = 0, -CLEARING
        sys.unraisablehook, sys.excepthook = self._lost, _shown
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._came)

    def _came(self, number: int, frame: FrameType | None) -> None:
        """Raise now, or put it off."""
        number = self._put_off if number == signal.SIGALRM else number
        clearing = self._raised + CLEARING - time.monotonic()
        if number and (clearing > 0 or self._is_half_done(frame)):
            self._put_off = number
            signal.setitimer(signal.ITIMER_REAL, max(clearing, LATER))
        elif number:
            self._put_off, self._raised = 0, time.monotonic()
            raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _lost(self, lost: sys.UnraisableHookArgs) -> None:
        """It was raised where nobody can pass it on, while a library frees something: it comes again."""
        if isinstance(lost.exc_value, KeyboardInterrupt):
            self._raised = -CLEARING
            self._put_off = signal.SIGTERM if isinstance(lost.exc_value, Terminated) else signal.SIGINT
            signal.setitimer(signal.ITIMER_REAL, LATER)
        else:
            sys.__unraisablehook__(lost)

    def _is_half_done(self, frame: FrameType | None) -> bool:
        """Whether what runs above the program's own lines must not be left."""
        if frame and frame.f_code.co_name == WAITS:
            return False
        while frame and not frame.f_code.co_filename.startswith(self._folder):
            if frame.f_code.co_name in HALF_DONE:
                return True
            frame = frame.f_back
        return False


def _shown(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """What is told of an exception that nobody has caught; Cython tells of one that it loses in this way, too."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, value, trace)
