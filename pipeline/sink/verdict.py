"""The sink's last word: how a run ends, and with which exit code.

A harder end replaces a softer one, never the other way round, and a run that is done stays done. Nothing here sends.
"""

from __future__ import annotations

from pipeline.words import errors
from pipeline.words.messages import Kill
from pipeline.words.station import NEVER

HARDER = {"done": 0, "soon": 1, "now": 2}


class Verdict:
    """The sink's: KILL, once said, and what it means for the exit code.

    An early end is said when the journal knows of it, so that a sink that comes back ends the run, too; but a journal
    that takes nothing any more holds it back for so long only.
    """

    def __init__(self) -> None:
        self.kill: Kill | None = None
        self.outcome, self.reason = errors.OK, ""
        self._asked: Kill | None = None
        self._latest = NEVER
        self._broken = False

    @property
    def deadline(self) -> float:
        """When an early end is said at the latest."""
        return self._latest

    @property
    def is_final(self) -> bool:
        """Whether all is done, and nothing is left to go on with."""
        return self.kill is not None and self.kill.mode == "done" and not self.reason

    def break_off(self, failure: str) -> None:
        """The output can take no more: whatever is said, the run is not complete."""
        self._broken, self.reason = True, failure
        self.outcome = errors.STDOUT_CLOSED if failure == errors.CLOSED else errors.INCOMPLETE

    def ask(self, kill: Kill, latest: float) -> bool:
        """Somebody wants this end; False if the run already ends so, or harder."""
        if not all(_is_harder(kill, known) for known in (self.kill, self._asked)):
            return False
        self._asked, self._latest = kill, latest
        return True

    def due(self, now: float) -> Kill | None:
        """What was asked for so long ago that it is said now."""
        return self._asked if now >= self._latest else None

    def say(self, kill: Kill) -> bool:
        """The run ends so; False if it already ends so, or harder."""
        if not _is_harder(kill, self.kill):
            return False
        self._latest = NEVER
        if not self.kill and not self._broken:
            self.outcome = kill.code
        self.kill, self.reason = kill, self.reason if self._broken else kill.reason
        return True


def _is_harder(kill: Kill, than: Kill | None) -> bool:
    return than is None or (than.mode != "done" and HARDER[kill.mode] > HARDER[than.mode])
