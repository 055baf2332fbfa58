"""The peers of the sink: workers by their heartbeats, and the ventilator by its state messages.

- A worker's heartbeat lists finished tasks; the sink requests those results again that never arrived.
- At the end of the run the sink waits for the Goodbye of each peer that has not been silent for the heartbeat timeout.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.model.messages import Heartbeat, ResendRequest, WorkerActivity, WorkerStatus
from pipeline.model.state_machine import NEVER, VENTILATOR, PeerMonitor, Send
from pipeline.sink.ledger import Ledger

GOODBYE_TIMEOUT_DIVISOR = 4
"""The ventilator sends Goodbye when its workers have left. From then on, silent peers time out this much earlier."""
EXPIRY_TIMEOUTS = 3
"""Heartbeat timeouts of silence after which a worker is removed."""

NO_ACTIVITY = WorkerActivity("", 0.0, 0, ())


class _WorkerEntry(Struct):
    heartbeat: Heartbeat
    last_heartbeat_time: float
    activity: WorkerActivity


class PeerTable:
    """All peers that have sent messages to the sink."""

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
        self._start_time = self._ventilator_state_time = now if ledger.run else -NEVER
        self._is_ventilator_dead = False

    def on_heartbeat(self, heartbeat: Heartbeat, now: float) -> bool:
        """Register a worker's heartbeat. Return True if it lists results that have not arrived."""
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
        """Store what a worker runs now, for the status."""
        if peer := self._workers.get(activity.worker):
            peer.activity = activity
        return []

    def on_ventilator_state(self, now: float) -> list[Send]:
        """Register that the ventilator is alive."""
        if self._is_ventilator_dead:  # it sent this before it died
            return []
        self._ventilator_state_time = now
        return self.ventilator_monitor.record_message(now)

    def on_goodbye(self, name: str, now: float, *, is_run_over: bool) -> list[Send]:
        """Remove a peer. The ventilator's Goodbye counts only at the end of the run: earlier, it may be restarted."""
        if name != VENTILATOR:
            self._departed_workers.add(name)
            self._workers.pop(name, None)
            self._resend_requests.pop(name, None)
            return []
        if is_run_over:
            self._ventilator_state_time = -NEVER
            self._goodbye_timeout = self._heartbeat_timeout / GOODBYE_TIMEOUT_DIVISOR
        return self.ventilator_monitor.record_message(now)

    def on_ventilator_dead(self) -> list[Send]:
        """Stop waiting for its Goodbye. A restarted sink waits a moment for workers that have not reconnected."""
        self._is_ventilator_dead = True
        self._ventilator_state_time = self._start_time
        self._goodbye_timeout = self._heartbeat_timeout / GOODBYE_TIMEOUT_DIVISOR
        self.ventilator_monitor.stop()
        return []

    def expire_silent(self, now: float) -> None:
        """Remove the workers that have been silent for several timeouts. Others run their tasks by now."""
        limit = EXPIRY_TIMEOUTS * self._heartbeat_timeout
        for name in [name for name, peer in self._workers.items() if now - peer.last_heartbeat_time > limit]:
            del self._workers[name]
            self._resend_requests.pop(name, None)

    def resend_requests(self) -> tuple[ResendRequest, ...]:
        """Return for each worker the results that its last heartbeat lists and that never arrived."""
        return tuple(self._resend_requests.values())

    def waiting_for(self, now: float) -> tuple[str, ...]:
        """Return the peers that are not lost and have not sent Goodbye."""
        present = [
            name for name, peer in self._workers.items() if now - peer.last_heartbeat_time <= self._goodbye_timeout
        ]
        return (*present, *((VENTILATOR,) if self.is_ventilator_present(now) else ()))

    def is_ventilator_present(self, now: float) -> bool:
        """Return whether the ventilator is not lost and has not sent Goodbye."""
        timeout = self._goodbye_timeout if self._is_ventilator_dead else self._heartbeat_timeout
        return now - self._ventilator_state_time <= timeout

    def has_unfinished_tasks(self) -> bool:
        """Return whether a worker holds tasks that it has not finished."""
        return any(peer.heartbeat.unfinished for peer in self._workers.values())

    @property
    def worker_count(self) -> int:
        return len(self._workers)

    def load(self) -> tuple[int, int]:
        """Return the number of running tasks and of slots."""
        heartbeats = [peer.heartbeat for peer in self._workers.values()]
        return sum(map(_running_count, heartbeats)), sum(heartbeat.slots for heartbeat in heartbeats)

    def workers(self, now: float) -> tuple[WorkerStatus, ...]:
        """Return the status of each worker."""
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
    return min(heartbeat.slots, sum(high - low for low, high in heartbeat.unfinished))
