"""A worker's way out: who asked it to leave, and when it goes.

The end of a run replaces a wish that only this worker leave. Nothing here sends.
"""

from __future__ import annotations

from typing import Literal

from pipeline.words import errors
from pipeline.words.messages import Kill, Stop
from pipeline.worker.held import Held
from pipeline.worker.ties import Ties


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
