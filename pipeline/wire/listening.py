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
from pipeline.wire.sockets import ZmqContext
from pipeline.words.errands import CloseLane, LaneOpened, OpenLane, PeerUnreachable, ReceivedFrom, VersionMismatch
from pipeline.words.errors import DecodeError, PipelineError, VersionMismatchError
from pipeline.words.messages import Ack, Goodbye, Heartbeat, Kill
from pipeline.words.notices import PeerRejected
from pipeline.words.station import NEVER, Address, LaneAddress, Message, PeerAddress

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
