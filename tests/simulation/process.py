"""A simulated process: one state machine with an inbox, in place of the event loop.

A process receives all that has arrived, then wakes at its deadline, and passes what it sends to `route`. While frozen
it does nothing; after its death its messages are lost.
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
    """One process of a station."""

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
    """When it ended."""

    @property
    def is_running(self) -> bool:
        return self.is_alive and not self.station.done

    @property
    def is_leaving(self) -> bool:
        """Whether it is a worker that shuts down."""
        return isinstance(self.station, Worker) and self.station.shutdown.has_begun

    @property
    def is_killing(self) -> bool:
        """Whether it is a worker that kills what runs."""
        return isinstance(self.station, Worker) and self.station.shutdown.kills_tasks

    def start(self) -> None:
        """Schedule the first turn at once."""
        self.clock.call_at(self.clock.now, self.run)

    def deliver_soon(self, message: Message) -> None:
        """Deliver a message that does not come over a connection."""
        self.clock.call_soon(partial(self.deliver, message))

    def deliver(self, message: Message) -> None:
        if self.is_running:
            self.inbox.append(message)
            self.run()

    def run(self) -> None:
        """Run one turn of the loop, route what it sends, and set the next alarm."""
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
        alarm_at = max(station.deadline, now + MIN_DELAY_SECONDS)
        if not now < self.alarm_at <= alarm_at:
            self.alarm_at = alarm_at
            self.clock.call_at(alarm_at, partial(self._on_alarm, alarm_at))

    def _run_turn(self) -> list[Send]:
        """Receive all that has arrived, then tick."""
        station, now = self.station, self.clock.now
        sends: list[Send] = []
        while self.inbox and not station.done:
            sends += station.receive(self.inbox.popleft(), now)
        while not station.done and station.deadline <= now:
            sends += station.tick(now)
            if station.deadline <= now and not station.done:
                raise Violation(f"{self.name} wants to wake at {station.deadline} at {now}, again")
        return sends

    def _on_alarm(self, at: float) -> None:
        if self.alarm_at == at:
            self.alarm_at = -1.0
            self.run()

    def freeze(self, seconds: float) -> None:
        """Run no turn for this long; messages are kept."""
        self.frozen_until = self.clock.now + seconds
        self.clock.call_at(self.frozen_until, self.run)

    def thaw(self) -> None:
        """Run a turn now, frozen or not."""
        self.frozen_until = min(self.frozen_until, self.clock.now)
        self.run()
