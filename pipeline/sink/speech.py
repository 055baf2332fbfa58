"""What the sink says: Acks, at once when idle and coalesced under load, each the whole ledger.

An Ack says what is, never what changed; so any of them may be lost, doubled or late, and the next one heals it.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.sink.attempts import Attempts
from pipeline.sink.audience import Audience
from pipeline.sink.intake import Intake
from pipeline.sink.ledger import Ledger
from pipeline.words.messages import LISTED, Ack
from pipeline.words.station import NEVER, Port, Send

COALESCED = 0.004
"""Seconds between Acks under load."""


class Wants(Struct, frozen=True):
    """What the sink wants of each task: an account of it, its lines as they come; and each of its tries (`log`)."""

    account: bool = False
    live: bool = False
    log: bool = False


class Speech:
    """The sink's Acks: at once when idle, coalesced under load, each the whole ledger."""

    def __init__(self, ledger: Ledger, epoch: str, birth: int, now: float, wants: Wants) -> None:
        self._ledger, self._epoch, self._number, self._wants = ledger, epoch, birth, wants
        self.heard = -1
        """The number of the latest Run."""
        self.due = now
        self._last = -NEVER

    def hurry(self, now: float) -> list[Send]:
        """There is news, to be said soon; nothing to send yet."""
        self.due = min(self.due, max(now, self._last + COALESCED))
        return []

    def ack(self, now: float, audience: Audience, intake: Intake, attempts: Attempts, *, full: bool) -> Send:
        """Say it."""
        self.due, self._last = NEVER, now
        self._number += 1
        ledger = self._ledger
        ack = Ack(
            run=ledger.run,
            heard=self.heard,
            fingerprint=ledger.fingerprint,
            epoch=self._epoch,
            number=self._number,
            low=ledger.settled.low_water(),
            ranges=ledger.settled.above_low_water()[:LISTED],
            total=ledger.total,
            full=full,
            again=audience.asked_again(),
            retries=attempts.retries(ledger.tries, now, LISTED),
            reader=intake.reader,
            read=intake.read,
            recorded=ledger.read,
            digest=ledger.digest,
            command=ledger.command,
            account=self._wants.account,
            live=self._wants.live,
        )
        return Send(Port.CONTROL, ack)
