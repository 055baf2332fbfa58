"""Adapters of the ports that are ZeroMQ sockets.

- Each channel owns its sockets alone and never blocks. A message that a socket refuses stays in the channel, or is
  dropped if it is repeated anyway.
- Only valid messages are handed over. Invalid frames are dropped, counted and reported once.
- Channels that bind (registry, lanes, results, control) remove their ipc files when they close.
- Channels that connect get a new socket by Reconnect: libzmq never retries after a protocol error, and half-open
  connections look alive.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

import zmq

from pipeline.model.errors import DecodeError, PipelineError, VersionMismatchError
from pipeline.model.events import (
    CloseLane,
    LaneOpened,
    OpenLane,
    PeerRejected,
    PeerUnreachable,
    ReceivedFrom,
    Reconnect,
    SendContent,
    VersionMismatch,
)
from pipeline.model.messages import Ack, Goodbye, Heartbeat, Kill, RunStatus
from pipeline.model.state_machine import NEVER, Address, LaneAddress, Message, PeerAddress
from pipeline.transport import sockets
from pipeline.transport.codec import TOPIC, decode, encode, iter_pieces
from pipeline.transport.sockets import ZmqContext

MAX_MESSAGES_PER_POLL = 256
"""Messages read from one socket in one turn of the loop, so that no socket starves the others."""


class MessageReader:
    """Decodes received frames. Invalid frames are dropped and counted, and reported once."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.invalid_count = self.version_mismatch_count = 0

    def read(self, frames: list[bytes], peer: bytes = b"") -> Message | None:
        """Return the message, or a notice about the invalid frames; None if that was reported before."""
        try:
            return decode(frames)
        except VersionMismatchError as error:
            self.version_mismatch_count += 1
            # each peer of the registry gets an answer; others are reported once
            return VersionMismatch(peer, error.version) if peer or self.version_mismatch_count == 1 else None
        except DecodeError as error:
            self.invalid_count += 1
            if self.invalid_count > 1:
                return None
            return PeerRejected("an unknown peer", f"invalid message at {self._label}: {error}")

    def read_all(self, socket: zmq.Socket[bytes]) -> list[Message]:
        """Return the messages that have arrived at the socket."""
        return [message for frames in drain(socket) if (message := self.read(frames)) is not None]


def drain(socket: zmq.Socket[bytes]) -> Iterator[list[bytes]]:
    """Yield what has arrived, up to MAX_MESSAGES_PER_POLL."""
    for _ in range(MAX_MESSAGES_PER_POLL):
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return


class BoundChannel:
    """A bound socket."""

    deadline = NEVER
    _socket: zmq.Socket[bytes]

    def pollables(self) -> list[object]:
        return [self._socket]

    def close(self) -> None:
        sockets.unbind(self._socket)


class RegistryChannel(BoundChannel):
    """ROUTER: receives Heartbeat and Goodbye, sends Registration. libzmq's routing ids identify the peers."""

    def __init__(self, context: ZmqContext, endpoint: str) -> None:
        self._socket = context.bind(zmq.ROUTER, endpoint)
        self._reader = MessageReader("the registry")
        self._unreachable_peers: list[Message] = []

    def send(self, to: Address, message: Message) -> None:
        """Send to one peer; report PeerUnreachable if it is not connected any more."""
        assert isinstance(to, PeerAddress)
        try:
            self._socket.send_multipart([to.peer, *encode(message)], zmq.NOBLOCK)  # type: ignore[arg-type]
        except zmq.ZMQError:
            self._unreachable_peers.append(PeerUnreachable(to.peer))

    def receive(self) -> list[Message]:
        messages, self._unreachable_peers = self._unreachable_peers, []
        for peer, *frames in drain(self._socket):
            message = self._reader.read(frames, peer)
            if isinstance(message, Heartbeat | Goodbye):
                messages.append(ReceivedFrom(peer, message))
            elif isinstance(message, VersionMismatch | PeerRejected):
                messages.append(message)
        return messages


class LaneChannels:
    """One PUSH socket per worker. Chunks that a lane refuses before its worker has connected wait here."""

    deadline = NEVER

    def __init__(self, context: ZmqContext, endpoint_prefix: str, ports: range | None = None) -> None:
        """`endpoint_prefix` is ipc://FOLDER, or tcp://HOST; for tcp, `ports` are used in turn."""
        self._context, self._endpoint_prefix, self._ports = context, endpoint_prefix, ports
        self._lanes: dict[int, zmq.Socket[bytes]] = {}
        self._unsent: dict[int, deque[list[bytes]]] = {}
        self._opened_lanes: list[Message] = []
        self._port_index = os.getpid() % len(ports) if ports else 0

    def send(self, to: Address, message: Message) -> None:
        """Open a lane, close a lane, or send a chunk on a lane."""
        match to, message:
            case _, OpenLane(lane):
                self._lanes[lane], endpoint = self._bind(lane)
                self._opened_lanes.append(LaneOpened(lane, endpoint))
            case _, CloseLane(lane):
                self._unsent.pop(lane, None)
                sockets.unbind(self._lanes.pop(lane, None), linger=0)
            case LaneAddress(number), _ if number in self._lanes:
                self._unsent.setdefault(number, deque()).append(encode(message))  # type: ignore[arg-type]
                self._flush(number)
            case _:
                pass

    def _bind(self, lane: int) -> tuple[zmq.Socket[bytes], str]:
        if self._ports is None:
            endpoint = f"{self._endpoint_prefix}/lane.{os.getpid()}.{lane}"
            return self._context.bind(zmq.PUSH, endpoint), endpoint
        for _ in self._ports:  # the longest unused port first: a worker may still be retrying an old one
            self._port_index = (self._port_index + 1) % len(self._ports)
            endpoint = f"{self._endpoint_prefix}:{self._ports[self._port_index]}"
            try:
                return self._context.bind(zmq.PUSH, endpoint), endpoint
            except PipelineError:
                continue
        raise PipelineError(
            f"no free port for a lane in {self._ports.start}-{self._ports.stop - 1}",
            "choose another range with --lane-ports",
        )

    def _flush(self, number: int) -> None:
        unsent = self._unsent[number]
        while unsent:
            try:
                self._lanes[number].send_multipart(unsent[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            unsent.popleft()
        del self._unsent[number]

    def pollables(self) -> list[object]:
        """Return the lanes that wait for their worker."""
        return [(self._lanes[number], zmq.POLLOUT) for number in self._unsent]

    def receive(self) -> list[Message]:
        """Return the lanes that were opened."""
        for number in list(self._unsent):
            self._flush(number)
        opened, self._opened_lanes = self._opened_lanes, []
        return opened

    def close(self) -> None:
        """Drop everything: chunks are not needed after the end of the run."""
        for socket in self._lanes.values():
            sockets.unbind(socket, linger=0)
        self._lanes.clear()


class ResultsChannel(BoundChannel):
    """PULL: receives everything that is sent to the sink."""

    def __init__(self, context: ZmqContext, endpoint: str) -> None:
        self._socket = context.bind(zmq.PULL, endpoint)
        self._reader = MessageReader("the sink")

    def send(self, _to: Address, message: Message) -> None:
        """Ignore the message: this socket only receives."""

    def receive(self) -> list[Message]:
        return self._reader.read_all(self._socket)


class ControlPublisher(BoundChannel):
    """XPUB: the sink's broadcast. A new subscriber receives the latest Ack or Kill as its welcome message.

    libzmq sends welcome messages only while subscriptions are being read, so the socket is polled.
    """

    def __init__(self, context: ZmqContext, endpoint: str) -> None:
        self._socket = context.bind(zmq.XPUB, endpoint, hwm=sockets.SMALL_HWM)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._last_frames: list[bytes] = []

    def send(self, _to: Address, message: Message) -> None:
        """Broadcast a message."""
        frames = encode(message)  # type: ignore[arg-type]
        # set the welcome message before sending, so that no subscriber misses both
        if isinstance(message, Ack | Kill):
            self._socket.setsockopt(zmq.XPUB_WELCOME_MSG, frames[0])
            self._last_frames = frames
        self._socket.send_multipart(frames, zmq.NOBLOCK)

    def receive(self) -> list[Message]:
        """Read subscriptions, and repeat the latest message for them."""
        # libzmq sent the welcome message before this read, so repeat what was broadcast in between
        topics = {frames[0][1:] for frames in drain(self._socket) if frames[0][:1] == b"\1"}
        if self._last_frames and self._last_frames[0].startswith(tuple(topics)):
            self._socket.send_multipart(self._last_frames, zmq.NOBLOCK)
        return []


class ReceiveChannel:
    """A connecting socket that only receives: a worker's lane (PULL), or control (SUB)."""

    deadline = NEVER

    def __init__(
        self,
        context: ZmqContext,
        socket_type: int,
        label: str,
        endpoint: str = "",
        *,
        hwm: int = 0,
        topics: tuple[bytes, ...] = (),
    ) -> None:
        self._context, self._socket_type, self._hwm, self._topics = context, socket_type, hwm, topics
        self._reader = MessageReader(label)
        self._endpoint = ""
        self._socket: zmq.Socket[bytes] | None = None
        self._connect(endpoint)

    def _connect(self, endpoint: str) -> None:
        sockets.close(self._socket, linger=0)
        self._endpoint = endpoint or self._endpoint
        if self._endpoint:
            self._socket = self._context.connect(self._socket_type, self._endpoint, hwm=self._hwm, topics=self._topics)

    def send(self, _to: Address, message: Message) -> None:
        """Handle Reconnect."""
        if isinstance(message, Reconnect) and (message.endpoint != self._endpoint or not message.endpoint):
            self._connect(message.endpoint)

    def pollables(self) -> list[object]:
        return [self._socket] if self._socket else []

    def receive(self) -> list[Message]:
        return self._reader.read_all(self._socket) if self._socket else []

    def close(self) -> None:
        sockets.close(self._socket, linger=0)
        self._socket = None


class SendChannel(ReceiveChannel):
    """A connecting socket that sends: results (PUSH), or a worker's registry (DEALER, which also receives).

    Without a connection, messages wait here in their order, except that only the newest Heartbeat is kept.
    """

    def __init__(self, context: ZmqContext, socket_type: int, label: str, endpoint: str = "", *, hwm: int = 0) -> None:
        super().__init__(context, socket_type, label, endpoint, hwm=hwm)
        self._unsent: deque[tuple[bool, list[bytes]]] = deque()

    def send(self, _to: Address, message: Message) -> None:
        """Send a message, or handle Reconnect."""
        if isinstance(message, Reconnect):
            self._connect(message.endpoint)
            return
        is_heartbeat = isinstance(message, Heartbeat)
        if is_heartbeat and self._unsent:
            self._unsent = deque(item for item in self._unsent if not item[0])
        for each in iter_pieces(message) if isinstance(message, SendContent) else (message,):
            self._unsent.append((is_heartbeat, encode(each)))  # type: ignore[arg-type]
        self._flush()

    def _flush(self) -> None:
        while self._unsent and self._socket:
            try:
                self._socket.send_multipart(self._unsent[0][1], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._unsent.popleft()

    def pollables(self) -> list[object]:
        return [(self._socket, zmq.POLLIN | zmq.POLLOUT)] if self._socket and self._unsent else super().pollables()

    def receive(self) -> list[Message]:
        self._flush()
        return super().receive() if self._socket_type != zmq.PUSH else []

    def close(self) -> None:
        sockets.close(self._socket)
        self._socket = None


def connect_registry(context: ZmqContext, endpoint: str) -> SendChannel:
    """Connect a worker with the ventilator's registry."""
    return SendChannel(context, zmq.DEALER, "the worker", endpoint, hwm=sockets.SMALL_HWM)


def connect_lane(context: ZmqContext) -> ReceiveChannel:
    """Create a worker's lane, which a Reconnect connects once a Registration has named its endpoint."""
    return ReceiveChannel(context, zmq.PULL, "the lane")


def connect_results(context: ZmqContext, endpoint: str = "") -> SendChannel:
    """Connect a station with the sink."""
    return SendChannel(context, zmq.PUSH, "the connection to the sink", endpoint)


def connect_control(context: ZmqContext, endpoint: str, *, with_status: bool = False) -> ReceiveChannel:
    """Subscribe to the sink's broadcast; with `with_status`, to RunStatus too."""
    topics = (TOPIC[Ack], TOPIC[Kill], *((TOPIC[RunStatus],) if with_status else ()))
    return ReceiveChannel(context, zmq.SUB, "control", endpoint, hwm=sockets.SMALL_HWM, topics=topics)
