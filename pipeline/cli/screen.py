"""The person's side of stderr: sentences, one bar, one summary.

Promises: says what was asked for and no more: with --quiet only what went wrong, with -vv what happens, and when.
Forked stations each hold a copy; only the sink is told a Status, so only the sink draws. Never touches stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from pipeline.cli import overview, render
from pipeline.cli.lastline import ProgressLine, is_terminal
from pipeline.words.messages import RunStatus, StopRequest, WorkerActivity
from pipeline.words.notices import StatusReport
from pipeline.words.settings import Settings
from pipeline.words.station import Message

PROGRESS_INTERVAL_SECONDS = 5.0  # seconds between two lines of progress where there is no terminal
OVERVIEW_INTERVAL_SECONDS = 10.0  # seconds between two overviews with -vv


class UserConsole:
    """Where the stations' sentences go. `started` is a time.monotonic()."""

    def __init__(self, settings: Settings, started_at: float) -> None:
        terminal, wanted = is_terminal(), settings.bar is not False and not settings.quiet
        self.has_launcher = False
        """Whether a launcher starts the stations, and says that a person asked to stop."""
        self._quiet, self._is_very_verbose = settings.quiet, settings.verbose > 1
        self._endpoint_options = render.format_endpoint_options(settings)
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
        elif self._quiet and render.is_talk(message):
            return
        elif isinstance(message, StopRequest) and not self.has_launcher:
            self.print_message(render.stopping_text(message))
        elif isinstance(message, render.UserMessage):
            self.print_message(render.message_text(message, None if self.has_launcher else self._endpoint_options))

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
            f"pipe: {overview.summary(self._last_status, time.monotonic() - self._started_at)}\n"
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
            for text in overview.changes(before, status, self._endpoint_options):
                self.print_message(f"{time.strftime('%H:%M:%S')} {text}")
        if self._is_very_verbose and now - self._last_progress_at >= OVERVIEW_INTERVAL_SECONDS:
            self._last_progress_at = now
            self._print_overview(status)
        if self._has_progress_lines and now - self._last_progress_at >= PROGRESS_INTERVAL_SECONDS:
            self._last_progress_at = now
            self.print_message(overview.progress(status))
        if self._has_bar:
            self._progress_line.draw(status)

    def _print_overview(self, report: RunStatus | WorkerActivity) -> None:
        """What a person has asked for."""
        text = (
            overview.status_text(report, self._endpoint_options)
            if isinstance(report, RunStatus)
            else overview.worker_text(report)
        )
        self._progress_line.print_lines("".join(f"pipe: {line}\n" for line in text.splitlines() if line))
