"""The person's side of stderr: sentences, one progress line, one summary.

Promises: the progress line is drawn on a terminal only and is gone before anything else is said. Forked stations
each hold a copy; only the sink is told a Status, so only the sink draws. Never touches stdout.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from pipeline.cli import render
from pipeline.words.messages import Status, Stop
from pipeline.words.settings import Settings
from pipeline.words.station import Message

ERASE = "\r\x1b[K"
MEMORY = 30  # statuses over which the rate is taken


class Screen:
    """Where the stations' sentences go. `started` is a time.monotonic()."""

    def __init__(self, settings: Settings, started: float) -> None:
        terminal = sys.stderr.isatty()
        self.launched = False
        """Whether a launcher starts the stations, and says that a person asked to stop."""
        self._quiet = settings.quiet
        self._where = render.place(settings)
        self._erase = ERASE if terminal else ""
        # results that scroll over the same terminal would be mixed up with the line
        self._drawing = terminal and not settings.quiet and (settings.output != "" or not sys.stdout.isatty())
        self._started = started
        self._last: Status | None = None
        self._past: deque[tuple[float, int]] = deque(maxlen=MEMORY)

    def say(self, text: str) -> None:
        """One sentence."""
        self._put(f"{self._erase}pipe: {text}\n")

    def told(self, message: Message) -> None:
        """What a station passes on to the person. A Status is drawn; what is no word for a person is not shown."""
        if isinstance(message, Status):
            self._draw(message)
        elif isinstance(message, Stop) and not self.launched:
            self.say(render.stopping(message))
        elif isinstance(message, render.Sentence):
            self.say(render.sentence(message, None if self.launched else self._where))

    @property
    def errors(self) -> Callable[[bytes], None] | None:
        """Where what tasks wrote to stderr goes while a line is drawn there; None if it may go there directly."""
        return self._show if self._drawing else None

    def _show(self, text: bytes) -> None:
        self._put(ERASE)
        with suppress(OSError):
            sys.stderr.buffer.write(text if text.endswith(b"\n") else text + b"\n")  # else the line would wipe it out
            sys.stderr.flush()

    def _draw(self, status: Status) -> None:
        now = time.monotonic()
        if not status.run:
            # the sink came first: the run's time starts when somebody has something to run
            self._started = now
            return
        self._last = status
        self._past.append((now, status.settled))
        if self._drawing:
            self._put(f"{ERASE}{render.progress(status, self._rate())}")

    def finish(self) -> None:
        """Take the progress line away and say the summary, if there was a run."""
        summary = f"pipe: {render.summary(self._last, time.monotonic() - self._started)}\n" if self._last else ""
        self._put(self._erase + ("" if self._quiet else summary))

    def _rate(self) -> float:
        """Tasks per second over the last statuses; 0 while there is but one."""
        (then, before), (now, done) = self._past[0], self._past[-1]
        return (done - before) / (now - then) if now > then else 0.0

    def _put(self, text: str) -> None:
        """Whole and at once, so that lines of several processes do not mix. Without a stderr, nobody is told."""
        with suppress(OSError):
            sys.stderr.write(text)
            sys.stderr.flush()
