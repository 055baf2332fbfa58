"""Ctrl-C and SIGTERM in a program of the lab, whose pages do not handle them.

A KeyboardInterrupt can be raised at any line, even inside a library's `__init__`: a half-made socket is never closed
then, and its context never terminates.

Invariants:
  - It is raised in the program's own lines and where it waits. While a library creates, starts or closes an object,
    it is deferred.
  - SIGTERM raises a KeyboardInterrupt too.
"""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType, TracebackType

RETRY_SECONDS = 0.01
CLEANUP_SECONDS = 0.5  # no second interrupt for this time, so that holding Ctrl-C does not break the cleanup
# functions outside of the lab that must not be left half done
UNINTERRUPTIBLE_FUNCTIONS = frozenset(
    {"socket", "__init__", "__enter__", "__exit__", "__del__", "start", "destroy", "close"}
)
INTERRUPTIBLE_FUNCTION = "term"  # a context may take long to terminate, and the user may not want to wait


class TerminationInterrupt(KeyboardInterrupt):
    """An interrupt by SIGTERM."""


class InterruptHandler:
    """The handler of SIGINT and SIGTERM in this process. `folder` contains the program's own lines."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._deferred_signal, self._raised_at = 0, -CLEANUP_SECONDS
        sys.unraisablehook, sys.excepthook = self._on_unraisable, _show_exception
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """Raise the interrupt now, or defer it."""
        number = self._deferred_signal if number == signal.SIGALRM else number
        cleanup_left = self._raised_at + CLEANUP_SECONDS - time.monotonic()
        if number and (cleanup_left > 0 or self._is_uninterruptible(frame)):
            self._deferred_signal = number
            signal.setitimer(signal.ITIMER_REAL, max(cleanup_left, RETRY_SECONDS))
        elif number:
            self._deferred_signal, self._raised_at = 0, time.monotonic()
            raise TerminationInterrupt if number == signal.SIGTERM else KeyboardInterrupt

    def _on_unraisable(self, unraisable: sys.UnraisableHookArgs) -> None:
        """Raise an interrupt again that was raised where it cannot propagate, while a library frees an object."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            self._raised_at = -CLEANUP_SECONDS
            is_termination = isinstance(unraisable.exc_value, TerminationInterrupt)
            self._deferred_signal = signal.SIGTERM if is_termination else signal.SIGINT
            signal.setitimer(signal.ITIMER_REAL, RETRY_SECONDS)
        else:
            sys.__unraisablehook__(unraisable)

    def _is_uninterruptible(self, frame: FrameType | None) -> bool:
        """Return whether a function that the program's own lines have called must not be left."""
        if frame and frame.f_code.co_name == INTERRUPTIBLE_FUNCTION:
            return False
        while frame and not frame.f_code.co_filename.startswith(self._folder):
            if frame.f_code.co_name in UNINTERRUPTIBLE_FUNCTIONS:
                return True
            frame = frame.f_back
        return False


def _show_exception(kind: type[BaseException], value: BaseException, trace: TracebackType | None) -> None:
    """Print an uncaught exception, except an interrupt. Cython reports exceptions that it drops here too."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, value, trace)
