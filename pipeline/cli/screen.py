"""The person's side of stderr: sentences, one bar, one summary.

Promises: the bar is drawn on a terminal and is gone before anything else is said or written there. Forked stations
each hold a copy; only the sink is told a Status, so only the sink draws. Never touches stdout.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from pipeline.cli import render
from pipeline.words.messages import Glance, Status, Stop
from pipeline.words.notices import Shown
from pipeline.words.settings import Settings
from pipeline.words.station import Message

ERASE = "\r\x1b[K"
PLAIN = 5.0  # seconds between two lines of progress where there is no terminal
NIGHT = 10.0  # seconds between two overviews with -vv


class Screen:
    """Where the stations' sentences go. `started` is a time.monotonic()."""

    def __init__(self, settings: Settings, started: float) -> None:
        terminal = sys.stderr.isatty()
        self.launched = False
        """Whether a launcher starts the stations, and says that a person asked to stop."""
        self._quiet = settings.quiet
        self._where = render.place(settings)
        self._erase = ERASE if terminal else ""
        wanted = settings.bar is not False and not settings.quiet
        self._drawing = terminal and wanted
        self._lines = not terminal and settings.bar is True and wanted
        self._shared = self._drawing and not settings.output and sys.stdout.isatty()
        self._nightly = settings.verbose > 1
        self._whole, self._bar = True, ""
        self._started = self._said = started
        self._last: Status | None = None

    def say(self, text: str) -> None:
        """One sentence."""
        self._put(f"{self._erase}pipe: {text}\n")

    def told(self, message: Message) -> None:
        """What a station passes on to the person. A Status is drawn; what is no word for a person is not shown."""
        if isinstance(message, Status):
            self._draw(message)
        elif isinstance(message, Stop) and not self.launched:
            self.say(render.stopping(message))
        elif isinstance(message, Shown):
            self._overview(message.what)
        elif isinstance(message, render.Sentence):
            self.say(render.sentence(message, None if self.launched else self._where))

    @property
    def errors(self) -> Callable[[bytes], None] | None:
        """Where what tasks wrote to stderr goes while a bar is drawn there; None if it may go there directly."""
        return self._show if self._drawing else None

    @property
    def curtain(self) -> Screen | None:
        """Who is to be told before and after results are written to the terminal that has the bar."""
        return self if self._shared else None

    def lift(self) -> None:
        """Results are about to be written there: nothing is in their way."""
        self._put(self._erase if self._bar else "")

    def fall(self, *, whole: bool) -> None:
        """They are written; `whole`: the last of them is a whole line, so that the bar has one for itself."""
        self._whole = whole
        self._put(self._bar if whole else "")

    def _show(self, text: bytes) -> None:
        self._put(ERASE)
        with suppress(OSError):
            sys.stderr.buffer.write(text if text.endswith(b"\n") else text + b"\n")  # else the line would wipe it out
            sys.stderr.flush()

    def _overview(self, what: Status | Glance) -> None:
        """What a person has asked for."""
        text = render.overview(what, self._where) if isinstance(what, Status) else render.glance(what)
        self._put("".join([self._erase, *(f"pipe: {line}\n" for line in text.splitlines() if line)]))

    def _draw(self, status: Status) -> None:
        now = time.monotonic()
        if not status.run:
            # the sink came first: the run's time starts when somebody has something to run
            self._started = now
            return
        self._last = status
        if self._nightly and now - self._said >= NIGHT:
            self._said = now
            self._overview(status)
        if self._lines and now - self._said >= PLAIN:
            self._said = now
            self.say(render.progress(status))
        if self._drawing:
            self._bar = ERASE + render.bar(status, shutil.get_terminal_size().columns - 1)
            self._put(self._bar if self._whole else "")

    def finish(self) -> None:
        """Take the bar away and say the summary, if there was a run."""
        summary = f"pipe: {render.summary(self._last, time.monotonic() - self._started)}\n" if self._last else ""
        erase = self._erase if self._whole else "\n"
        self._bar = ""
        self._put((erase if self._drawing else self._erase) + ("" if self._quiet else summary))

    def _put(self, text: str) -> None:
        """Whole and at once, so that lines of several processes do not mix. Without a stderr, nobody is told."""
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
