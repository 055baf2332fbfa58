"""The edges that connect: a worker's desk, lane, results and control; the ventilator's results and control.

A Connect gives any of them a new socket: libzmq never retries after a protocol error, and half-open connections look
alive. Nothing here blocks; what a socket refuses waits here, or is dropped if it is repeated anyway.
"""

from __future__ import annotations

from collections import deque

import zmq

from pipeline.wire import sockets
from pipeline.wire.codec import TOPIC, encode
from pipeline.wire.listening import Ears, drain
from pipeline.wire.sockets import Sockets
from pipeline.words.errands import Connect
from pipeline.words.messages import Ack, Kill, Pulse, Status
from pipeline.words.station import NEVER, Address, Message


class _Line:
    """One connection and where it leads; no behaviour but making it anew."""

    def __init__(self, own: Sockets, kind: int, marks: int, topics: tuple[bytes, ...] = ()) -> None:
        self._own, self._kind, self._marks, self._topics = own, kind, marks, topics
        self.answers = kind != zmq.PUSH
        self.at = ""
        self.socket: zmq.Socket[bytes] | None = None

    def connect(self, at: str) -> None:
        self.close(linger=0)
        self.at = at or self.at
        if self.at:
            self.socket = self._own.connect(self._kind, self.at, marks=self._marks, topics=self._topics)

    def close(self, linger: int = 1000) -> None:
        sockets.close(self.socket, linger)
        self.socket = None


class In:
    """What only listens: a worker's lane (PULL), or control (SUB)."""

    deadline = NEVER

    def __init__(self, line: _Line, where: str, at: str = "") -> None:
        self._line, self._ears = line, Ears(where)
        if at:
            line.connect(at)

    def send(self, _to: Address, message: Message) -> None:
        """Connect, anew or elsewhere."""
        if isinstance(message, Connect) and (message.at != self._line.at or not message.at):
            self._line.connect(message.at)

    def files(self) -> list[object]:
        """The socket."""
        return [self._line.socket] if self._line.socket else []

    def receive(self) -> list[Message]:
        """What was said."""
        if self._line.socket is None:
            return []
        return [word for frames in drain(self._line.socket) if (word := self._ears.hear(frames)) is not None]

    def close(self) -> None:
        """Stop listening."""
        self._line.close(linger=0)


class Out:
    """What is sent to: the sink's results (PUSH), or the desk (DEALER, which also answers).

    While there is no connection, all but pulses wait here in their order, and of the pulses the newest.
    """

    deadline = NEVER

    def __init__(self, line: _Line, where: str, at: str = "") -> None:
        self._line, self._ears = line, Ears(where)
        self._waiting: deque[tuple[bool, list[bytes]]] = deque()
        if at:
            line.connect(at)

    def send(self, _to: Address, message: Message) -> None:
        """A word, or Connect."""
        if isinstance(message, Connect):
            self._line.connect(message.at)
            return
        is_pulse = isinstance(message, Pulse)
        if is_pulse and self._waiting:
            self._waiting = deque(item for item in self._waiting if not item[0])
        self._waiting.append((is_pulse, encode(message)))  # type: ignore[arg-type]
        self._flush()

    def _flush(self) -> None:
        while self._waiting and self._line.socket is not None:
            try:
                self._line.socket.send_multipart(self._waiting[0][1], zmq.NOBLOCK)
            except zmq.Again:
                return
            self._waiting.popleft()

    def files(self) -> list[object]:
        """The socket, for writing too while something waits."""
        if self._line.socket is None:
            return []
        return [(self._line.socket, zmq.POLLIN | zmq.POLLOUT)] if self._waiting else [self._line.socket]

    def receive(self) -> list[Message]:
        """What was answered."""
        self._flush()
        if self._line.socket is None or not self._line.answers:
            return []
        return [word for frames in drain(self._line.socket) if (word := self._ears.hear(frames)) is not None]

    def close(self) -> None:
        """What is still to be sent has a second."""
        self._line.close()


def desk(own: Sockets, at: str) -> Out:
    """A worker's way to the ventilator."""
    return Out(_Line(own, zmq.DEALER, sockets.FEW), "the worker", at)


def lane(own: Sockets) -> In:
    """A worker's lane; connected when a Welcome has said where."""
    return In(_Line(own, zmq.PULL, 0), "the lane")


def results(own: Sockets, at: str = "") -> Out:
    """The way to the sink."""
    return Out(_Line(own, zmq.PUSH, 0), "the way to the sink", at)


def control(own: Sockets, at: str, *, looks_on: bool = False) -> In:
    """The sink's broadcast; with `looks_on`, its Status too."""
    topics = (TOPIC[Ack], TOPIC[Kill], *((TOPIC[Status],) if looks_on else ()))
    return In(_Line(own, zmq.SUB, sockets.FEW, topics), "control", at)
