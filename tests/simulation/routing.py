"""Routing between the simulated stations.

A table of ports; each entry does what the real adapter of that port does, with links instead of sockets. It knows the
current ventilator and sink, but not what they decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.model.events import CloseLane, LaneOpened, OpenLane, PeerUnreachable, ReceivedFrom, Reconnect
from pipeline.model.messages import Ack, Chunk, Goodbye, Heartbeat, Kill, Registration
from pipeline.model.state_machine import LaneAddress, Message, PeerAddress, Port, Send
from tests.simulation.clock import Clock
from tests.simulation.disk import SimulatedDisk, SimulatedInput
from tests.simulation.event_log import EventLog
from tests.simulation.executor import SimulatedExecutor
from tests.simulation.invariants import CreditCheck, Invariants
from tests.simulation.links import LinkTable
from tests.simulation.process import SimulatedProcess

PortHandler = Callable[[SimulatedProcess, Any], None]


class Router:
    """Routes all messages of one run."""

    ventilator: SimulatedProcess
    sink: SimulatedProcess

    def __init__(self, clock: Clock, log: EventLog) -> None:
        self.clock, self.log, self.links = clock, log, LinkTable(clock, log)
        self.disk = SimulatedDisk(clock, log)
        self.input = SimulatedInput(clock, self.disk)
        self.executors: dict[str, SimulatedExecutor] = {}
        self.credit_check, self.invariants = CreditCheck(), Invariants(clock.plan, self.disk, log)
        self.last_broadcast: Message | None = None
        """The message that a new subscriber of the sink receives first."""
        self._peers: dict[bytes, str] = {}
        self._handlers: dict[Port, PortHandler] = {
            Port.REGISTRY: self._send_to_registry,
            Port.LANES: self._handle_lane,
            Port.RESULTS: self._send_to_sink,
            Port.CONTROL: self._broadcast,
            Port.SOURCE: self.input.send,
            Port.EXECUTOR: lambda process, message: self.executors[process.name].send(message),
            Port.USER: lambda _, notice: self.log.on_notice(notice),
            **dict.fromkeys((Port.OUTPUT, Port.SPILL, Port.JOURNAL), self.disk.send),
        }

    def route(self, process: SimulatedProcess, send: Send) -> None:
        match send.to:
            case PeerAddress(peer):
                self._send_to_peer(process, peer, send.message)
            case LaneAddress(number):
                self._send_to_lane(process, number, send.message)
            case port:
                self._handlers[port](process, send.message)

    def connect_registry(self, process: SimulatedProcess) -> None:
        """Connect to the registry, as a new peer."""
        peer = b"%d" % self.clock.next_number()
        self._forget_peer(process)
        self._peers[peer] = process.name

        def deliver(message: Message) -> None:
            assert isinstance(message, Heartbeat | Goodbye)
            self.ventilator.deliver(ReceivedFrom(peer, message))

        self.links.replace(process.name, "registry", deliver)
        self.links.replace(process.name, "registry back", process.deliver)

    def subscribe(self, process: SimulatedProcess) -> None:
        """Connect to the sink's broadcast."""
        link = self.links.get_or_create(process.name, "control", process.deliver)
        link.connect()
        if self.last_broadcast and self.sink.is_running:
            link.send(self.last_broadcast)

    def remove(self, process: SimulatedProcess) -> None:
        """Remove a dead process and its connections; messages in flight are lost."""
        process.is_alive = False
        self.links.remove(process.name)
        self._forget_peer(process)

    def _forget_peer(self, process: SimulatedProcess) -> None:
        for peer in [peer for peer, name in self._peers.items() if name == process.name]:
            del self._peers[peer]

    def _send_to_peer(self, process: SimulatedProcess, peer: bytes, message: Message) -> None:
        name = self._peers.get(peer)
        if isinstance(message, Registration) and message.lane:
            self.credit_check.on_registration(process.name, message.lane, name or "")
        if name is None:
            process.deliver_soon(PeerUnreachable(peer))
        else:
            self.links.get(name, "registry back").send(message)

    def _send_to_lane(self, process: SimulatedProcess, number: int, message: Message) -> None:
        assert isinstance(message, Chunk)
        self.credit_check.check_chunk(process.name, message)
        if lane := self.links.lane(f"{process.name}/{number}"):
            lane.send(message)

    def _send_to_registry(self, process: SimulatedProcess, message: Reconnect | Heartbeat | Goodbye) -> None:
        if isinstance(message, Reconnect):
            self.connect_registry(process)
            return
        if isinstance(message, Heartbeat):
            self.credit_check.on_heartbeat(process.name, message)
        self.links.get(process.name, "registry").send(message)

    def _handle_lane(self, process: SimulatedProcess, message: OpenLane | CloseLane | Reconnect) -> None:
        match message:
            case OpenLane(number):
                endpoint = f"{process.name}/{number}"
                self.links.bind(endpoint)
                process.deliver_soon(LaneOpened(number, endpoint))
            case CloseLane(number):
                self.links.close_lanes(f"{process.name}/{number}")
            case Reconnect(endpoint):
                self.links.connect_lane(endpoint, process.deliver)

    def _send_to_sink(self, process: SimulatedProcess, message: Message) -> None:
        def deliver(message: Message) -> None:
            self.sink.deliver(message)  # the current one at that time

        link = self.links.get_or_create(process.name, "results", deliver)
        if isinstance(message, Reconnect):
            link.connect()
        else:
            link.send(message)

    def _broadcast(self, process: SimulatedProcess, message: Reconnect | Message) -> None:
        if isinstance(message, Reconnect):
            self.subscribe(process)
            return
        if isinstance(message, Ack | Kill):
            self.last_broadcast = message
        if isinstance(message, Ack):
            self.invariants.check_ack(message)
        for link in self.links.of_kind("control"):
            if not self.clock.draw_fault("drop", 0.3):
                link.send(message)
