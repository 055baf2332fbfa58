"""The edges that connect: a worker's desk, lane, results and control; the ventilator's results and control.

A Connect gives any of them a new socket: libzmq never retries after a protocol error, and half-open connections look
alive. Nothing here blocks; what a socket refuses waits here, or is dropped if it is repeated anyway.
"""

from __future__ import annotations

from collections import deque

import zmq

from pipeline.wire import sockets
from pipeline.wire.codec import TOPIC, encode
from pipeline.wire.listening import MessageReader, drain
from pipeline.wire.sockets import ZmqContext
from pipeline.words.errands import Reconnect
from pipeline.words.messages import Ack, Heartbeat, Kill, RunStatus
from pipeline.words.station import NEVER, Address, Message


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
