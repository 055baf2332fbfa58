"""The sink's last word: how a run ends, and with which exit code.

A harder end replaces a softer one, never the other way round, and a run that is done stays done. Nothing here sends.
"""

from __future__ import annotations

from pipeline.words import errors
from pipeline.words.messages import Kill
from pipeline.words.station import NEVER

SEVERITY = {"done": 0, "soon": 1, "now": 2}


class RunOutcome:
    """The sink's: KILL, once said, and what it means for the exit code.

    An early end is said when the journal knows of it, so that a sink that comes back ends the run, too; but a journal
    that takes nothing any more holds it back for so long only.
    """

    def __init__(self) -> None:
        self.kill: Kill | None = None
        self.exit_code, self.stop_reason = errors.OK, ""
        self._proposed_kill: Kill | None = None
        self._announce_deadline = NEVER
        self._has_failed = False

    @property
    def deadline(self) -> float:
        """When an early end is said at the latest."""
        return self._announce_deadline

    @property
    def is_final(self) -> bool:
        """Whether all is done, and nothing is left to go on with."""
        return self.kill is not None and self.kill.mode == "done" and not self.stop_reason

    def fail(self, failure: str) -> None:
        """The output can take no more: whatever is said, the run is not complete."""
        self._has_failed, self.stop_reason = True, failure
        self.exit_code = errors.STDOUT_CLOSED if failure == errors.STDOUT_CLOSED_REASON else errors.INCOMPLETE

    def propose(self, kill: Kill, announce_by: float) -> bool:
        """Somebody wants this end; False if the run already ends so, or harder."""
        if not all(_is_more_severe(kill, known) for known in (self.kill, self._proposed_kill)):
            return False
        self._proposed_kill, self._announce_deadline = kill, announce_by
        return True

    def due_kill(self, now: float) -> Kill | None:
        """What was asked for so long ago that it is said now."""
        return self._proposed_kill if now >= self._announce_deadline else None

    def commit(self, kill: Kill) -> bool:
        """The run ends so; False if it already ends so, or harder."""
        if not _is_more_severe(kill, self.kill):
            return False
        self._announce_deadline = NEVER
        if not self.kill and not self._has_failed:
            self.exit_code = kill.exit_code
        self.kill, self.stop_reason = kill, self.stop_reason if self._has_failed else kill.reason
        return True


def _is_more_severe(kill: Kill, other: Kill | None) -> bool:
    return other is None or (other.mode != "done" and SEVERITY[kill.mode] > SEVERITY[other.mode])
