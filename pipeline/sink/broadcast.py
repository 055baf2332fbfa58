"""Acks and statuses, which the sink publishes on the control channel.

- An Ack is sent at once when the sink is idle, and less often under load. It contains the whole state of the ledger,
  not the changes, so each Ack replaces any that were lost, duplicated or late.
- A status is made at each heartbeat interval: progress, workers, and why no tasks run. It compares with the status
  before to see whether the output is stuck.
"""

from __future__ import annotations

from collections import deque

from msgspec import Struct

from pipeline.model.messages import MAX_ACK_ITEMS, Ack, BlockReason, Kill, RunStatus, Transfer
from pipeline.model.option_values import HaltCondition
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.sink.ledger import Ledger, RunInfo
from pipeline.sink.peers import PeerTable
from pipeline.sink.result_writer import ResultWriter
from pipeline.sink.retries import RetryQueue

MIN_ACK_INTERVAL_SECONDS = 0.004
"""Seconds between Acks under load."""
RATE_WINDOW_STATUSES = 30
"""Statuses over which the rate is computed."""


class ReportOptions(Struct, frozen=True):
    """Data that workers report about each task: metrics, partial output; and whether each attempt is logged."""

    collect_metrics: bool = False
    stream_output: bool = False
    log_attempts: bool = False


class AckSender:
    """Acks of one sink process."""

    def __init__(
        self,
        ledger: Ledger,
        epoch: str,
        ack_number_base: int,
        now: float,
        report_options: ReportOptions,
        halt_condition: HaltCondition | None = None,
    ) -> None:
        self._ledger, self._epoch, self._ack_number = ledger, epoch, ack_number_base
        self._report_options, self._halt_condition = report_options, halt_condition
        self.last_state_number = -1
        """The number of the latest VentilatorState."""
        self.next_ack_time = now
        self._last_ack_time = -NEVER

    def schedule_soon(self, now: float) -> None:
        """Send the next Ack as soon as the minimum interval allows."""
        self.next_ack_time = min(self.next_ack_time, max(now, self._last_ack_time + MIN_ACK_INTERVAL_SECONDS))

    def make_ack(
        self,
        now: float,
        peers: PeerTable,
        run_info: RunInfo,
        retry_queue: RetryQueue,
        transfers: tuple[Transfer, ...] = (),
        *,
        spill_full: bool,
    ) -> Send:
        """Return the next Ack."""
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
            halt_event=self._halt_condition.event if self._halt_condition else "",
            events_left=self._events_left(peers),
            transfers=transfers,
        )
        return Send(Port.CONTROL, ack)

    def _events_left(self, peers: PeerTable) -> int:
        """Return each worker's share of the halt events that are left, at least one while there are any."""
        left = self._ledger.events_left(self._halt_condition) if self._halt_condition else -1
        return max(left // max(1, peers.worker_count), 1) if left > 0 else left


class StatusBuilder:
    """Statuses of the run; with `is_ordered`, they name the next task in order."""

    def __init__(self, ledger: Ledger, peers: PeerTable, writer: ResultWriter, now: float, *, is_ordered: bool) -> None:
        self._ledger, self._peers, self._writer, self._is_ordered = ledger, peers, writer, is_ordered
        self.is_waiting_for_input = False
        """The ventilator has reported that its input is silent."""
        self._start_time, self._last_oldest_number = now, -1
        self._history: deque[tuple[float, int]] = deque(maxlen=RATE_WINDOW_STATUSES)

    def publish(self, now: float, kill: Kill | None) -> list[Send]:
        """Send the status to all subscribers and to the user."""
        if not self._ledger.run:  # the run's time starts when a ventilator has connected
            self._start_time = now
        self._history.append((now, self._ledger.settled.task_count))
        oldest = self._writer.oldest_output_number
        is_output_stuck = 0 <= oldest == self._last_oldest_number
        self._last_oldest_number = oldest
        status = self.build_status(now, kill, is_output_stuck=is_output_stuck)
        return [Send(Port.CONTROL, status), Send(Port.USER, status)]

    def build_status(self, now: float, kill: Kill | None, *, is_output_stuck: bool = False) -> RunStatus:
        """Return the status; `is_output_stuck`: the output has committed nothing since the last one."""
        ledger, peers = self._ledger, self._peers
        state = "feeding" if ledger.total < 0 else "ended"
        turn = ledger.next_in_order if self._is_ordered and len(ledger.spilled) else -1
        return RunStatus(
            run=ledger.run,
            state=kill.mode if kill else state,
            settled_count=ledger.settled.task_count,
            failed_count=ledger.failed_count,
            total=ledger.total,
            next_in_order=turn,
            workers=peers.workers(now),
            waiting_for=peers.waiting_for(now) if kill else (),
            retry_count=len(ledger.attempts),
            tasks_per_second=self._rate(),
            elapsed_seconds=now - self._start_time,
            blocked_on="" if kill else self._blocked_on(turn, is_output_stuck=is_output_stuck),
        )

    def _blocked_on(self, next_in_order: int, *, is_output_stuck: bool) -> BlockReason:
        running, slots = self._peers.load()
        causes: dict[BlockReason, bool] = {  # the first that holds is reported
            "ventilator": not self._peers.ventilator_monitor.has_been_seen,
            "worker": not slots,
            "output": is_output_stuck,
            "spill": self._writer.spill_full,
            "slots": running >= slots,
            "input": self.is_waiting_for_input and not running,
            "turn": next_in_order >= 0 and not running,
        }
        return next((cause for cause, holds in causes.items() if holds), "")

    def _rate(self) -> float:
        """Return tasks per second over the last statuses; 0 while there is only one."""
        if not self._history:
            return 0.0
        (first_time, first_count), (last_time, last_count) = self._history[0], self._history[-1]
        elapsed = last_time - first_time
        return max(0.0, (last_count - first_count) / elapsed) if elapsed > 0 else 0.0
