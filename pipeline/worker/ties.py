"""A worker's four connections: who is silent, what the person is told, and what is made anew.

libzmq retries a lost connection, but never after a protocol error, and a half-open one looks alive to it. So what has
carried nothing for too long is replaced: repair is a new socket.
"""

from __future__ import annotations

from pipeline.words.errands import Reconnect
from pipeline.words.messages import Registration
from pipeline.words.station import NEVER, Port, Send
from pipeline.words.watch import PeerMonitor
from pipeline.worker.unanswered import UnackedResults


class Connections:
    """Desk, results and control, as their silence shows them. The lane is the ventilator's to replace."""

    def __init__(self, now: float, peer_timeout: float) -> None:
        self.ventilator_monitor = PeerMonitor("ventilator", now, peer_timeout)
        self.sink_monitor = PeerMonitor("sink", now, peer_timeout)
        self._results_reconnect_time = now

    def deadline(self, *, has_run: bool) -> float:
        """When somebody's silence becomes worth a word."""
        return min(self.ventilator_monitor.deadline, self.sink_monitor.deadline if has_run else NEVER)

    def tick(self, now: float, *, has_run: bool) -> list[Send]:
        """Tell the person who is missing."""
        return [*self.ventilator_monitor.tick(now), *(self.sink_monitor.tick(now) if has_run else [])]

    def timeout_reason(self, now: float) -> str:
        """Who has not answered for longer than patience lasts; empty if nobody."""
        if self.ventilator_monitor.is_lost(now):
            return "the ventilator did not answer any more"
        return "the sink did not answer any more" if self.sink_monitor.is_lost(now) else ""

    def connect_sink(self, registration: Registration, now: float) -> list[Send]:
        """Where the sink is; its silence counts from now."""
        self.ventilator_monitor.interval = self.sink_monitor.interval = registration.heartbeat_interval
        self.sink_monitor.restart(now)
        return [
            Send(Port.RESULTS, Reconnect(registration.results_endpoint)),
            Send(Port.CONTROL, Reconnect(registration.control_endpoint)),
        ]

    def due_reconnects(
        self, now: float, heartbeat_interval: float, heartbeat_timeout: float, unacked_results: UnackedResults | None
    ) -> list[Send]:
        """The connections to make anew now; `unanswered` is None before a run was joined."""
        sends = []
        if self.ventilator_monitor.is_reconnect_due(now, 3 * heartbeat_interval):
            sends.append(Send(Port.REGISTRY, Reconnect()))
        if unacked_results is None:
            return sends
        if self.sink_monitor.is_reconnect_due(now, 5 * heartbeat_interval):
            sends.append(Send(Port.CONTROL, Reconnect()))
        oldest = unacked_results.oldest_sent_time()
        waits = (
            oldest is not None
            and now - oldest > heartbeat_timeout
            and now - self._results_reconnect_time > heartbeat_timeout
        )
        if waits and not self.sink_monitor.is_silent_for(now, 5 * heartbeat_interval):
            self._results_reconnect_time = now
            sends.append(Send(Port.RESULTS, Reconnect()))
        return sends
