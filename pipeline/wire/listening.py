"""The edges that bind: the ventilator's desk and lanes, the sink's results and control.

Each owns its sockets alone, never blocks, and hands over only words that the codec accepts; all else is dropped,
counted and told once. Their ipc files are removed when they close.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator

import zmq

from pipeline.wire import sockets
from pipeline.wire.codec import decode, encode
from pipeline.wire.sockets import Sockets
from pipeline.words.errands import Called, Foreign, Open, Opened, Shut, Unreachable
from pipeline.words.errors import DecodeError, ForeignError, PipelineError
from pipeline.words.messages import Ack, Bye, Kill, Pulse
from pipeline.words.notices import Refused
from pipeline.words.station import NEVER, Address, Caller, Lane, Message

TURN = 256
"""Words taken from one socket in one turn of the loop, so that none starves the others."""


class Ears:
    """Reads frames as words. A stranger's are dropped and counted, and told of once."""

    def __init__(self, where: str) -> None:
        self._where = where
        self.strange = self.foreign = 0

    def hear(self, frames: list[bytes], peer: bytes = b"") -> Message | None:
        """The word, or what is to be said of a stranger; None if that was said before."""
        try:
            return decode(frames)
        except ForeignError as error:
            self.foreign += 1
            return Foreign(peer, error.version) if peer or self.foreign == 1 else None  # a caller gets an answer
        except DecodeError as error:
            self.strange += 1
            return (
                Refused("a stranger", f"{self._where} got something that is not ours: {error}")
                if self.strange == 1
                else None
            )


def drain(socket: zmq.Socket[bytes]) -> Iterator[list[bytes]]:
    """What has arrived, at most a turn's worth."""
    for _ in range(TURN):
        try:
            yield socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return


class DeskIn:
    """ROUTER: pulses in, welcomes out. Callers are known by the numbers that libzmq gave them."""

    deadline = NEVER

    def __init__(self, own: Sockets, at: str) -> None:
        self._socket = own.bind(zmq.ROUTER, at)
        self._ears = Ears("the desk")
        self._gone: list[Message] = []

    def send(self, to: Address, message: Message) -> None:
        """To one caller; who is not there any more is reported as Unreachable."""
        assert isinstance(to, Caller)
        try:
            self._socket.send_multipart([to.peer, *encode(message)], zmq.NOBLOCK)  # type: ignore[arg-type]
        except zmq.ZMQError:
            self._gone.append(Unreachable(to.peer))

    def files(self) -> list[object]:
        """The socket."""
        return [self._socket]

    def receive(self) -> list[Message]:
        """Pulses and goodbyes, with their callers."""
        words, self._gone = self._gone, []
        for peer, *frames in drain(self._socket):
            word = self._ears.hear(frames, peer)
            if isinstance(word, Pulse | Bye):
                words.append(Called(peer, word))
            elif isinstance(word, Foreign | Refused):
                words.append(word)
        return words

    def close(self) -> None:
        """Send what is left."""
        sockets.unbind(self._socket)


class LanesOut:
    """A PUSH for each worker. What a lane refuses before its worker has connected stays here."""

    deadline = NEVER

    def __init__(self, own: Sockets, stem: str, ports: range | None = None) -> None:
        """`stem` is ipc://FOLDER for ipc; for tcp it is tcp://HOST and `ports` are used in turn."""
        self._own, self._stem, self._ports = own, stem, ports
        self._lanes: dict[int, zmq.Socket[bytes]] = {}
        self._waiting: dict[int, deque[list[bytes]]] = {}
        self._opened: list[Message] = []
        self._port = os.getpid() % len(ports) if ports else 0

    def send(self, to: Address, message: Message) -> None:
        """Open and Shut lanes; a chunk for one lane."""
        match to, message:
            case _, Open(lane):
                self._lanes[lane], at = self._bind(lane)
                self._opened.append(Opened(lane, at))
            case _, Shut(lane):
                self._waiting.pop(lane, None)
                sockets.unbind(self._lanes.pop(lane, None), linger=0)
            case Lane(number), _ if number in self._lanes:
                self._waiting.setdefault(number, deque()).append(encode(message))  # type: ignore[arg-type]
                self._flush(number)
            case _:
                pass

    def _bind(self, lane: int) -> tuple[zmq.Socket[bytes], str]:
        if self._ports is None:
            at = f"{self._stem}/lane.{os.getpid()}.{lane}"
            return self._own.bind(zmq.PUSH, at), at
        for _ in self._ports:  # the longest unused first: a worker may still be retrying an old one
            self._port = (self._port + 1) % len(self._ports)
            at = f"{self._stem}:{self._ports[self._port]}"
            try:
                return self._own.bind(zmq.PUSH, at), at
            except PipelineError:
                continue
        raise PipelineError(
            f"no free port for a lane in {self._ports.start}-{self._ports.stop - 1}; give other --lane-ports"
        )

    def _flush(self, number: int) -> None:
        waiting = self._waiting[number]
        while waiting:
            try:
                self._lanes[number].send_multipart(waiting[0], zmq.NOBLOCK)
            except zmq.Again:
                return
            waiting.popleft()
        del self._waiting[number]

    def files(self) -> list[object]:
        """The lanes that wait for their worker."""
        return [(self._lanes[number], zmq.POLLOUT) for number in self._waiting]

    def receive(self) -> list[Message]:
        """Lanes that were opened."""
        for number in list(self._waiting):
            self._flush(number)
        opened, self._opened = self._opened, []
        return opened

    def close(self) -> None:
        """Drop everything: at the end nobody needs chunks."""
        for socket in self._lanes.values():
            sockets.unbind(socket, linger=0)
        self._lanes.clear()


class ResultsIn:
    """PULL: everything that is said to the sink."""

    deadline = NEVER

    def __init__(self, own: Sockets, at: str) -> None:
        self._socket = own.bind(zmq.PULL, at)
        self._ears = Ears("the sink")

    def send(self, _to: Address, message: Message) -> None:
        """Nothing is sent here."""

    def files(self) -> list[object]:
        """The socket."""
        return [self._socket]

    def receive(self) -> list[Message]:
        """Whatever our words are."""
        return [word for frames in drain(self._socket) if (word := self._ears.hear(frames)) is not None]

    def close(self) -> None:
        """Nothing is left to say."""
        sockets.unbind(self._socket)


class ControlOut:
    """XPUB: the sink's broadcast. A latecomer is told the last Ack or Kill as its welcome message."""

    deadline = NEVER

    def __init__(self, own: Sockets, at: str) -> None:
        self._socket = own.bind(zmq.XPUB, at, marks=sockets.FEW)
        self._socket.setsockopt(zmq.XPUB_VERBOSE, 1)
        self._last: list[bytes] = []

    def send(self, _to: Address, message: Message) -> None:
        """To all who listen. First it is the welcome message, then sent: between the two nobody can miss it."""
        frames = encode(message)  # type: ignore[arg-type]
        if isinstance(message, Ack | Kill):
            self._socket.setsockopt(zmq.XPUB_WELCOME_MSG, frames[0])
            self._last = frames
        self._socket.send_multipart(frames, zmq.NOBLOCK)

    def files(self) -> list[object]:
        """The socket: libzmq hands out welcome messages only while subscriptions are taken in."""
        return [self._socket]

    def receive(self) -> list[Message]:
        """Subscriptions. The welcome leaves before they come, so what was said in between is said again."""
        topics = {frames[0][1:] for frames in drain(self._socket) if frames[0][:1] == b"\1"}
        if self._last and self._last[0].startswith(tuple(topics)):
            self._socket.send_multipart(self._last, zmq.NOBLOCK)
        return []

    def close(self) -> None:
        """The last word has a second to get out."""
        sockets.unbind(self._socket)
