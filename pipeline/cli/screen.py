"""The person's side of stderr: sentences, one bar, one summary.

Promises: says what was asked for and no more: with --quiet only what went wrong, with -vv what happens, and when.
Forked stations each hold a copy; only the sink is told a Status, so only the sink draws. Never touches stdout.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from pipeline.cli import overview, render
from pipeline.cli.lastline import LastLine, is_terminal
from pipeline.words.messages import Glance, Status, Stop
from pipeline.words.notices import Shown
from pipeline.words.settings import Settings
from pipeline.words.station import Message

PLAIN = 5.0  # seconds between two lines of progress where there is no terminal
NIGHT = 10.0  # seconds between two overviews with -vv


class Screen:
    """Where the stations' sentences go. `started` is a time.monotonic()."""

    def __init__(self, settings: Settings, started: float) -> None:
        terminal, wanted = is_terminal(), settings.bar is not False and not settings.quiet
        self.launched = False
        """Whether a launcher starts the stations, and says that a person asked to stop."""
        self._quiet, self._nightly = settings.quiet, settings.verbose > 1
        self._where = render.place(settings)
        self._drawing = terminal and wanted
        self._lines = not terminal and settings.bar is True and wanted
        self._shared = terminal and not settings.output and sys.stdout.isatty()
        self._line = LastLine(shared=self._shared)
        self._started = self._said = started
        self._last: Status | None = None

    def say(self, text: str) -> None:
        """One sentence."""
        self._line.say(f"pipe: {text}\n")

    def told(self, message: Message) -> None:
        """What a station passes on to the person. A Status is drawn; what is no word for a person is not shown."""
        if isinstance(message, Status):
            self._follow(message)
        elif isinstance(message, Shown):
            self._overview(message.what)
        elif self._quiet and render.is_talk(message):
            return
        elif isinstance(message, Stop) and not self.launched:
            self.say(render.stopping(message))
        elif isinstance(message, render.Sentence):
            self.say(render.sentence(message, None if self.launched else self._where))

    @property
    def errors(self) -> Callable[[bytes], None] | None:
        """Where what tasks wrote to stderr goes while a bar is drawn there; None if it may go there directly."""
        return self._line.show if self._drawing else None

    @property
    def curtain(self) -> LastLine | None:
        """Who is to be told before and after results are written to the terminal that has our words, too."""
        return self._line if self._shared else None

    def finish(self) -> None:
        """Take the bar away and say the summary, if there was a run."""
        summary = f"pipe: {overview.summary(self._last, time.monotonic() - self._started)}\n" if self._last else ""
        self._line.leave("" if self._quiet else summary)

    def _follow(self, status: Status) -> None:
        """What the run does, as far as somebody wants to know."""
        now = time.monotonic()
        if not status.run:
            # the sink came first: the run's time starts when somebody has something to run
            self._started = now
            return
        before, self._last = self._last, status
        if self._nightly:
            for text in overview.news(before, status, self._where):
                self.say(f"{time.strftime('%H:%M:%S')} {text}")
        if self._nightly and now - self._said >= NIGHT:
            self._said = now
            self._overview(status)
        if self._lines and now - self._said >= PLAIN:
            self._said = now
            self.say(overview.progress(status))
        if self._drawing:
            self._line.draw(status)

    def _overview(self, what: Status | Glance) -> None:
        """What a person has asked for."""
        text = overview.overview(what, self._where) if isinstance(what, Status) else overview.glance(what)
        self._line.say("".join(f"pipe: {line}\n" for line in text.splitlines() if line))
