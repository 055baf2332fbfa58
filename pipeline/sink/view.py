"""The whole line as one word, for those who look on: progress, workers, and why nothing runs when nothing does.

It is made at each beat, and compares with the beat before: what has not moved since is stuck. It never guesses; where
something runs and slots are free, it gives no reason.
"""

from __future__ import annotations

from collections import deque

from pipeline.sink.audience import Audience
from pipeline.sink.ledger import Ledger
from pipeline.sink.writing import Writing
from pipeline.words.messages import Kill, Status, Why
from pipeline.words.station import Port, Send

LATELY = 30
"""Statuses over which the rate is taken."""


class View:
    """What the sink shows; `ordered`: results wait for their turn."""

    def __init__(self, ledger: Ledger, audience: Audience, writing: Writing, now: float, *, ordered: bool) -> None:
        self._ledger, self._audience, self._writing, self._ordered = ledger, audience, writing, ordered
        self.starved = False
        """The ventilator has said that its input is silent."""
        self._born, self._oldest = now, -1
        self._past: deque[tuple[float, int]] = deque(maxlen=LATELY)

    def beat(self, now: float, kill: Kill | None) -> list[Send]:
        """The line as it is, to all who look on."""
        if not self._ledger.run:  # the run's time starts when somebody has something to run
            self._born = now
        self._past.append((now, self._ledger.settled.tasks))
        stuck, self._oldest = 0 <= self._writing.underway.oldest == self._oldest, self._writing.underway.oldest
        status = self.status(now, kill, stuck=stuck)
        return [Send(Port.CONTROL, status), Send(Port.TOLD, status)]

    def status(self, now: float, kill: Kill | None, *, stuck: bool = False) -> Status:
        """The line as it is; `stuck`: the output has taken nothing since the last beat."""
        ledger, audience = self._ledger, self._audience
        state = "feeding" if ledger.total < 0 else "ended"
        turn = ledger.turn if self._ordered and len(ledger.ahead) else -1
        return Status(
            run=ledger.run,
            state=kill.mode if kill else state,
            settled=ledger.settled.tasks,
            failed=ledger.failed,
            total=ledger.total,
            turn=turn,
            members=audience.members(now),
            awaited=audience.awaited(now) if kill else (),
            retrying=len(ledger.tries),
            rate=self._rate(),
            elapsed=now - self._born,
            why="" if kill else self._why(turn, stuck=stuck),
        )

    def _why(self, turn: int, *, stuck: bool) -> Why:
        """One of messages.WHY: the first that holds."""
        running, slots = self._audience.load()
        told: dict[Why, bool] = {
            "ventilator": not self._audience.ventilator.met,
            "worker": not slots,
            "output": stuck,
            "spill": self._writing.full,
            "slots": running >= slots,
            "input": self.starved and not running,
            "turn": turn >= 0 and not running,
        }
        return next((word for word, holds in told.items() if holds), "")

    def _rate(self) -> float:
        """Tasks per second over the last statuses; 0 while there is but one."""
        if not self._past:
            return 0.0
        (then, before), (now, done) = self._past[0], self._past[-1]
        return max(0.0, (done - before) / (now - then)) if now > then else 0.0
