"""Channel adapters that bind or connect.

The edges that bind: the ventilator's desk and lanes, the sink's results and control.

Each owns its sockets alone, never blocks, and hands over only words that the codec accepts; all else is dropped,
counted and told once. Their ipc files are removed when they close.

The edges that connect: a worker's desk, lane, results and control; the ventilator's results and control.

A Connect gives any of them a new socket: libzmq never retries after a protocol error, and half-open connections look
alive. Nothing here blocks; what a socket refuses waits here, or is dropped if it is repeated anyway.
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
    VersionMismatch,
)
from pipeline.model.messages import Ack, Goodbye, Heartbeat, Kill, RunStatus
from pipeline.model.state_machine import NEVER, Address, LaneAddress, Message, PeerAddress
from pipeline.transport import sockets
from pipeline.transport.codec import TOPIC, decode, encode
from pipeline.transport.sockets import ZmqContext

MAX_MESSAGES_PER_POLL = 256
"""Words taken from one socket in one turn of the loop, so that none starves the others."""


class MessageReader:
    """Reads frames as words. A stranger's are dropped and counted, and told of once."""

    def __init__(self, label: str) -> None:
        self._label = label
        self.invalid_count = self.version_mismatch_count = 0

    def read(self, frames: list[bytes], peer: bytes = b"") -> Message | None:
        """The word, or what is to be said of a stranger; None if that was said before."""
        try:
            return decode(frames)
        except VersionMismatchError as error:
            self.version_mismatch_count += 1
            return (
                VersionMismatch(peer, error.version) if peer or self.version_mismatch_count == 1 else None
            )  # a caller gets an answer
        except DecodeError as error:
            self.invalid_count += 1
            return (
                PeerRejected("a stranger", f"{self._label} got something that is not ours: {error}")
                if self.invalid_count == 1
                else None
            )


def drain(socket: zmq.Socket[bytes]) -> Iterator[list[bytes]]:
    """What has arrived, at most a turn's worth."""
    for _ in range(MAX_MESSAGES_PER_POLL):
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return


class RegistryChannel:
    """ROUTER: pulses in, welcomes out. Callers are known by the numbers that libzmq gave them."""

    deadline = NEVER

    def __init__(self, context: ZmqContext, endpoint: str) -> None:
        self._socket = context.bind(zmq.ROUTER, endpoint)
        self._reader = MessageReader("the desk")
        self._unreachable_peers: list[Message] = []

    def send(self, to: Address, message: Message) -> None:
        """To one caller; who is not there any more is reported as Unreachable."""
        assert isinstance(to, PeerAddress)
        try:
            self._socket.send_multipart([to.peer, *encode(message)], zmq.NOBLOCK)  # type: ignore[arg-type]
        except zmq.ZMQError:
            self._unreachable_peers.append(PeerUnreachable(to.peer))

    def pollables(self) -> list[object]:
        """The socket."""
        return [self._socket]

    def receive(self) -> list[Message]:
        """Pulses and goodbyes, with their callers."""
        words, self._unreachable_peers = self._unreachable_peers, []
        for peer, *frames in drain(self._socket):
            word = self._reader.read(frames, peer)
            if isinstance(word, Heartbeat | Goodbye):
                words.append(ReceivedFrom(peer, word))
            elif isinstance(word, VersionMismatch | PeerRejected):
                words.append(word)
        return words

    def close(self) -> None:
        """Send what is left."""
        sockets.unbind(self._socket)


class LaneChannels:
    """A PUSH for each worker. What a lane refuses before its worker has connected stays here."""

    deadline = NEVER

    def __init__(self, context: ZmqContext, endpoint_prefix: str, ports: range | None = None) -> None:
        """`stem` is ipc://FOLDER for ipc; for tcp it is tcp://HOST and `ports` are used in turn."""
        self._context, self._endpoint_prefix, self._ports = context, endpoint_prefix, ports
        self._lanes: dict[int, zmq.Socket[bytes]] = {}
        self._unsent: dict[int, deque[list[bytes]]] = {}
        self._opened_lanes: list[Message] = []
        self._port_index = os.getpid() % len(ports) if ports else 0

    def send(self, to: Address, message: Message) -> None:
        """Open and Shut lanes; a chunk for one lane."""
        match to, message:
            case _, OpenLane(lane):
                self._lanes[lane], at = self._bind(lane)
                self._opened_lanes.append(LaneOpened(lane, at))
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
            at = f"{self._endpoint_prefix}/lane.{os.getpid()}.{lane}"
            return self._context.bind(zmq.PUSH, at), at
        for _ in self._ports:  # the longest unused first: a worker may still be retrying an old one
            self._port_index = (self._port_index + 1) % len(self._ports)
            at = f"{self._endpoint_prefix}:{self._ports[self._port_index]}"
            try:
                return self._context.bind(zmq.PUSH, at), at
            except PipelineError:
                continue
        raise PipelineError(
            f"no free port for a lane in {self._ports.start}-{self._ports.stop - 1}; give other --lane-ports"
        )

    def _flush(self, number: int) -> None:
        waiting = self._unsent[number]
        while waiting:
            try:
                self._lanes[number].send_multipart(waiting[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            waiting.popleft()
        del self._unsent[number]

    def pollables(self) -> list[object]:
        """The lanes that wait for their worker."""
        return [(self._lanes[number], zmq.POLLOUT) for number in self._unsent]

    def receive(self) -> list[Message]:
        """Lanes that were opened."""
        for number in list(self._unsent):
            self._flush(number)
        opened, self._opened_lanes = self._opened_lanes, []
        return opened

    def close(self) -> None:
        """Drop everything: at the end nobody needs chunks."""
        for socket in self._lanes.values():
            sockets.unbind(socket, linger=0)
        self._lanes.clear()


class ResultsChannel:
    """PULL: everything that is said to the sink."""

    deadline = NEVER

    def __init__(self, context: ZmqContext, endpoint: str) -> None:
        self._socket = context.bind(zmq.PULL, endpoint)
        self._reader = MessageReader("the sink")

    def send(self, _to: Address, message: Message) -> None:
        """Nothing is sent here."""

    def pollables(self) -> list[object]:
        """The socket."""
        return [self._socket]

    def receive(self) -> list[Message]:
        """Whatever our words are."""
        return [word for frames in drain(self._socket) if (word := self._reader.read(frames)) is not None]

    def close(self) -> None:
        """Nothing is left to say."""
        sockets.unbind(self._socket)


class ControlPublisher:
    """XPUB: the sink's broadcast. A latecomer is told the last Ack or Kill as its welcome message."""

    deadline = NEVER

    def __init__(self, context: ZmqContext, endpoint: str) -> None:
        self._socket = context.bind(zmq.XPUB, endpoint, hwm=sockets.SMALL_HWM)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._last_frames: list[bytes] = []

    def send(self, _to: Address, message: Message) -> None:
        """To all who listen. First it is the welcome message, then sent: between the two nobody can miss it."""
        frames = encode(message)  # type: ignore[arg-type]
        if isinstance(message, Ack | Kill):
            self._socket.setsockopt(zmq.XPUB_WELCOME_MSG, frames[0])
            self._last_frames = frames
        self._socket.send_multipart(frames, zmq.NOBLOCK)

    def pollables(self) -> list[object]:
        """The socket: libzmq hands out welcome messages only while subscriptions are taken in."""
        return [self._socket]

    def receive(self) -> list[Message]:
        """Subscriptions. The welcome leaves before they come, so what was said in between is said again."""
        topics = {frames[0][1:] for frames in drain(self._socket) if frames[0][:1] == b"\1"}
        if self._last_frames and self._last_frames[0].startswith(tuple(topics)):
            self._socket.send_multipart(self._last_frames, zmq.NOBLOCK)
        return []

    def close(self) -> None:
        """The last word has a second to get out."""
        sockets.unbind(self._socket)


class Connection:
    """One connection and where it leads; no behaviour but making it anew."""

    def __init__(self, context: ZmqContext, socket_type: int, hwm: int, topics: tuple[bytes, ...] = ()) -> None:
        self._context, self._socket_type, self._hwm, self._topics = context, socket_type, hwm, topics
        self.can_receive = socket_type != zmq.PUSH
        self.endpoint = ""
        self.socket: zmq.Socket[bytes] | None = None

    def connect(self, endpoint: str) -> None:
        self.close(linger=0)
        self.endpoint = endpoint or self.endpoint
        if self.endpoint:
            self.socket = self._context.connect(self._socket_type, self.endpoint, hwm=self._hwm, topics=self._topics)

    def close(self, linger: int = 1000) -> None:
        sockets.close(self.socket, linger)
        self.socket = None


class ReceiveChannel:
    """What only listens: a worker's lane (PULL), or control (SUB)."""

    deadline = NEVER

    def __init__(self, connection: Connection, label: str, endpoint: str = "") -> None:
        self._connection, self._reader = connection, MessageReader(label)
        if endpoint:
            connection.connect(endpoint)

    def send(self, _to: Address, message: Message) -> None:
        """Connect, anew or elsewhere."""
        if isinstance(message, Reconnect) and (message.endpoint != self._connection.endpoint or not message.endpoint):
            self._connection.connect(message.endpoint)

    def pollables(self) -> list[object]:
        """The socket."""
        return [self._connection.socket] if self._connection.socket else []

    def receive(self) -> list[Message]:
        """What was said."""
        if self._connection.socket is None:
            return []
        return [word for frames in drain(self._connection.socket) if (word := self._reader.read(frames)) is not None]

    def close(self) -> None:
        """Stop listening."""
        self._connection.close(linger=0)


class SendChannel:
    """What is sent to: the sink's results (PUSH), or the desk (DEALER, which also answers).

    While there is no connection, all but pulses wait here in their order, and of the pulses the newest.
    """

    deadline = NEVER

    def __init__(self, connection: Connection, label: str, endpoint: str = "") -> None:
        self._connection, self._reader = connection, MessageReader(label)
        self._unsent: deque[tuple[bool, list[bytes]]] = deque()
        if endpoint:
            connection.connect(endpoint)

    def send(self, _to: Address, message: Message) -> None:
        """A word, or Connect."""
        if isinstance(message, Reconnect):
            self._connection.connect(message.endpoint)
            return
        is_pulse = isinstance(message, Heartbeat)
        if is_pulse and self._unsent:
            self._unsent = deque(item for item in self._unsent if not item[0])
        self._unsent.append((is_pulse, encode(message)))  # type: ignore[arg-type]
        self._flush()

    def _flush(self) -> None:
        while self._unsent and self._connection.socket is not None:
            try:
                self._connection.socket.send_multipart(self._unsent[0][1], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._unsent.popleft()

    def pollables(self) -> list[object]:
        """The socket, for writing too while something waits."""
        if self._connection.socket is None:
            return []
        return [(self._connection.socket, zmq.POLLIN | zmq.POLLOUT)] if self._unsent else [self._connection.socket]

    def receive(self) -> list[Message]:
        """What was answered."""
        self._flush()
        if self._connection.socket is None or not self._connection.can_receive:
            return []
        return [word for frames in drain(self._connection.socket) if (word := self._reader.read(frames)) is not None]

    def close(self) -> None:
        """What is still to be sent has a second."""
        self._connection.close()


def connect_registry(context: ZmqContext, endpoint: str) -> SendChannel:
    """A worker's way to the ventilator."""
    return SendChannel(Connection(context, zmq.DEALER, sockets.SMALL_HWM), "the worker", endpoint)


def connect_lane(context: ZmqContext) -> ReceiveChannel:
    """A worker's lane; connected when a Welcome has said where."""
    return ReceiveChannel(Connection(context, zmq.PULL, 0), "the lane")


def connect_results(context: ZmqContext, endpoint: str = "") -> SendChannel:
    """The way to the sink."""
    return SendChannel(Connection(context, zmq.PUSH, 0), "the way to the sink", endpoint)


def connect_control(context: ZmqContext, endpoint: str, *, with_status: bool = False) -> ReceiveChannel:
    """The sink's broadcast; with `looks_on`, its Status too."""
    topics = (TOPIC[Ack], TOPIC[Kill], *((TOPIC[RunStatus],) if with_status else ()))
    return ReceiveChannel(Connection(context, zmq.SUB, sockets.SMALL_HWM, topics), "control", endpoint)
