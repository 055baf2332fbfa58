"""The edges that bind, over real sockets: desk, lanes, results, control."""

from __future__ import annotations

import os
import socket as plain
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import cast

import pytest
import zmq

from pipeline.model.errors import PipelineError
from pipeline.model.events import (
    CloseLane,
    LaneOpened,
    OpenLane,
    PeerRejected,
    PeerUnreachable,
    ReceivedFrom,
    VersionMismatch,
)
from pipeline.model.messages import Ack, Chunk, Goodbye, Heartbeat, Kill, Registration, RunStatus, WireMessage
from pipeline.model.messages import RecordFormat as Look
from pipeline.model.state_machine import Adapter, LaneAddress, Message, PeerAddress, Port
from pipeline.transport import sockets
from pipeline.transport.channels import (
    MAX_MESSAGES_PER_POLL,
    ControlPublisher,
    LaneChannels,
    RegistryChannel,
    ResultsChannel,
)
from pipeline.transport.codec import TOPIC, decode, encode
from pipeline.transport.sockets import ZmqContext

WITHIN = 10_000
PULSE = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
WELCOME = Registration("r", "run", "", Look(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)
ACK = Ack("r", 1, "print", "epoch", 1, 0, (), -1, spill_full=False, resend=())
KILL = Kill("r", "done", "", 0)
STATUS = RunStatus("r", "feeding", 0, 0, -1, -1, (), ())


class Peers:
    """One context, whatever is opened in it, and where to meet."""

    def __init__(self, folder: Path) -> None:
        self.own, self.folder, self.stem = ZmqContext(), folder, f"ipc://{folder}"
        self._opened: list[zmq.Socket[bytes]] = []
        self._edges: list[Adapter] = []

    def call(self, kind: int, name: str, topics: tuple[bytes, ...] = ()) -> zmq.Socket[bytes]:
        at = name if "://" in name else f"{self.stem}/{name}"
        self._opened.append(self.own.connect(kind, at, topics=topics))
        return self._opened[-1]

    def edge(self, edge: Adapter) -> Adapter:
        self._edges.append(edge)
        return edge

    def close(self) -> None:
        for edge in self._edges:
            edge.close()
        for socket in self._opened:
            sockets.close(socket, linger=0)
        self.own.close()


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    yield made
    made.close()
    assert not list(tmp_path.iterdir())


def heard(edge: Adapter, enough: Callable[[list[Message]], bool] = bool) -> list[Message]:
    """All that the edge hands over until it is enough."""
    words: list[Message] = []
    deadline = time.monotonic() + WITHIN / 1000
    while not enough(words):
        assert time.monotonic() < deadline, words
        poller = zmq.Poller()
        for file in edge.pollables():
            socket, mask = file if isinstance(file, tuple) else (file, zmq.POLLIN)
            poller.register(cast("zmq.Socket[bytes]", socket), mask)
        poller.poll(20)
        words += edge.receive()
    return words


def said(socket: zmq.Socket[bytes]) -> WireMessage:
    """The next word on this socket."""
    assert socket.poll(WITHIN)
    return decode(socket.recv_multipart())


# --- the desk


def test_the_desk_knows_its_callers_and_answers_each(peers: Peers) -> None:
    desk = peers.edge(RegistryChannel(peers.own, f"{peers.stem}/desk"))
    ann, bob = peers.call(zmq.DEALER, "desk"), peers.call(zmq.DEALER, "desk")
    ann.send_multipart(encode(PULSE))
    (called,) = heard(desk)
    assert isinstance(called, ReceivedFrom)
    assert called.message == PULSE
    bob.send_multipart(encode(Goodbye("bob")))
    (other,) = heard(desk)
    assert isinstance(other, ReceivedFrom)
    assert (other.message, other.peer == called.peer) == (Goodbye("bob"), False)
    desk.send(PeerAddress(called.peer), WELCOME)
    assert said(ann) == WELCOME
    assert bob.poll(0) == 0


def test_a_caller_that_is_gone_is_reported(peers: Peers) -> None:
    desk = peers.edge(RegistryChannel(peers.own, f"{peers.stem}/desk"))
    desk.send(PeerAddress(b"\0gone"), WELCOME)
    assert desk.receive() == [PeerUnreachable(b"\0gone")]
    assert desk.receive() == []


def test_garbage_at_the_desk_is_told_once_and_other_versions_always(peers: Peers) -> None:
    desk = peers.edge(RegistryChannel(peers.own, f"{peers.stem}/desk"))
    stranger = peers.call(zmq.DEALER, "desk")
    for _ in range(3):
        stranger.send(b"GET / HTTP/1.1")
    stranger.send_multipart(encode(KILL))  # ours, but nothing for a desk
    for _ in range(2):
        stranger.send_multipart([b"pipe7.pulse \x90"])
    words = heard(desk, lambda words: len(words) >= 3)
    assert isinstance(words[0], PeerRejected)
    assert words[0].reason.startswith("invalid message at the registry")
    assert [word.version for word in words[1:] if isinstance(word, VersionMismatch)] == ["pipe7", "pipe7"]


def test_elsewhere_another_version_is_told_once(peers: Peers) -> None:
    results = peers.edge(ResultsChannel(peers.own, f"{peers.stem}/results"))
    stranger = peers.call(zmq.PUSH, "results")
    assert stranger.poll(WITHIN, zmq.POLLOUT)
    for _ in range(2):
        stranger.send_multipart([b"pipe7.run \x90"])
    stranger.send_multipart(encode(Goodbye("last")))
    assert heard(results, lambda words: Goodbye("last") in words) == [VersionMismatch(b"", "pipe7"), Goodbye("last")]


# --- lanes


def test_a_lane_keeps_its_chunks_for_a_worker_who_is_not_there_yet(peers: Peers) -> None:
    lanes = peers.edge(LaneChannels(peers.own, peers.stem))
    lanes.send(Port.LANES, OpenLane(4))
    (opened,) = heard(lanes)
    assert isinstance(opened, LaneOpened)
    assert (opened.lane, opened.endpoint.startswith(f"{peers.stem}/lane.")) == (4, True)
    chunks = [Chunk("r", 4, number, number, 1, b"x\n") for number in range(300)]
    for chunk in chunks:
        lanes.send(LaneAddress(4), chunk)
    worker = peers.call(zmq.PULL, opened.endpoint)
    assert heard(lanes, lambda _: not lanes.pollables()) == []
    assert [said(worker) for _ in chunks] == chunks


def test_what_a_lane_still_had_is_dropped_when_it_is_shut(peers: Peers) -> None:
    lanes = peers.edge(LaneChannels(peers.own, peers.stem))
    lanes.send(Port.LANES, OpenLane(4))
    lanes.send(LaneAddress(4), Chunk("r", 4, 1, 0, 1, b"x\n"))
    assert list(peers.folder.iterdir())
    lanes.send(Port.LANES, CloseLane(4))
    assert (lanes.pollables(), list(peers.folder.iterdir())) == ([], [])
    lanes.send(LaneAddress(4), Chunk("r", 4, 2, 1, 1, b"x\n"))  # said before its station knew
    lanes.send(Port.LANES, CloseLane(4))
    assert heard(lanes) == [LaneOpened(4, f"{peers.stem}/lane.{os.getpid()}.4")]


def test_tcp_lanes_take_the_ports_in_turn_and_pass_over_the_taken(peers: Peers) -> None:
    with plain.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        full = peers.edge(LaneChannels(peers.own, "tcp://127.0.0.1", range(port, port + 1)))
        with pytest.raises(PipelineError, match=f"no free port for a lane in {port}-{port}"):
            full.send(Port.LANES, OpenLane(1))
        lanes = peers.edge(LaneChannels(peers.own, "tcp://127.0.0.1", range(port, port + 50)))
        for lane in (1, 2):
            lanes.send(Port.LANES, OpenLane(lane))
        one, two = (word.endpoint for word in heard(lanes) if isinstance(word, LaneOpened))
        assert len({one, two, f"tcp://127.0.0.1:{port}"}) == 3
    worker = peers.call(zmq.PULL, two)
    lanes.send(LaneAddress(2), Chunk("r", 2, 1, 0, 1, b"x\n"))
    heard(lanes, lambda _: not lanes.pollables())
    assert said(worker) == Chunk("r", 2, 1, 0, 1, b"x\n")


# --- results


def test_results_are_heard_in_order_and_a_turn_is_bounded(peers: Peers) -> None:
    results = peers.edge(ResultsChannel(peers.own, f"{peers.stem}/results"))
    worker = peers.call(zmq.PUSH, "results")
    assert worker.poll(WITHIN, zmq.POLLOUT)
    byes: list[Message] = [Goodbye(str(number)) for number in range(MAX_MESSAGES_PER_POLL + 10)]
    worker.send(b"garbage")
    for bye in byes:
        worker.send_multipart(encode(bye))  # type: ignore[arg-type]
    turns: list[int] = []

    def enough(words: list[Message]) -> bool:
        turns.append(len(words))
        return len(words) > len(byes)

    stranger, *words = heard(results, enough)
    assert isinstance(stranger, PeerRejected)
    assert words == byes
    assert max(later - sooner for sooner, later in pairwise(turns)) <= MAX_MESSAGES_PER_POLL


# --- control


def until(
    control: Adapter, listener: zmq.Socket[bytes], kind: type[WireMessage], again: WireMessage | None = None
) -> list[WireMessage]:
    """What is heard up to a word of this kind, while the sink's loop takes subscriptions in and repeats `again`."""
    words: list[WireMessage] = []
    deadline = time.monotonic() + WITHIN / 1000
    while not words or not isinstance(words[-1], kind):
        assert time.monotonic() < deadline
        assert control.receive() == []
        if listener.poll(10):
            words.append(decode(listener.recv_multipart()))
        elif again:
            control.send(Port.CONTROL, again)
    return words


BOTH = (TOPIC[Ack], TOPIC[Kill])


def test_a_latecomer_is_told_the_last_ack_or_kill(peers: Peers) -> None:
    control = peers.edge(ControlPublisher(peers.own, f"{peers.stem}/control"))
    control.send(Port.CONTROL, ACK)
    control.send(Port.CONTROL, STATUS)
    first = peers.call(zmq.SUB, "control", BOTH)
    assert until(control, first, Ack) == [ACK]
    control.send(Port.CONTROL, KILL)
    assert set(until(control, first, Kill)) <= {ACK, KILL}  # a welcome for each of its subscriptions
    assert until(control, peers.call(zmq.SUB, "control", BOTH), Kill) == [KILL]


def test_a_listener_hears_what_it_asked_for(peers: Peers) -> None:
    control = peers.edge(ControlPublisher(peers.own, f"{peers.stem}/control"))
    control.send(Port.CONTROL, ACK)
    worker, looks_on = (
        peers.call(zmq.SUB, "control", BOTH),
        peers.call(zmq.SUB, "control", (TOPIC[Ack], TOPIC[RunStatus])),
    )
    assert until(control, worker, Ack) == [ACK]
    assert set(until(control, looks_on, RunStatus, again=STATUS)) == {ACK, STATUS}
    assert set(until(control, worker, Kill, again=KILL)) <= {ACK, KILL}
