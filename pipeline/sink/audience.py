"""Whom the sink hears: the workers by their pulses, and the ventilator by its Run.

It knows what pulses speak of that never came, and whose goodbye is missing at the end. Who has been silent for
the liveness is not waited for.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.sink.ledger import Ledger
from pipeline.words.messages import Glance, Pulse
from pipeline.words.parts import Again, Member
from pipeline.words.station import NEVER, VENTILATOR, Send
from pipeline.words.watch import Watch

HASTE = 4
"""The ventilator says goodbye when its workers are gone: then who is silent is waited for this many times shorter."""


UNSEEN = Glance("", 0.0, 0, ())


class _Peer(Struct):
    pulse: Pulse
    heard: float
    glance: Glance


class Audience:
    """Everybody whom a sink has heard, with `liveness` seconds of silence allowed."""

    def __init__(self, ledger: Ledger, liveness: float, now: float, patience: float = 600.0, beat: float = 1.0) -> None:
        self.ventilator = Watch("ventilator", now, patience, beat)
        self._ledger, self._liveness, self._allowed = ledger, liveness, liveness
        self._peers: dict[str, _Peer] = {}
        self._again: dict[str, Again] = {}
        self._gone: set[str] = set()
        self._birth = self._feeding = now if ledger.run else -NEVER
        self._is_ventilator_dead = False

    def pulsed(self, pulse: Pulse, now: float) -> bool:
        """A worker's pulse; True if it speaks of results that have not come."""
        if pulse.worker in self._gone:
            return False
        known = self._peers.get(pulse.worker)
        self._peers[pulse.worker] = _Peer(pulse, now, known.glance if known else UNSEEN)
        self._again.pop(pulse.worker, None)
        lost = self._ledger.missing(pulse.finished, pulse.tried) if pulse.run == self._ledger.run else ()
        if lost:
            self._again[pulse.worker] = Again(pulse.worker, pulse.number, lost)
        return bool(lost)

    def glanced(self, glance: Glance) -> list[Send]:
        """What a worker runs now; kept for those who look on."""
        if peer := self._peers.get(glance.worker):
            peer.glance = glance
        return []

    def fed(self, now: float) -> list[Send]:
        """The ventilator's Run was heard."""
        if self._is_ventilator_dead:  # it has sent this before
            return []
        self._feeding = now
        return self.ventilator.heard(now)

    def left(self, name: str, now: float, *, over: bool) -> list[Send]:
        """A goodbye. The ventilator's counts only when the run is over: before, another life of it may come."""
        if name != VENTILATOR:
            self._gone.add(name)
            self._peers.pop(name, None)
            self._again.pop(name, None)
            return []
        if over:
            self._feeding, self._allowed = -NEVER, self._liveness / HASTE
        return self.ventilator.heard(now)

    def on_ventilator_dead(self) -> list[Send]:
        """Stop waiting for its goodbye. A restarted sink waits a moment for the workers that have not reconnected."""
        self._is_ventilator_dead, self._feeding, self._allowed = True, self._birth, self._liveness / HASTE
        self.ventilator.stop()
        return []

    def forget(self, now: float) -> None:
        """Who has been silent for three times the liveness is no member any more; its results are others' now."""
        for name in [name for name, peer in self._peers.items() if now - peer.heard > 3 * self._liveness]:
            del self._peers[name]
            self._again.pop(name, None)

    def asked_again(self) -> tuple[Again, ...]:
        """Of each worker, what its last pulse spoke of and never came."""
        return tuple(self._again.values())

    def awaited(self, now: float) -> tuple[str, ...]:
        """Whose goodbye is missing, of those who are not lost."""
        present = [name for name, peer in self._peers.items() if now - peer.heard <= self._allowed]
        timeout = self._allowed if self._is_ventilator_dead else self._liveness
        return (*present, *((VENTILATOR,) if now - self._feeding <= timeout else ()))

    def load(self) -> tuple[int, int]:
        """How many tasks run, and how many could."""
        pulses = [peer.pulse for peer in self._peers.values()]
        return sum(map(_running, pulses)), sum(pulse.slots for pulse in pulses)

    def members(self, now: float) -> tuple[Member, ...]:
        """The workers, for those who look on."""
        return tuple(
            Member(
                worker=name,
                command=peer.pulse.command,
                slots=peer.pulse.slots,
                running=_running(peer.pulse),
                done=peer.pulse.done,
                silent=round(now - peer.heard, 3),
                cpu=peer.glance.cpu,
                memory=peer.glance.memory,
                doing=peer.glance.doing,
            )
            for name, peer in self._peers.items()
        )


def _running(pulse: Pulse) -> int:
    """How many tasks it runs."""
    return min(pulse.slots, sum(high - low for low, high in pulse.holding))
