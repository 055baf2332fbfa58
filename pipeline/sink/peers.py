"""Whom the sink hears: the workers by their pulses, and the ventilator by its Run.

It knows what pulses speak of that never came, and whose goodbye is missing at the end. Who has been silent for
the liveness is not waited for.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.model.messages import Heartbeat, ResendRequest, WorkerActivity, WorkerStatus
from pipeline.model.state_machine import NEVER, VENTILATOR, PeerMonitor, Send
from pipeline.sink.ledger import Ledger

GOODBYE_TIMEOUT_DIVISOR = 4
"""The ventilator says goodbye when its workers are gone: then who is silent is waited for this many times shorter."""


NO_ACTIVITY = WorkerActivity("", 0.0, 0, ())


class _WorkerEntry(Struct):
    heartbeat: Heartbeat
    last_heartbeat_time: float
    activity: WorkerActivity


class PeerTable:
    """Everybody whom a sink has heard, with `liveness` seconds of silence allowed."""

    def __init__(
        self,
        ledger: Ledger,
        heartbeat_timeout: float,
        now: float,
        peer_timeout: float = 600.0,
        heartbeat_interval: float = 1.0,
    ) -> None:
        self.ventilator_monitor = PeerMonitor("ventilator", now, peer_timeout, heartbeat_interval)
        self._ledger, self._heartbeat_timeout, self._goodbye_timeout = ledger, heartbeat_timeout, heartbeat_timeout
        self._workers: dict[str, _WorkerEntry] = {}
        self._resend_requests: dict[str, ResendRequest] = {}
        self._departed_workers: set[str] = set()
        self._birth = self._ventilator_state_time = now if ledger.run else -NEVER
        self._is_ventilator_dead = False

    def on_heartbeat(self, heartbeat: Heartbeat, now: float) -> bool:
        """A worker's pulse; True if it speaks of results that have not come."""
        if heartbeat.worker in self._departed_workers:
            return False
        known = self._workers.get(heartbeat.worker)
        self._workers[heartbeat.worker] = _WorkerEntry(heartbeat, now, known.activity if known else NO_ACTIVITY)
        self._resend_requests.pop(heartbeat.worker, None)
        lost = self._ledger.missing(heartbeat.unacked, heartbeat.attempts) if heartbeat.run == self._ledger.run else ()
        if lost:
            self._resend_requests[heartbeat.worker] = ResendRequest(heartbeat.worker, heartbeat.number, lost)
        return bool(lost)

    def on_activity(self, activity: WorkerActivity) -> list[Send]:
        """What a worker runs now; kept for those who look on."""
        if peer := self._workers.get(activity.worker):
            peer.activity = activity
        return []

    def on_ventilator_state(self, now: float) -> list[Send]:
        """The ventilator's Run was heard."""
        if self._is_ventilator_dead:  # it has sent this before
            return []
        self._ventilator_state_time = now
        return self.ventilator_monitor.record_message(now)

    def on_goodbye(self, name: str, now: float, *, is_run_over: bool) -> list[Send]:
        """A goodbye. The ventilator's counts only when the run is over: before, another life of it may come."""
        if name != VENTILATOR:
            self._departed_workers.add(name)
            self._workers.pop(name, None)
            self._resend_requests.pop(name, None)
            return []
        if is_run_over:
            self._ventilator_state_time, self._goodbye_timeout = (
                -NEVER,
                self._heartbeat_timeout / GOODBYE_TIMEOUT_DIVISOR,
            )
        return self.ventilator_monitor.record_message(now)

    def on_ventilator_dead(self) -> list[Send]:
        """Stop waiting for its goodbye. A restarted sink waits a moment for the workers that have not reconnected."""
        self._is_ventilator_dead, self._ventilator_state_time, self._goodbye_timeout = (
            True,
            self._birth,
            self._heartbeat_timeout / GOODBYE_TIMEOUT_DIVISOR,
        )
        self.ventilator_monitor.stop()
        return []

    def expire_silent(self, now: float) -> None:
        """Who has been silent for three times the liveness is no member any more; its results are others' now."""
        for name in [
            name for name, peer in self._workers.items() if now - peer.last_heartbeat_time > 3 * self._heartbeat_timeout
        ]:
            del self._workers[name]
            self._resend_requests.pop(name, None)

    def resend_requests(self) -> tuple[ResendRequest, ...]:
        """Of each worker, what its last pulse spoke of and never came."""
        return tuple(self._resend_requests.values())

    def waiting_for(self, now: float) -> tuple[str, ...]:
        """Whose goodbye is missing, of those who are not lost."""
        present = [
            name for name, peer in self._workers.items() if now - peer.last_heartbeat_time <= self._goodbye_timeout
        ]
        timeout = self._goodbye_timeout if self._is_ventilator_dead else self._heartbeat_timeout
        return (*present, *((VENTILATOR,) if now - self._ventilator_state_time <= timeout else ()))

    def load(self) -> tuple[int, int]:
        """How many tasks run, and how many could."""
        pulses = [peer.heartbeat for peer in self._workers.values()]
        return sum(map(_running_count, pulses)), sum(pulse.slots for pulse in pulses)

    def workers(self, now: float) -> tuple[WorkerStatus, ...]:
        """The workers, for those who look on."""
        return tuple(
            WorkerStatus(
                worker=name,
                command=peer.heartbeat.command,
                slots=peer.heartbeat.slots,
                running_count=_running_count(peer.heartbeat),
                done_count=peer.heartbeat.done_count,
                seconds_since_message=round(now - peer.last_heartbeat_time, 3),
                cpu=peer.activity.cpu,
                memory=peer.activity.memory,
                running_tasks=peer.activity.running_tasks,
            )
            for name, peer in self._workers.items()
        )


def _running_count(heartbeat: Heartbeat) -> int:
    """How many tasks it runs."""
    return min(heartbeat.slots, sum(high - low for low, high in heartbeat.unfinished))
