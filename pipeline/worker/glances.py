"""What a worker runs now, for those who look on: the executor is asked at each beat, and the sink is told.

A person may ask, too. Nothing depends on it; a glance that is lost is followed by another.
"""

from __future__ import annotations

from pipeline.words.errands import Look
from pipeline.words.messages import Glance
from pipeline.words.notices import Shown
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace


class Glances:
    """Of the worker of this name."""

    def __init__(self, worker: str) -> None:
        self._worker, self._is_asked = worker, False

    def look(self, *, joined: bool = True) -> list[Send]:
        """Ask the executor; `joined`: there is a run."""
        return [Send(Port.EXECUTOR, Look())] if joined else []

    def asked(self) -> list[Send]:
        """A person wants to know."""
        self._is_asked = True
        return self.look()

    def seen(self, glance: Glance, *, joined: bool) -> list[Send]:
        """The executor has answered; `joined`: there is a run, and a sink to be told."""
        glance = replace(glance, worker=self._worker)
        asked, self._is_asked = self._is_asked, False
        told = [Send(Port.TOLD, Shown(glance))] if asked else []
        return [*told, *([Send(Port.RESULTS, glance)] if joined else [])]
