"""The last line of the terminal: empty, the bar, or the beginning of somebody's result.

Promises: the bar is gone before anything else is written there, is no wider than the terminal is now, and is drawn ten
times a second at most; what a result has begun is never wiped out, whichever process of the run says something then.
Never writes to stdout. It is the curtain of the output that pours results there.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from contextlib import suppress

from pipeline.cli import overview
from pipeline.words.messages import Status

ERASE = "\r\x1b[K"
RED, BLACK = "\x1b[31m", "\x1b[39m"
OFTEN = 10  # bars in a second at most
COLUMNS = 80  # of a terminal that does not know


def is_terminal() -> bool:
    """Whether stderr is one on which a line can be taken back."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class LastLine:
    """stderr, and what stands in its last line. `shared`: results are poured there, too."""

    def __init__(self, *, shared: bool) -> None:
        self._erase = ERASE if is_terminal() else ""
        self._paints = bool(self._erase) and not os.environ.get("NO_COLOR")
        self._begun: bytearray | memoryview = bytearray(1)
        if shared:
            from mmap import mmap  # a launcher's words and the sink's results meet there: both must know

            self._begun = memoryview(mmap(-1, 1))
        self._bar: Status | None = None
        self._stands = False
        self._drawn: deque[float] = deque([-1.0] * OFTEN, maxlen=OFTEN)

    def say(self, lines: str) -> None:
        """Whole lines, in place of the bar, which comes again with the next look at the run."""
        self._put(self._room() + lines)

    def show(self, complaint: bytes) -> None:
        """What a task has written to stderr, as it is, in place of the bar."""
        self._put(self._room())
        with suppress(OSError):
            sys.stderr.buffer.write(complaint if complaint.endswith(b"\n") else complaint + b"\n")
            sys.stderr.flush()
        self._draw()

    def draw(self, status: Status) -> None:
        """The bar as it is now."""
        self._bar = status
        self._draw()

    def lift(self) -> None:
        """Results are about to be written there: nothing is in their way."""
        self._put(self._erase if self._stands else "")
        self._stands = False

    def fall(self, *, whole: bool) -> None:
        """They are written; `whole`: the last of them is a whole line, so that the bar has one for itself."""
        self._begun[0] = not whole
        self._draw()

    def leave(self, lines: str) -> None:
        """The last words; there is no bar any more."""
        if lines or self._stands:
            self.say(lines)
        self._bar = None

    def _room(self) -> str:
        """What makes the last line empty."""
        begun, self._begun[0], self._stands = self._begun[0], False, False
        return "\n" if begun else self._erase

    def _draw(self) -> None:
        now = time.monotonic()
        if self._bar is None or self._begun[0] or now - self._drawn[0] < 1:
            return
        self._drawn.append(now)
        self._stands = True
        text = overview.bar(self._bar, _columns() - 1)
        failed = overview.failures(self._bar)
        if self._paints and self._bar.failed:
            text = text.replace(f", {failed}", f", {RED}{failed}{BLACK}")
        self._put(ERASE + text)

    def _put(self, text: str) -> None:
        """Whole and at once, so that lines of several processes do not mix. Without a stderr, nobody is told."""
        with suppress(OSError):
            if text:
                sys.stderr.write(text)
                sys.stderr.flush()


def _columns() -> int:
    """Of stderr's terminal, as it is now: stdout may be a file, and a variable may be old."""
    with suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or COLUMNS
    return COLUMNS
