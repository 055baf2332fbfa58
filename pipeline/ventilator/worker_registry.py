"""Registers, admits and expires workers.

Who may work in a run: those whose command is that of its first worker. Who may not is turned away, by name.

Knows no connections; what is said to whom is the desk's.

The desk where workers check in: who is there, who is refused, who is lost, and what each is told.

A worker gets a lane at its first pulse, and keeps it as long as pulses come. One run has one command: a worker with
another one is refused, by name. Knows nothing of runs but what a Welcome carries.
"""

from __future__ import annotations

from pipeline.model.errors import version_mismatch_text
from pipeline.model.events import CloseLane, LaneOpened, OpenLane, PeerRejected, WorkerLost
from pipeline.model.messages import Goodbye, Heartbeat, Kill, RecordFormat, Registration
from pipeline.model.state_machine import NEVER, PeerAddress, PeerMonitor, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.lane import LaneTable, WorkerLane
from pipeline.ventilator.task_store import TaskStore


class CommandCheck:
    """One run's command, and who was refused so far."""

    def __init__(self) -> None:
        self._digest, self._command = "", ""
        self._refused_workers: set[tuple[str, str]] = set()

    def set_command(self, digest: str, command: str) -> None:
        """What the run's first worker runs, which may have come in a former life of the desk; empty: nobody has."""
        self._digest, self._command = digest or self._digest, command or self._command

    def mismatch(self, heartbeat: Heartbeat) -> str:
        """Why this worker may not work here; empty if it may. The first one may, whatever it runs."""
        if self._digest and heartbeat.digest != self._digest:
            return f"it would run {heartbeat.command!r}, this run is {self._command!r}"
        self.set_command(heartbeat.digest, heartbeat.command)
        return ""

    def refuse(self, name: str, reason: str) -> list[Send]:
        """The person is told, once."""
        news = (name, reason) not in self._refused_workers
        self._refused_workers.add((name, reason))
        return [Send(Port.USER, PeerRejected(name, reason))] if news else []


class WorkerRegistry:
    """The workers of one ventilator. `word` is what a Welcome says but for the lane."""

    def __init__(self, task_store: TaskStore, template: Registration, now: float, peer_timeout: float) -> None:
        self.worker_monitor = PeerMonitor("worker", now, peer_timeout, template.heartbeat_interval)
        self._early_heartbeats: dict[str, tuple[bytes, Heartbeat, float]] = {}
        self.lanes = LaneTable(task_store)
        self.template = template
        self.command_check = CommandCheck()
        self._last_lane_number = 0

    def on_heartbeat(self, peer: bytes, heartbeat: Heartbeat, is_ack_current: bool, now: float) -> list[Send]:  # noqa: FBT001
        """A worker's pulse. `judged`: the own Ack is as new as its, so what it does not hold may be sent again."""
        heard = self.worker_monitor.record_message(now)
        if not self.template.run:
            self._early_heartbeats[heartbeat.worker] = (peer, heartbeat, now)
            return heard
        return heard + self._answer(peer, heartbeat, is_ack_current, now)

    def start_run(self, run: str, recipe: RecordFormat, now: float) -> list[Send]:
        """There is a run: who called before is answered now."""
        self.template = replace(self.template, run=run, record_format=recipe)
        self.worker_monitor.restart(now)
        early, self._early_heartbeats = self._early_heartbeats, {}
        recent = [
            (peer, pulse) for peer, pulse, heard in early.values() if now - heard <= self.template.heartbeat_timeout
        ]
        return [send for peer, pulse in recent for send in self.on_heartbeat(peer, pulse, True, now)]

    def _answer(self, peer: bytes, heartbeat: Heartbeat, is_ack_current: bool, now: float) -> list[Send]:  # noqa: FBT001
        lane = self.lanes.get(heartbeat.worker)
        if lane is None and self.template.state == "over":
            return [Send(PeerAddress(peer), self.template)]
        if objection := self.command_check.mismatch(heartbeat):
            return self.refuse(peer, heartbeat.worker, objection)
        if lane is None:
            return self._open_lane(peer, heartbeat, now)
        lane.on_heartbeat(heartbeat, peer, now)
        if heartbeat.run == self.template.run and is_ack_current:
            self.lanes.reconcile(lane, heartbeat)
        knows = heartbeat.run == self.template.run and heartbeat.lane == lane.number
        return [] if knows else self._send_registration(lane)

    def _open_lane(self, peer: bytes, heartbeat: Heartbeat, now: float) -> list[Send]:
        self._last_lane_number += 1
        number = max(self._last_lane_number, heartbeat.lane + 1 if heartbeat.run == self.template.run else 0)
        self._last_lane_number = number
        lane = WorkerLane(number, heartbeat, peer, now)
        self.lanes.add(lane)
        lane.on_heartbeat(heartbeat, peer, now)
        if heartbeat.run == self.template.run:
            self.lanes.reconcile(lane, heartbeat)
        return [Send(Port.LANES, OpenLane(number))]

    def on_lane_opened(self, lane_opened: LaneOpened) -> list[Send]:
        """A lane is bound: its worker is told where."""
        for lane in self.lanes:
            if lane.number == lane_opened.lane:
                lane.endpoint = lane_opened.endpoint
                return self._send_registration(lane)
        return [Send(Port.LANES, CloseLane(lane_opened.lane))]

    def on_goodbye(self, goodbye: Goodbye, now: float) -> list[Send]:
        """A worker said goodbye: it holds nothing any more. If the run is over, that is about to be heard here, too."""
        self._early_heartbeats.pop(goodbye.name, None)
        if goodbye.is_run_over:
            self.lanes.parked_at = now
        return self._close_lane(goodbye.name, NEVER if goodbye.is_run_over else 0.0)

    def _close_lane(self, worker: str, due: float = 0.0) -> list[Send]:
        lane = self.lanes.get(worker)
        if lane is None:
            return []
        self.lanes.close(lane, due)
        return [Send(Port.LANES, CloseLane(lane.number))]

    def on_peer_unreachable(self, peer: bytes, now: float) -> list[Send]:
        """No connection to this caller: it is lost sooner, unless it calls again."""
        for lane in self.lanes:
            if lane.peer == peer and lane.unreachable_since == NEVER:
                lane.unreachable_since = now
        return []

    def expire_silent(self, now: float) -> list[Send]:
        """Say who is missing, lose who was silent too long, and make lanes anew that swallow what they are given."""
        sends = self.worker_monitor.tick(now) if self.template.run else []
        for lane in self.lanes:
            if lane.is_silent(now, self.template.heartbeat_timeout):
                lost = WorkerLost(lane.worker, sum(span.count for span in lane.assigned_ranges.values()))
                self.lanes.suspect(lane)
                sends += [*self._close_lane(lane.worker), Send(Port.USER, lost)]
            elif lane.is_stalled(now):
                self._last_lane_number += 1
                sends += [Send(Port.LANES, CloseLane(lane.number)), Send(Port.LANES, OpenLane(self._last_lane_number))]
                lane.rebind(self._last_lane_number)
        return sends

    def end_run(self, kill: Kill) -> list[Send]:
        """The run has ended: everybody is told, now and at each pulse."""
        self.template = replace(self.template, state="over", reason=kill.reason)
        return self.send_registrations()

    def send_registrations(self) -> list[Send]:
        """Say to everybody what is."""
        return [send for lane in self.lanes for send in self._send_registration(lane)]

    def refuse(self, peer: bytes, name: str, reason: str) -> list[Send]:
        """Turn somebody away, by name; the person is told once."""
        word = replace(self.template, state="refused", reason=reason)
        answer = [Send(PeerAddress(peer), word)] if peer else []
        return [*answer, *self.command_check.refuse(name, reason)]

    def refuse_version(self, peer: bytes, version: str) -> list[Send]:
        """Turn a caller of another version away; elsewhere than at the desk there is nobody to answer."""
        return self.refuse(peer, "a worker", version_mismatch_text(version)) if peer else []

    def _send_registration(self, lane: WorkerLane) -> list[Send]:
        if not lane.endpoint:
            return []
        return [Send(PeerAddress(lane.peer), replace(self.template, lane=lane.number, lane_endpoint=lane.endpoint))]
