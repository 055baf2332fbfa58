"""A worker's four connections: who is silent, what the person is told, and what is made anew.

libzmq retries a lost connection, but never after a protocol error, and a half-open one looks alive to it. So what has
carried nothing for too long is replaced: repair is a new socket.
"""

from __future__ import annotations

from pipeline.words.errands import Connect
from pipeline.words.messages import Welcome
from pipeline.words.station import NEVER, Port, Send
from pipeline.words.watch import Watch
from pipeline.worker.unanswered import Unanswered


class Ties:
    """Desk, results and control, as their silence shows them. The lane is the ventilator's to replace."""

    def __init__(self, now: float, patience: float) -> None:
        self.desk = Watch("ventilator", now, patience)
        self.sink = Watch("sink", now, patience)
        self._results_repaired = now

    def deadline(self, *, joined: bool) -> float:
        """When somebody's silence becomes worth a word."""
        return min(self.desk.deadline, self.sink.deadline if joined else NEVER)

    def tick(self, now: float, *, joined: bool) -> list[Send]:
        """Tell the person who is missing."""
        return [*self.desk.tick(now), *(self.sink.tick(now) if joined else [])]

    def lost(self, now: float) -> str:
        """Who has not answered for longer than patience lasts; empty if nobody."""
        if self.desk.lost(now):
            return "the ventilator did not answer any more"
        return "the sink did not answer any more" if self.sink.lost(now) else ""

    def join(self, welcome: Welcome, now: float) -> list[Send]:
        """Where the sink is; its silence counts from now."""
        self.desk.beat = self.sink.beat = welcome.interval
        self.sink.expect(now)
        return [Send(Port.RESULTS, Connect(welcome.sink_at)), Send(Port.CONTROL, Connect(welcome.control_at))]

    def repairs(self, now: float, interval: float, liveness: float, unanswered: Unanswered | None) -> list[Send]:
        """The connections to make anew now; `unanswered` is None before a run was joined."""
        sends = []
        if self.desk.repair_due(now, 3 * interval):
            sends.append(Send(Port.DESK, Connect()))
        if unanswered is None:
            return sends
        if self.sink.repair_due(now, 5 * interval):
            sends.append(Send(Port.CONTROL, Connect()))
        oldest = unanswered.oldest()
        waits = oldest is not None and now - oldest > liveness and now - self._results_repaired > liveness
        if waits and not self.sink.silent(now, 5 * interval):
            self._results_repaired = now
            sends.append(Send(Port.RESULTS, Connect()))
        return sends
