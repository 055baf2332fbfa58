"""The whole line as one word, for those who look on: progress, workers, and why nothing runs when nothing does.

It is made at each beat, and compares with the beat before: what has not moved since is stuck. It never guesses; where
something runs and slots are free, it gives no reason.
"""

from __future__ import annotations

from collections import deque

from pipeline.sink.audience import PeerTable
from pipeline.sink.ledger import Ledger
from pipeline.sink.writing import ResultWriter
from pipeline.words.messages import Kill, RunStatus, Why
from pipeline.words.station import Port, Send

RATE_WINDOW_STATUSES = 30
"""Statuses over which the rate is taken."""


class StatusBuilder:
    """What the sink shows; `ordered`: results wait for their turn."""

    def __init__(self, ledger: Ledger, peers: PeerTable, writer: ResultWriter, now: float, *, is_ordered: bool) -> None:
        self._ledger, self._peers, self._writer, self._is_ordered = ledger, peers, writer, is_ordered
        self.is_waiting_for_input = False
        """The ventilator has said that its input is silent."""
        self._start_time, self._last_oldest_number = now, -1
        self._history: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOW_STATUSES)

    def publish(self, now: float, kill: Kill | None) -> list[Send]:
        """The line as it is, to all who look on."""
        if not self._ledger.run:  # the run's time starts when somebody has something to run
            self._start_time = now
        self._history.append((now, self._ledger.settled.task_count))
        stuck, self._last_oldest_number = (
            0 <= self._writer.pending_writes.oldest_output_number == self._last_oldest_number,
            self._writer.pending_writes.oldest_output_number,
        )
        status = self.build_status(now, kill, is_output_stuck=stuck)
        return [Send(Port.CONTROL, status), Send(Port.USER, status)]

    def build_status(self, now: float, kill: Kill | None, *, is_output_stuck: bool = False) -> RunStatus:
        """The line as it is; `stuck`: the output has taken nothing since the last beat."""
        ledger, audience = self._ledger, self._peers
        state = "feeding" if ledger.total < 0 else "ended"
        turn = ledger.next_in_order if self._is_ordered and len(ledger.spilled) else -1
        return RunStatus(
            run=ledger.run,
            state=kill.mode if kill else state,
            settled_count=ledger.settled.task_count,
            failed_count=ledger.failed_count,
            total=ledger.total,
            next_in_order=turn,
            workers=audience.workers(now),
            waiting_for=audience.waiting_for(now) if kill else (),
            retry_count=len(ledger.attempts),
            tasks_per_second=self._rate(),
            elapsed_seconds=now - self._start_time,
            blocked_on="" if kill else self._blocked_on(turn, is_output_stuck=is_output_stuck),
        )

    def _blocked_on(self, next_in_order: int, *, is_output_stuck: bool) -> Why:
        """One of messages.WHY: the first that holds."""
        running, slots = self._peers.load()
        told: dict[Why, bool] = {
            "ventilator": not self._peers.ventilator_monitor.has_been_seen,
            "worker": not slots,
            "output": is_output_stuck,
            "spill": self._writer.spill_full,
            "slots": running >= slots,
            "input": self.is_waiting_for_input and not running,
            "turn": next_in_order >= 0 and not running,
        }
        return next((word for word, holds in told.items() if holds), "")

    def _rate(self) -> float:
        """Tasks per second over the last statuses; 0 while there is but one."""
        if not self._history:
            return 0.0
        (then, before), (now, done) = self._history[0], self._history[-1]
        return max(0.0, (done - before) / (now - then)) if now > then else 0.0
