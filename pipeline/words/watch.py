"""Watching for a peer: who is silent, since when, what the person is told, when the connection is replaced.

Silence of SOON is told once, and its end too. Before the first contact a station waits as long as it takes; after it,
`patience` seconds of silence are the end.
"""

from __future__ import annotations

from pipeline.words.notices import Peer, Waiting
from pipeline.words.station import NEVER, Port, Send

SOON = 2.0
"""Seconds of waiting after which a person is told."""


class Watch:
    """One peer, as one station hears it."""

    def __init__(self, who: Peer, now: float, patience: float, beat: float = 1.0) -> None:
        self._who: Peer = who
        self._last, self._patience = now, patience
        self.beat = beat
        """Seconds in which a peer that is there says something anyway."""
        self.met = self._told = False
        self._repaired = now

    @property
    def deadline(self) -> float:
        """When silence becomes worth a word."""
        return NEVER if self._told else self._last + (SOON + self.beat if self.met else SOON)

    def expect(self, now: float) -> None:
        """Silence counts from now."""
        self._last, self._told = now, False

    def heard(self, now: float) -> list[Send]:
        """The peer said something."""
        told, self._told = self._told, False
        self._last, self.met = now, True
        return [Send(Port.TOLD, Waiting(self._who, active=False))] if told else []

    def tick(self, now: float) -> list[Send]:
        """Tell the person, once."""
        if now < self.deadline:
            return []
        self._told = True
        return [Send(Port.TOLD, Waiting(self._who))]

    def stop(self) -> None:
        """Report the silence of this peer no more: it is known to be dead."""
        self._told = True

    def silent(self, now: float, seconds: float) -> bool:
        """Whether nothing was heard for so long."""
        return now - self._last > seconds

    def lost(self, now: float) -> bool:
        """Whether it was there once and its patience is over."""
        return self.met and self.silent(now, max(self._patience, 3 * self.beat))

    def repair_due(self, now: float, seconds: float) -> bool:
        """Whether to replace the connection now: silent so long, and not replaced within that time either."""
        if not self.silent(now, seconds) or now - self._repaired <= seconds:
            return False
        self._repaired = now
        return True
