"""A station, its inbox and its turns: what the loop is to a real one.

A process receives all that has arrived, then wakes at its deadline, and hands what it says to `route`. Frozen, it does
nothing until it thaws; killed, it is replaced by another life, and whatever still comes for it is lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from pipeline.model.state_machine import Message, Send
from pipeline.sink.sink import Sink
from pipeline.ventilator.ventilator import Ventilator
from pipeline.worker.worker import Worker
from tests.simulation.clock import MIN_DELAY_SECONDS, Clock
from tests.simulation.event_log import EventLog, Violation


@dataclass(eq=False)
class SimulatedProcess:
    """One life of a station."""

    name: str
    station: Ventilator | Worker | Sink
    clock: Clock
    log: EventLog
    route: Callable[[SimulatedProcess, Send], None]
    inbox: deque[Message] = field(default_factory=deque)
    frozen_until: float = 0.0
    is_alive: bool = True
    alarm_at: float = -1.0
    ended_at: float = 0.0
    """When it was done."""

    @property
    def is_running(self) -> bool:
        return self.is_alive and not self.station.done

    @property
    def is_leaving(self) -> bool:
        """Whether it is a worker that was asked to go."""
        return isinstance(self.station, Worker) and self.station.shutdown.has_begun

    def start(self) -> None:
        """Its first turn comes at once."""
        self.clock.call_at(self.clock.now, self.run)

    def deliver_soon(self, message: Message) -> None:
        """The message comes from beside it, not over a wire."""
        self.clock.call_soon(partial(self.deliver, message))

    def deliver(self, message: Message) -> None:
        if self.is_running:
            self.inbox.append(message)
            self.run()

    def run(self) -> None:
        """One turn of the loop; then what was said goes its ways, and an alarm is set."""
        station, now = self.station, self.clock.now
        if not self.is_running or now < self.frozen_until:
            return
        for send in self._run_turn():
            self.log.record(now, self.name, send)
            self.route(self, send)
        if station.done:
            self.ended_at = now
            self.log.record(now, self.name, f"ends with {station.exit_code} {station.stop_reason}")
            return
        at = max(station.deadline, now + MIN_DELAY_SECONDS)
        if not now < self.alarm_at <= at:
            self.alarm_at = at
            self.clock.call_at(at, partial(self._on_alarm, at))

    def _run_turn(self) -> list[Send]:
        """All that has arrived, then the deadline."""
        station, now = self.station, self.clock.now
        sends: list[Send] = []
        while self.inbox and not station.done:
            sends += station.receive(self.inbox.popleft(), now)
        while not station.done and station.deadline <= now:
            sends += station.tick(now)
            if station.deadline <= now and not station.done:
                raise Violation(f"{self.name} asks to be woken at {station.deadline} at {now}, again")
        return sends

    def _on_alarm(self, at: float) -> None:
        if self.alarm_at == at:
            self.alarm_at = -1.0
            self.run()

    def freeze(self, seconds: float) -> None:
        """No turn until then; what comes meanwhile is kept."""
        self.frozen_until = self.clock.now + seconds
        self.clock.call_at(self.frozen_until, self.run)

    def thaw(self) -> None:
        """A turn now, frozen or not."""
        self.frozen_until = min(self.frozen_until, self.clock.now)
        self.run()
