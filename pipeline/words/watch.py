"""Watching for a peer: who is silent, since when, what the person is told, when the connection is replaced.

Silence of SOON is told once, and its end too. Before the first contact a station waits as long as it takes; after it,
`patience` seconds of silence are the end.
"""

from __future__ import annotations

from pipeline.words.notices import Peer, Waiting
from pipeline.words.station import NEVER, Port, Send

NOTIFY_AFTER_SECONDS = 2.0
"""Seconds of waiting after which a person is told."""


class PeerMonitor:
    """One peer, as one station hears it."""

    def __init__(self, role: Peer, now: float, peer_timeout: float, interval: float = 1.0) -> None:
        self._role: Peer = role
        self._last_message_at, self._peer_timeout = now, peer_timeout
        self.interval = interval
        """Seconds in which a peer that is there says something anyway."""
        self.has_been_seen = self._has_notified = False
        self._reconnected_at = now

    @property
    def deadline(self) -> float:
        """When silence becomes worth a word."""
        return (
            NEVER
            if self._has_notified
            else self._last_message_at
            + (NOTIFY_AFTER_SECONDS + self.interval if self.has_been_seen else NOTIFY_AFTER_SECONDS)
        )

    def restart(self, now: float) -> None:
        """Silence counts from now."""
        self._last_message_at, self._has_notified = now, False

    def record_message(self, now: float) -> list[Send]:
        """The peer said something."""
        told, self._has_notified = self._has_notified, False
        self._last_message_at, self.has_been_seen = now, True
        return [Send(Port.USER, Waiting(self._role, active=False))] if told else []

    def tick(self, now: float) -> list[Send]:
        """Tell the person, once."""
        if now < self.deadline:
            return []
        self._has_notified = True
        return [Send(Port.USER, Waiting(self._role))]

    def stop(self) -> None:
        """Report the silence of this peer no more: it is known to be dead."""
        self._has_notified = True

    def is_silent_for(self, now: float, seconds: float) -> bool:
        """Whether nothing was heard for so long."""
        return now - self._last_message_at > seconds

    def is_lost(self, now: float) -> bool:
        """Whether it was there once and its patience is over."""
        return self.has_been_seen and self.is_silent_for(now, max(self._peer_timeout, 3 * self.interval))

    def is_reconnect_due(self, now: float, seconds: float) -> bool:
        """Whether to replace the connection now: silent so long, and not replaced within that time either."""
        if not self.is_silent_for(now, seconds) or now - self._reconnected_at <= seconds:
            return False
        self._reconnected_at = now
        return True
