"""What the sink says: Acks, at once when idle and coalesced under load, each the whole ledger.

An Ack says what is, never what changed; so any of them may be lost, doubled or late, and the next one heals it.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.sink.attempts import RetryQueue
from pipeline.sink.audience import PeerTable
from pipeline.sink.intake import RunInfo
from pipeline.sink.ledger import Ledger
from pipeline.words.messages import MAX_ACK_ITEMS, Ack
from pipeline.words.station import NEVER, Port, Send

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
