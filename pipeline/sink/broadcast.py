"""Builds Ack and Status for the control channel.

What the sink says: Acks, at once when idle and coalesced under load, each the whole ledger.

An Ack says what is, never what changed; so any of them may be lost, doubled or late, and the next one heals it.

The whole line as one word, for those who look on: progress, workers, and why nothing runs when nothing does.

It is made at each beat, and compares with the beat before: what has not moved since is stuck. It never guesses; where
something runs and slots are free, it gives no reason.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from pipeline.model.messages import MAX_ACK_ITEMS, Ack, Kill, RunStatus, Why
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.sink.ledger import Ledger, RunInfo
from pipeline.sink.peers import PeerTable
from pipeline.sink.result_writer import ResultWriter
from pipeline.sink.retries import RetryQueue

MIN_ACK_INTERVAL_SECONDS = 0.004
"""Seconds between Acks under load."""


class ReportOptions(Struct, frozen=True):
    """What the sink wants of each task: an account of it, its lines as they come; and each of its tries (`log`)."""

    collect_metrics: bool = False
    stream_output: bool = False
    log_attempts: bool = False


class AckSender:
    """The sink's Acks: at once when idle, coalesced under load, each the whole ledger."""

    def __init__(
        self, ledger: Ledger, epoch: str, ack_number_base: int, now: float, report_options: ReportOptions
    ) -> None:
        self._ledger, self._epoch, self._ack_number, self._report_options = (
            ledger,
            epoch,
            ack_number_base,
            report_options,
        )
        self.last_state_number = -1
        """The number of the latest Run."""
        self.next_ack_time = now
        self._last_ack_time = -NEVER

    def schedule_soon(self, now: float) -> list[Send]:
        """There is news, to be said soon; nothing to send yet."""
        self.next_ack_time = min(self.next_ack_time, max(now, self._last_ack_time + MIN_ACK_INTERVAL_SECONDS))
        return []

    def make_ack(
        self, now: float, peers: PeerTable, run_info: RunInfo, retry_queue: RetryQueue, *, spill_full: bool
    ) -> Send:
        """Say it."""
        self.next_ack_time, self._last_ack_time = NEVER, now
        self._ack_number += 1
        ledger = self._ledger
        ack = Ack(
            run=ledger.run,
            last_state_number=self.last_state_number,
            fingerprint=ledger.fingerprint,
            epoch=self._epoch,
            number=self._ack_number,
            low_watermark=ledger.settled.low_watermark(),
            ranges=ledger.settled.above_low_watermark()[:MAX_ACK_ITEMS],
            total=ledger.total,
            spill_full=spill_full,
            resend=peers.resend_requests(),
            retries=retry_queue.retries(ledger.attempts, now, MAX_ACK_ITEMS),
            ventilator_epoch=run_info.ventilator_epoch,
            checksum_watermark=run_info.checksum_watermark,
            recorded=ledger.checksum_watermark,
            digest=ledger.digest,
            command=ledger.command,
            collect_metrics=self._report_options.collect_metrics,
            stream_output=self._report_options.stream_output,
        )
        return Send(Port.CONTROL, ack)


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
