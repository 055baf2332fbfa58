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
from pipeline.words.messages import RunStatus

ERASE = "\r\x1b[K"
RED, BLACK = "\x1b[31m", "\x1b[39m"
MAX_DRAWS_PER_SECOND = 10  # bars in a second at most
DEFAULT_COLUMNS = 80  # of a terminal that does not know


def is_terminal() -> bool:
    """Whether stderr is one on which a line can be taken back."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class ProgressLine:
    """stderr, and what stands in its last line. `shared`: results are poured there, too."""

    def __init__(self, *, is_shared: bool) -> None:
        self._erase_code = ERASE if is_terminal() else ""
        self._has_colors = bool(self._erase_code) and not os.environ.get("NO_COLOR")
        self._partial_line_flag: bytearray | memoryview = bytearray(1)
        if is_shared:
            from mmap import mmap  # a launcher's words and the sink's results meet there: both must know

            self._partial_line_flag = memoryview(mmap(-1, 1))
        self._status: RunStatus | None = None
        self._is_drawn = False
        self._draw_times: deque[float] = deque([-1.0] * MAX_DRAWS_PER_SECOND, maxlen=MAX_DRAWS_PER_SECOND)

    def print_lines(self, lines: str) -> None:
        """Whole lines, in place of the bar, which comes again with the next look at the run."""
        self._write(self._take_line() + lines)

    def write_stderr(self, data: bytes) -> None:
        """What a task has written to stderr, as it is, in place of the bar."""
        self._write(self._take_line())
        with suppress(OSError):
            sys.stderr.buffer.write(data if data.endswith(b"\n") else data + b"\n")
            sys.stderr.flush()
        self._draw()

    def draw(self, status: RunStatus) -> None:
        """The bar as it is now."""
        self._status = status
        self._draw()

    def hide(self) -> None:
        """Results are about to be written there: nothing is in their way."""
        self._write(self._erase_code if self._is_drawn else "")
        self._is_drawn = False

    def show(self, *, whole: bool) -> None:
        """They are written; `whole`: the last of them is a whole line, so that the bar has one for itself."""
        self._partial_line_flag[0] = not whole
        self._draw()

    def finish(self, lines: str) -> None:
        """The last words; there is no bar any more."""
        if lines or self._is_drawn:
            self.print_lines(lines)
        self._status = None

    def _take_line(self) -> str:
        """What makes the last line empty."""
        begun, self._partial_line_flag[0], self._is_drawn = self._partial_line_flag[0], False, False
        return "\n" if begun else self._erase_code

    def _draw(self) -> None:
        now = time.monotonic()
        if self._status is None or self._partial_line_flag[0] or now - self._draw_times[0] < 1:
            return
        self._draw_times.append(now)
        self._is_drawn = True
        text = overview.progress_bar(self._status, _terminal_columns() - 1)
        failed = overview.failures_text(self._status)
        if self._has_colors and self._status.failed_count:
            text = text.replace(f", {failed}", f", {RED}{failed}{BLACK}")
        self._write(ERASE + text)

    def _write(self, text: str) -> None:
        """Whole and at once, so that lines of several processes do not mix. Without a stderr, nobody is told."""
        with suppress(OSError):
            if text:
                sys.stderr.write(text)
                sys.stderr.flush()


def _terminal_columns() -> int:
    """Of stderr's terminal, as it is now: stdout may be a file, and a variable may be old."""
    with suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_COLUMNS
    return DEFAULT_COLUMNS
