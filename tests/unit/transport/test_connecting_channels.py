"""The edges that connect, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.model.events import PeerRejected, Reconnect
from pipeline.model.messages import (
    Ack,
    Chunk,
    Goodbye,
    Heartbeat,
    Kill,
    RecordFormat,
    Registration,
    RunStatus,
    VentilatorState,
    WireMessage,
)
from pipeline.model.state_machine import Adapter, Message, Port
from pipeline.transport import channels, sockets
from pipeline.transport.channels import ControlPublisher
from pipeline.transport.codec import decode, encode
from pipeline.transport.sockets import ZmqContext

WITHIN = 10_000
PULSE = Heartbeat(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip
ACK = Ack("r", 1, "print", "epoch", 1, 0, (), -1, spill_full=False, resend=())
CHUNK = Chunk("r", 1, 1, 0, 1, b"x\n")


class Peers:
    """One context, whatever is opened in it, and where to meet."""

    def __init__(self, folder: Path) -> None:
        self.own, self.stem = ZmqContext(), f"ipc://{folder}"
        self._bound: list[zmq.Socket[bytes]] = []
        self._edges: list[Adapter] = []

    def bind(self, kind: int, name: str) -> zmq.Socket[bytes]:
        self._bound.append(self.own.bind(kind, f"{self.stem}/{name}"))
        return self._bound[-1]

    def edge(self, edge: Adapter) -> Adapter:
        self._edges.append(edge)
        return edge

    def close(self) -> None:
        for edge in self._edges:
            edge.close()
            edge.close()
        for socket in self._bound:
            sockets.unbind(socket, linger=0)
        self.own.close()


@pytest.fixture
def peers(tmp_path: Path) -> Iterator[Peers]:
    made = Peers(tmp_path)
    yield made
    made.close()


def frames(socket: zmq.Socket[bytes], edge: Adapter) -> list[bytes]:
    """The next frames on this socket, while the edge has its turns."""
    deadline = time.monotonic() + WITHIN / 1000
    while not socket.poll(10):
        edge.receive()
        assert time.monotonic() < deadline
    return socket.recv_multipart()


def said(socket: zmq.Socket[bytes], edge: Adapter) -> WireMessage:
    return decode(frames(socket, edge))


def heard(edge: Adapter, meanwhile: Callable[[], object] = lambda: None) -> list[Message]:
    """What the edge hands over, as soon as it does."""
    deadline = time.monotonic() + WITHIN / 1000
    while not (words := edge.receive()):
        meanwhile()
        assert time.monotonic() < deadline
    return words


def test_the_desk_is_told_and_answers(peers: Peers) -> None:
    router = peers.bind(zmq.ROUTER, "desk")
    desk = peers.edge(channels.connect_registry(peers.own, f"{peers.stem}/desk"))
    desk.send(Port.REGISTRY, PULSE)
    peer, *told = frames(router, desk)
    assert decode(told) == PULSE
    welcome = Registration("r", "run", "", RecordFormat(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)
    router.send_multipart([peer, *encode(welcome)])
    assert heard(desk) == [welcome]


def test_while_nobody_is_there_all_words_wait_but_of_pulses_the_newest(peers: Peers) -> None:
    results = peers.edge(channels.connect_results(peers.own, f"{peers.stem}/results"))
    run, bye = VentilatorState("r", 1, "print", "feeding", -1, ""), Goodbye("ann")
    pulses = [Heartbeat("ann", number, "r", "d", "wc", 2, 1, 0, 4, (), (), 0, 0.0, 0) for number in (1, 2, 3)]
    for word in (pulses[0], run, pulses[1], bye, pulses[2]):
        results.send(Port.RESULTS, word)
    assert results.pollables() == [(results.pollables()[0][0], zmq.POLLIN | zmq.POLLOUT)]  # type: ignore[index]
    pull = peers.bind(zmq.PULL, "results")
    assert [said(pull, results) for _ in range(3)] == [run, bye, pulses[2]]
    assert not isinstance(results.pollables()[0], tuple)


def test_before_it_knows_where_to_it_keeps_all(peers: Peers) -> None:
    results = peers.edge(channels.connect_results(peers.own))
    results.send(Port.RESULTS, Goodbye("ann"))
    assert (results.pollables(), results.receive()) == ([], [])
    pull = peers.bind(zmq.PULL, "results")
    results.send(Port.RESULTS, Reconnect(f"{peers.stem}/results"))
    assert said(pull, results) == Goodbye("ann")


def test_connect_makes_a_new_socket_to_where_it_was(peers: Peers) -> None:
    results = peers.edge(channels.connect_results(peers.own, f"{peers.stem}/results"))
    before = results.pollables()
    results.send(Port.RESULTS, Reconnect())
    assert results.pollables() != before
    pull = peers.bind(zmq.PULL, "results")
    results.send(Port.RESULTS, Goodbye("ann"))
    assert said(pull, results) == Goodbye("ann")


def test_a_lane_is_connected_to_where_the_welcome_says_and_once(peers: Peers) -> None:
    lane = peers.edge(channels.connect_lane(peers.own))
    assert (lane.pollables(), lane.receive()) == ([], [])
    lane.send(Port.LANES, Reconnect())  # nowhere yet
    assert lane.pollables() == []
    push = peers.bind(zmq.PUSH, "lane.1")
    lane.send(Port.LANES, Reconnect(f"{peers.stem}/lane.1"))
    files = lane.pollables()
    lane.send(Port.LANES, Reconnect(f"{peers.stem}/lane.1"))
    assert lane.pollables() == files
    push.send_multipart(encode(CHUNK))
    push.send(b"garbage")
    push.send(b"garbage")
    words: list[Message] = []
    while len(words) < 2:
        words += heard(lane)
    assert words[0] == CHUNK
    assert isinstance(words[1], PeerRejected)
    lane.send(Port.LANES, Reconnect(f"{peers.stem}/lane.2"))
    assert lane.pollables() != files


def test_control_hears_ack_and_kill_and_an_onlooker_status_too(peers: Peers) -> None:
    out = peers.edge(ControlPublisher(peers.own, f"{peers.stem}/control"))
    status, kill = RunStatus("r", "done", 0, 0, 0, -1, (), ()), Kill("r", "done", "", 0)
    out.send(Port.CONTROL, ACK)
    worker = peers.edge(channels.connect_control(peers.own, f"{peers.stem}/control"))
    looks_on = peers.edge(channels.connect_control(peers.own, f"{peers.stem}/control", with_status=True))

    def speak() -> None:
        out.receive()
        out.send(Port.CONTROL, status)

    kinds: set[type] = set()
    while RunStatus not in kinds:
        kinds |= {type(word) for word in heard(looks_on, speak)}
    words = heard(worker, speak)
    out.send(Port.CONTROL, kill)
    while kill not in words:
        words += heard(worker, out.receive)
    assert {type(word) for word in words} == {Ack, Kill}
