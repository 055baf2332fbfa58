"""Stderr: messages, the progress bar, and the summary.

Invariants:
  - The bar is removed before anything else is written to its line, is no wider than the terminal is now, and is drawn
    at most ten times a second.
  - An unfinished line of a result is never erased, whichever process of the run writes a message then.
  - --quiet leaves warnings and errors; -vv adds events with their times.
  - Nothing here writes to stdout.

The forked stations each have a copy of the console. Only the sink receives a RunStatus, so only the sink draws.
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
from pipeline.model.errors import HINT_MARK
from pipeline.model.events import StatusReport, Waiting
from pipeline.model.messages import RunStatus, StopRequest, WorkerActivity
from pipeline.model.state_machine import Message
from pipeline.transport.endpoints import resolve_endpoints

ERASE = "\r\x1b[K"
RED, BLACK = "\x1b[31m", "\x1b[39m"
MAX_DRAWS_PER_SECOND = 10
DEFAULT_COLUMNS = 80  # of a terminal that does not report its width
PROGRESS_INTERVAL_SECONDS = 5.0  # between two lines of progress where there is no terminal
OVERVIEW_INTERVAL_SECONDS = 10.0  # between two overviews with -vv


class UserConsole:
    """The user's view of a process: messages, progress, and the summary. `started_at` is a time.monotonic()."""

    def __init__(self, settings: Settings, started_at: float) -> None:
        is_on_terminal, shows_progress = is_terminal(), settings.bar is not False and not settings.quiet
        # whether a launcher starts all stations, and reports that the user has asked to stop
        self.has_launcher = False
        self._quiet, self._is_very_verbose = settings.quiet, settings.verbose > 1
        self._endpoint_options, self._settings = messages.format_endpoint_options(settings), settings
        self._heartbeat_timeout = settings.heartbeat_timeout
        self._has_bar = is_on_terminal and shows_progress
        self._has_progress_lines = not is_on_terminal and settings.bar is True and shows_progress
        self._is_terminal_shared = is_on_terminal and not settings.output and sys.stdout.isatty()
        self._progress_line = ProgressLine(is_shared=self._is_terminal_shared)
        self._started_at = self._last_progress_at = started_at
        self._last_status: RunStatus | None = None

    def print_message(self, text: str) -> None:
        text = text.replace(HINT_MARK, HINT_MARK.replace("hint", "pipe: hint"))
        self._progress_line.print_lines(f"pipe: {text}\n")

    def notify(self, message: Message) -> None:
        """Show a message of a station, if it is one for the user."""
        if isinstance(message, RunStatus):
            self._on_status(message)
        elif isinstance(message, StatusReport):
            self._print_overview(message.content)
        elif self._quiet and messages.is_informational(message):
            return
        elif isinstance(message, StopRequest) and not self.has_launcher:
            self.print_message(messages.stopping_text(message))
        elif isinstance(message, messages.UserMessage):
            options = None if self.has_launcher else self._endpoint_options
            text = messages.message_text(message, options, self._heartbeat_timeout)
            self.print_message(text + self._place_text(message))

    def _place_text(self, message: Message) -> str:
        """Return where a station looks for the missing one, since that may depend on the environment."""
        if not isinstance(message, Waiting) or not messages.is_informational(message) or self.has_launcher:
            return ""
        folder = resolve_endpoints(self._settings).folder if message.active else ""
        return f"; looking in {folder}" if folder else ""

    @property
    def stderr_writer(self) -> Callable[[bytes], None] | None:
        """The writer for stderr of tasks while a bar is drawn there; None if it may go there directly."""
        return self._progress_line.write_stderr if self._has_bar else None

    @property
    def display(self) -> ProgressLine | None:
        """The line to hide and show around results that are written to the same terminal."""
        return self._progress_line if self._is_terminal_shared else None

    def finish(self) -> None:
        """Remove the bar and print the summary, if there was a run."""
        lines = ""
        if self._last_status and not self._quiet:
            lines = f"pipe: {status_view.summary(self._last_status, time.monotonic() - self._started_at)}\n"
        self._progress_line.finish(lines)

    def _on_status(self, status: RunStatus) -> None:
        now = time.monotonic()
        if not status.run:
            # if the sink started first, the time before the run does not count
            self._started_at = now
            return
        previous, self._last_status = self._last_status, status
        if self._is_very_verbose:
            for text in status_view.changes(previous, status, self._endpoint_options):
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
        if isinstance(report, RunStatus):
            text = status_view.status_text(report, self._endpoint_options)
        else:
            text = status_view.worker_text(report)
        self._progress_line.print_lines("".join(f"pipe: {line}\n" for line in text.splitlines() if line))


class ProgressLine:
    """The last line of the terminal: empty, the bar, or the start of a result, if results are written there too."""

    def __init__(self, *, is_shared: bool) -> None:
        self._erase_code = ERASE if is_terminal() else ""
        self._has_colors = bool(self._erase_code) and not os.environ.get("NO_COLOR")
        self._has_unfinished_result: bytearray | memoryview = bytearray(1)
        if is_shared:
            from mmap import mmap  # messages of the launcher and results of the sink meet there, so they share this

            self._has_unfinished_result = memoryview(mmap(-1, 1))
        self._status: RunStatus | None = None
        self._is_drawn = False
        self._draw_times: deque[float] = deque([-1.0] * MAX_DRAWS_PER_SECOND, maxlen=MAX_DRAWS_PER_SECOND)

    def print_lines(self, lines: str) -> None:
        """Write whole lines in place of the bar. The next status draws it again."""
        self._write(self._clear_line() + lines)

    def write_stderr(self, data: bytes) -> None:
        """Write what a task has written to stderr, unchanged, in place of the bar."""
        self._write(self._clear_line())
        with suppress(OSError):
            sys.stderr.buffer.write(data if data.endswith(b"\n") else data + b"\n")
            sys.stderr.flush()
        self._draw()

    def draw(self, status: RunStatus) -> None:
        self._status = status
        self._draw()

    def hide(self) -> None:
        """Remove the bar, before results are written."""
        self._write(self._erase_code if self._is_drawn else "")
        self._is_drawn = False

    def show(self, *, whole: bool) -> None:
        """Draw the bar after results, unless their last line is not `whole`: the bar would stand beside it."""
        self._has_unfinished_result[0] = not whole
        self._draw()

    def finish(self, lines: str) -> None:
        """Write the last lines; no bar is drawn after them."""
        if lines or self._is_drawn:
            self.print_lines(lines)
        self._status = None

    def _clear_line(self) -> str:
        """Return what makes the last line empty."""
        has_unfinished_result = self._has_unfinished_result[0]
        self._has_unfinished_result[0], self._is_drawn = False, False
        return "\n" if has_unfinished_result else self._erase_code

    def _draw(self) -> None:
        now = time.monotonic()
        if self._status is None or self._has_unfinished_result[0] or now - self._draw_times[0] < 1:
            return
        self._draw_times.append(now)
        self._is_drawn = True
        text = status_view.progress_bar(self._status, _terminal_columns() - 1)
        failed = status_view.failures_text(self._status)
        if self._has_colors and self._status.failed_count:
            text = text.replace(f", {failed}", f", {RED}{failed}{BLACK}")
        self._write(ERASE + text)

    def _write(self, text: str) -> None:
        """Write in one piece, so that lines of several processes do not mix. A missing stderr is not an error."""
        with suppress(OSError):
            if text:
                sys.stderr.write(text)
                sys.stderr.flush()


def is_terminal() -> bool:
    """Return whether stderr is a terminal that can erase a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def _terminal_columns() -> int:
    """Return the width of stderr's terminal as it is now: stdout may be a file, and COLUMNS may be outdated."""
    with suppress(OSError):
        return os.get_terminal_size(sys.stderr.fileno()).columns or DEFAULT_COLUMNS
    return DEFAULT_COLUMNS
