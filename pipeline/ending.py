"""How a run ends, and with which exit code: the sink's last word, and a worker's way out.

A harder end replaces a softer one, never the other way round, and a run that is done stays done. Nothing here sends.
"""

from __future__ import annotations

from typing import Literal

from pipeline import errors
from pipeline.held import Held
from pipeline.messages import Kill, Stop
from pipeline.station import NEVER
from pipeline.ties import Ties

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


class Departure:
    """A worker's: it was asked to leave, or the run ends soon; it goes when it holds nothing any more."""

    def __init__(self) -> None:
        self.reason, self.outcome = "", errors.OK
        self.begun = self.alone = self.over = False
        """`alone`: only this worker leaves; the run goes on without it. `over`: it was told that the run is over."""

    def run_ends(self, kill: Kill) -> bool:
        """The run ends soon; False if that is no news."""
        news = not self.begun or self.alone
        self.begun, self.alone, self.reason, self.outcome = True, False, kill.reason, errors.OK
        return news

    def asked(self, stop: Stop) -> Literal["soon", "now"]:
        """Somebody sent a signal: what runs is finished and answered first; asked again, it is killed."""
        again = self.begun and self.alone
        self.reason, self.outcome = stop.reason, errors.interrupted(stop.reason)
        self.begun = self.alone = True
        return "now" if again else stop.mode


def reason_to_end(departure: Departure, held: Held, ties: Ties, now: float, liveness: float) -> tuple[int, str] | None:
    """Why a worker goes now, if it does: exit code and reason."""
    if lost := ties.lost(now):
        return errors.INCOMPLETE, lost
    if not departure.begun:
        return None
    if held.is_empty:
        return departure.outcome, departure.reason
    if not held.unfinished.tasks and ties.sink.silent(now, liveness):
        return errors.INCOMPLETE, "results were left that no sink answered for"
    return None
