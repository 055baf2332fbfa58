"""Stderr, progress bar.

The last line of the terminal: empty, the bar, or the beginning of somebody's result.

Promises: the bar is gone before anything else is written there, is no wider than the terminal is now, and is drawn ten
times a second at most; what a result has begun is never wiped out, whichever process of the run says something then.
Never writes to stdout. It is the curtain of the output that pours results there.

The person's side of stderr: sentences, one bar, one summary.

Promises: says what was asked for and no more: with --quiet only what went wrong, with -vv what happens, and when.
Forked stations each hold a copy; only the sink is told a Status, so only the sink draws. Never touches stdout.
"""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from pipeline.cli import messages, status_view
from pipeline.config.settings import Settings
from pipeline.model.events import StatusReport
from pipeline.model.messages import RunStatus, StopRequest, WorkerActivity
from pipeline.model.state_machine import Message

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
        text = status_view.progress_bar(self._status, _terminal_columns() - 1)
        failed = status_view.failures_text(self._status)
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


PROGRESS_INTERVAL_SECONDS = 5.0  # seconds between two lines of progress where there is no terminal
OVERVIEW_INTERVAL_SECONDS = 10.0  # seconds between two overviews with -vv


class UserConsole:
    """Where the stations' sentences go. `started` is a time.monotonic()."""

    def __init__(self, settings: Settings, started_at: float) -> None:
        terminal, wanted = is_terminal(), settings.bar is not False and not settings.quiet
        self.has_launcher = False
        """Whether a launcher starts the stations, and says that a person asked to stop."""
        self._quiet, self._is_very_verbose = settings.quiet, settings.verbose > 1
        self._endpoint_options = messages.format_endpoint_options(settings)
        self._has_bar = terminal and wanted
        self._has_progress_lines = not terminal and settings.bar is True and wanted
        self._is_terminal_shared = terminal and not settings.output and sys.stdout.isatty()
        self._progress_line = ProgressLine(is_shared=self._is_terminal_shared)
        self._started_at = self._last_progress_at = started_at
        self._last_status: RunStatus | None = None

    def print_message(self, text: str) -> None:
        """One sentence."""
        self._progress_line.print_lines(f"pipe: {text}\n")

    def notify(self, message: Message) -> None:
        """What a station passes on to the person. A Status is drawn; what is no word for a person is not shown."""
        if isinstance(message, RunStatus):
            self._on_status(message)
        elif isinstance(message, StatusReport):
            self._print_overview(message.content)
        elif self._quiet and messages.is_talk(message):
            return
        elif isinstance(message, StopRequest) and not self.has_launcher:
            self.print_message(messages.stopping_text(message))
        elif isinstance(message, messages.UserMessage):
            self.print_message(messages.message_text(message, None if self.has_launcher else self._endpoint_options))

    @property
    def stderr_writer(self) -> Callable[[bytes], None] | None:
        """Where what tasks wrote to stderr goes while a bar is drawn there; None if it may go there directly."""
        return self._progress_line.write_stderr if self._has_bar else None

    @property
    def display(self) -> ProgressLine | None:
        """Who is to be told before and after results are written to the terminal that has our words, too."""
        return self._progress_line if self._is_terminal_shared else None

    def finish(self) -> None:
        """Take the bar away and say the summary, if there was a run."""
        summary = (
            f"pipe: {status_view.summary(self._last_status, time.monotonic() - self._started_at)}\n"
            if self._last_status
            else ""
        )
        self._progress_line.finish("" if self._quiet else summary)

    def _on_status(self, status: RunStatus) -> None:
        """What the run does, as far as somebody wants to know."""
        now = time.monotonic()
        if not status.run:
            # the sink came first: the run's time starts when somebody has something to run
            self._started_at = now
            return
        before, self._last_status = self._last_status, status
        if self._is_very_verbose:
            for text in status_view.changes(before, status, self._endpoint_options):
                self.print_message(f"{time.strftime('%H:%M:%S')} {text}")
        if self._is_very_verbose and now - self._last_progress_at >= OVERVIEW_INTERVAL_SECONDS:
            self._last_progress_at = now
            self._print_overview(status)
        if self._has_progress_lines and now - self._last_progress_at >= PROGRESS_INTERVAL_SECONDS:
            self._last_progress_at = now
            self.print_message(status_view.progress(status))
        if self._has_bar:
            self._progress_line.draw(status)

    def _print_overview(self, report: RunStatus | WorkerActivity) -> None:
        """What a person has asked for."""
        text = (
            status_view.status_text(report, self._endpoint_options)
            if isinstance(report, RunStatus)
            else status_view.worker_text(report)
        )
        self._progress_line.print_lines("".join(f"pipe: {line}\n" for line in text.splitlines() if line))
