"""How the sink ends its run: when all is written, when somebody wishes it, when nothing more can be written.

An early end goes into the journal first, so that a sink that comes back ends the run as well; when this one goes in
good order and the run is not finished, the journal is told that, too, and the next sink goes on with the run. It never
ends a run twice, nor one that is done.
"""

from __future__ import annotations

from typing import Literal

from pipeline.sink.ledger import Ledger
from pipeline.sink.verdict import Verdict
from pipeline.sink.writing import Writing
from pipeline.words import checksums, errors
from pipeline.words.facts import Killed, Left
from pipeline.words.halt import Halt
from pipeline.words.messages import Kill, Run
from pipeline.words.notices import Waiting
from pipeline.words.station import NEVER, Port, Send

ROOM = 10.0
"""Seconds that a run which is to end waits for room on a full disk."""


class Closing:
    """The end of one run, as one life of the sink says it; with `journal`, another life may go on with it."""

    def __init__(self, ledger: Ledger, writing: Writing, halt: Halt | None, beat: float, *, journal: bool) -> None:
        self._ledger, self._writing, self._halt, self._beat, self._journal = ledger, writing, halt, beat, journal
        self.verdict = Verdict()
        self.broken = self._left = False
        """Nothing more can be written; the next sink was told to go on."""
        self._lacks, self._given_up = "", NEVER

    @property
    def kill(self) -> Kill | None:
        """What was said."""
        return self.verdict.kill

    @property
    def is_late(self) -> bool:
        """Whether nothing more can be written, or not in its turn."""
        return self.broken or self._writing.flushing

    def wish(self, mode: Literal["soon", "now"], reason: str, now: float, code: int | None = None) -> list[Send]:
        """Somebody wants an early end, with this exit code or the one of its reason: said when the journal has it."""
        code = errors.outcome(mode, reason, self._ledger.failed) if code is None else code
        kill = Kill(self._ledger.run, mode, reason, code)
        if not self._ledger.run or self.broken or code == errors.USAGE:
            return self._say(kill)
        asked = self.verdict.ask(kill, now + self._beat)
        return [self._ledger.enter(Killed(mode, reason, code))] if asked else []

    def heard(self, run: Run, now: float) -> list[Send]:
        """What the ventilator's state means for the end of the run."""
        if run.state == "stopped" and not self.kill:
            return self.wish("soon", run.reason or "the ventilator stopped", now)
        if run.state != "ended":
            return []
        low, end = run.total, self._ledger.settled.end
        if end <= low < self._ledger.read:  # what is left of this group can't be compared
            low = checksums.floor(low)
        if low >= end:
            return []
        if run.reason:  # it broke off before what was done: whether that is the same is not known
            return self.wish("now", run.reason, now, errors.INCOMPLETE)
        return self.differs(low, run.total + 1, now)

    def on_ventilator_dead(self, now: float) -> list[Send]:
        """End the run as for a signal, whose name is not shown: the launcher has reported the death."""
        return self.wish("now", "SIGTERM", now)

    def halt(self, now: float) -> list[Send]:
        """End the run if so many tasks have ended in the way that a person wants it to end at."""
        halt, ledger = self._halt, self._ledger
        if halt is None or self.kill or not halt.is_due(ledger.settled.tasks, ledger.failed, ledger.total):
            return []
        code = errors.OK if halt.why == "success" or not ledger.failed else errors.TASKS_FAILED
        return self.wish(halt.mode, f"--halt {halt}", now, code)

    def break_off(self, failure: str, now: float) -> list[Send]:
        """Nothing more can be written."""
        if not failure or self.broken:
            return []
        self.broken = True
        self.verdict.break_off(failure)
        return self.wish("now", failure, now)

    def stuck(self, word: Waiting) -> list[Send]:
        """An edge waits for room, or has found it."""
        if not (word.active and self._lacks):
            self._lacks, self._given_up = word.detail, NEVER
        return []

    def differs(self, low: int, high: int, now: float) -> list[Send]:
        """The input is not the one whose tasks were done: these are not as they were."""
        tasks = f"task {low + 1} differs" if high == low + 1 else f"tasks {low + 1} to {high} differ"
        reason = f"the input is not that of the unfinished run: {tasks} from what was done"
        return self.wish("now", f"{reason}; give the same input, or begin anew with --restart", now, errors.USAGE)

    def tick(self, now: float) -> list[Send]:
        """Say KILL, if it is time."""
        ledger, sends = self._ledger, []
        if ledger.killed:
            sends = self._say(Kill(ledger.run, ledger.killed.mode, ledger.killed.reason, ledger.killed.code))
        elif late := self.verdict.due(now):
            sends = self._say(late)
        if self.kill is None and ledger.run and self._writing.is_complete:
            code = errors.outcome("done", ledger.reason, ledger.failed)
            sends = self._say(Kill(ledger.run, "done", ledger.reason, code))
        return [*sends, *self._give_up(now)]

    def _give_up(self, now: float) -> list[Send]:
        """A person who wants the end does not wait for room as a run does; what is not written, is not done."""
        if not self._lacks or not self.kill or self.broken:
            return []
        self._given_up = min(self._given_up, now + (ROOM if self.kill.mode == "soon" else 0.0))
        if now < self._given_up:
            return []
        return self.break_off(f"{self._lacks}: gave up waiting for room", now)

    def last_words(self) -> list[Send] | None:
        """What is still to be written before the sink goes; None when nothing is.

        What stands behind a gap in the order is written now, but where another sink can go on it is left to that one.
        """
        if self.broken:
            return None
        if not self._journal:
            return None if self._writing.is_over else self._writing.flush()
        if not self._writing.is_still:
            return []
        if not self._left and not self.verdict.is_final and self._ledger.run:
            self._left = True
            return [self._ledger.enter(Left())]
        return [] if self._ledger.awaits(Left) else None

    def _say(self, kill: Kill) -> list[Send]:
        """A later, harder one replaces it."""
        return [Send(Port.CONTROL, kill)] if self.verdict.say(kill) else []
