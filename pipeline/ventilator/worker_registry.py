"""Registration of workers: each gets a lane at its first heartbeat, and keeps it while heartbeats arrive.

Invariants:
  - All workers of a run have the command of its first worker; others are rejected.
  - Heartbeats that arrive before the run is known are answered when it is.
  - A worker without heartbeats for the heartbeat timeout is lost: its tasks are requeued.
"""

from __future__ import annotations

from pipeline.model.errors import HINT_MARK, version_mismatch_text
from pipeline.model.events import CloseLane, LaneOpened, OpenLane, PeerRejected, WorkerLost
from pipeline.model.messages import Goodbye, Heartbeat, Kill, RecordFormat, Registration
from pipeline.model.state_machine import NEVER, PeerAddress, PeerMonitor, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.lane import LaneTable, WorkerLane
from pipeline.ventilator.task_store import TaskStore


class WorkerRegistry:
    """Workers of one ventilator. `template` is a Registration without a lane."""

    def __init__(self, task_store: TaskStore, template: Registration, now: float, peer_timeout: float) -> None:
        self.worker_monitor = PeerMonitor("worker", now, peer_timeout, template.heartbeat_interval)
        self.lanes = LaneTable(task_store)
        self.template = template
        self._early_heartbeats: dict[str, tuple[bytes, Heartbeat, float]] = {}
        self._last_lane_number = 0
        self._dead_until = -NEVER
        """Until then, a worker without a connection is the one whose death was reported."""
        self._digest, self._command = "", ""
        self._rejected: set[tuple[str, str]] = set()

    def start_run(self, run: str, record_format: RecordFormat, now: float) -> list[Send]:
        """Begin to register workers for this run, those first that have sent heartbeats before."""
        self.template = replace(self.template, run=run, record_format=record_format)
        self.worker_monitor.restart(now)
        early, self._early_heartbeats = self._early_heartbeats, {}
        return [
            send
            for peer, heartbeat, received_at in early.values()
            if now - received_at <= self.template.heartbeat_timeout
            for send in self.on_heartbeat(peer, heartbeat, True, now)
        ]

    def set_command(self, digest: str, command: str) -> None:
        """Set the command of the run's first worker, unless it is empty because the sink knows of none."""
        self._digest, self._command = digest or self._digest, command or self._command

    def end_run(self, kill: Kill) -> list[Send]:
        """Report the end of the run to all workers, now and at each heartbeat."""
        self.template = replace(self.template, state="over", reason=kill.reason)
        return self.send_registrations()

    def send_registrations(self) -> list[Send]:
        """Send each worker its Registration."""
        return [send for lane in self.lanes for send in self._send_registration(lane)]

    def expire_silent(self, now: float) -> list[Send]:
        """Remove lost workers, and replace the connections of stalled lanes."""
        sends = self.worker_monitor.tick(now) if self.template.run else []
        for lane in self.lanes:
            if lane.is_silent(now, self.template.heartbeat_timeout):
                task_count = sum(span.count for span in lane.assigned_ranges.values())
                lost = WorkerLost(lane.worker, task_count, lane.unreachable_since < NEVER)
                self.lanes.suspect(lane)
                sends += [*self._close_lane(lane.worker), Send(Port.USER, lost)]
            elif lane.is_stalled(now):
                self._last_lane_number += 1
                sends += [Send(Port.LANES, CloseLane(lane.number)), Send(Port.LANES, OpenLane(self._last_lane_number))]
                lane.rebind(self._last_lane_number)
        return sends

    def on_heartbeat(self, peer: bytes, heartbeat: Heartbeat, is_ack_current: bool, now: float) -> list[Send]:  # noqa: FBT001
        """Register a worker, or update its lane.

        Only if the ventilator's Ack is as new as the worker's, tasks that the worker does not hold are requeued: it may
        have finished them, and know that they are settled.
        """
        sends = self.worker_monitor.record_message(now)
        if not self.template.run:
            self._early_heartbeats[heartbeat.worker] = (peer, heartbeat, now)
            return sends
        return sends + self._answer(peer, heartbeat, is_ack_current, now)

    def on_lane_opened(self, lane_opened: LaneOpened) -> list[Send]:
        """Send the endpoint of a bound lane to its worker."""
        for lane in self.lanes:
            if lane.number == lane_opened.lane:
                lane.endpoint = lane_opened.endpoint
                return self._send_registration(lane)
        return [Send(Port.LANES, CloseLane(lane_opened.lane))]

    def on_goodbye(self, goodbye: Goodbye, now: float) -> list[Send]:
        """Remove a worker that leaves.

        If it leaves because the run is over, its tasks are parked: the ventilator will receive the Kill, too.
        """
        self._early_heartbeats.pop(goodbye.name, None)
        if goodbye.is_run_over:
            self.lanes.parked_at = now
        return self._close_lane(goodbye.name, NEVER if goodbye.is_run_over else 0.0)

    def on_peer_unreachable(self, peer: bytes, now: float) -> list[Send]:
        """Shorten the heartbeat timeout of a worker without a connection, until its next heartbeat."""
        is_dead = now <= self._dead_until
        for lane in self.lanes:
            if lane.peer == peer and (is_dead or lane.unreachable_since == NEVER):
                lane.unreachable_since = -NEVER if is_dead else now
        return []

    def on_worker_dead(self, now: float) -> list[Send]:
        """Find out which worker has died: the one without a connection. It is lost at once."""
        self._dead_until = now + self.template.heartbeat_interval
        return self.send_registrations()

    def refuse_version(self, peer: bytes, version: str) -> list[Send]:
        """Reject a peer with another protocol version; messages from other sockets have no peer to answer."""
        return self.refuse(peer, "a worker", version_mismatch_text(version)) if peer else []

    def refuse(self, peer: bytes, name: str, reason: str) -> list[Send]:
        """Reject a worker; notify the user once. The worker shows the hint."""
        is_new = (name, reason) not in self._rejected
        self._rejected.add((name, reason))
        return [
            Send(PeerAddress(peer), replace(self.template, state="refused", reason=reason)),
            *([Send(Port.USER, PeerRejected(name, reason.partition(HINT_MARK)[0]))] if is_new else []),
        ]

    def _answer(self, peer: bytes, heartbeat: Heartbeat, is_ack_current: bool, now: float) -> list[Send]:  # noqa: FBT001
        lane = self.lanes.get(heartbeat.worker)
        if lane is None and self.template.state == "over":
            return [Send(PeerAddress(peer), self.template)]
        if self._digest and heartbeat.digest != self._digest:
            reason = f"worker runs {heartbeat.command!r} but this run uses {self._command!r}"
            hint = f"{HINT_MARK}use the command of this run, or discard the run with --restart"
            return self.refuse(peer, heartbeat.worker, reason + hint)
        self.set_command(heartbeat.digest, heartbeat.command)
        if lane is None:
            return self._open_lane(peer, heartbeat, now)
        lane.on_heartbeat(heartbeat, peer, now)
        if heartbeat.run == self.template.run and is_ack_current:
            self.lanes.reconcile(lane, heartbeat)
        is_registered = heartbeat.run == self.template.run and heartbeat.lane == lane.number
        return [] if is_registered else self._send_registration(lane)

    def _open_lane(self, peer: bytes, heartbeat: Heartbeat, now: float) -> list[Send]:
        is_same_run = heartbeat.run == self.template.run
        # Lane numbers of a run only grow, also after a restart of the ventilator: workers ignore lower ones.
        self._last_lane_number = max(self._last_lane_number + 1, heartbeat.lane + 1 if is_same_run else 0)
        lane = WorkerLane(self._last_lane_number, heartbeat, peer, now)
        self.lanes.add(lane)
        lane.on_heartbeat(heartbeat, peer, now)
        if is_same_run:
            self.lanes.reconcile(lane, heartbeat)
        return [Send(Port.LANES, OpenLane(lane.number))]

    def _close_lane(self, worker: str, due: float = 0.0) -> list[Send]:
        lane = self.lanes.get(worker)
        if lane is None:
            return []
        self.lanes.close(lane, due)
        return [Send(Port.LANES, CloseLane(lane.number))]

    def _send_registration(self, lane: WorkerLane) -> list[Send]:
        if not lane.endpoint:
            return []
        return [Send(PeerAddress(lane.peer), replace(self.template, lane=lane.number, lane_endpoint=lane.endpoint))]
