"""The edges that connect, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from pipeline.wire import calling, sockets
from pipeline.wire.codec import decode, encode
from pipeline.wire.listening import ControlOut
from pipeline.wire.sockets import Sockets
from pipeline.words.errands import Connect
from pipeline.words.messages import Ack, Bye, Chunk, Kill, Pulse, Run, Status, Welcome, Wire
from pipeline.words.notices import Refused
from pipeline.words.parts import Recipe
from pipeline.words.station import Edge, Message, Port

WITHIN = 10_000
PULSE = Pulse(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, seen=0, allowed=4, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip
ACK = Ack("r", 1, "print", "epoch", 1, 0, (), -1, full=False, again=())
CHUNK = Chunk("r", 1, 1, 0, 1, b"x\n")


class Peers:
    """One context, whatever is opened in it, and where to meet."""

    def __init__(self, folder: Path) -> None:
        self.own, self.stem = Sockets(), f"ipc://{folder}"
        self._bound: list[zmq.Socket[bytes]] = []
        self._edges: list[Edge] = []

    def bind(self, kind: int, name: str) -> zmq.Socket[bytes]:
        self._bound.append(self.own.bind(kind, f"{self.stem}/{name}"))
        return self._bound[-1]

    def edge(self, edge: Edge) -> Edge:
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


def frames(socket: zmq.Socket[bytes], edge: Edge) -> list[bytes]:
    """The next frames on this socket, while the edge has its turns."""
    deadline = time.monotonic() + WITHIN / 1000
    while not socket.poll(10):
        edge.receive()
        assert time.monotonic() < deadline
    return socket.recv_multipart()


def said(socket: zmq.Socket[bytes], edge: Edge) -> Wire:
    return decode(frames(socket, edge))


def heard(edge: Edge, meanwhile: Callable[[], object] = lambda: None) -> list[Message]:
    """What the edge hands over, as soon as it does."""
    deadline = time.monotonic() + WITHIN / 1000
    while not (words := edge.receive()):
        meanwhile()
        assert time.monotonic() < deadline
    return words


def test_the_desk_is_told_and_answers(peers: Peers) -> None:
    router = peers.bind(zmq.ROUTER, "desk")
    desk = peers.edge(calling.desk(peers.own, f"{peers.stem}/desk"))
    desk.send(Port.DESK, PULSE)
    peer, *told = frames(router, desk)
    assert decode(told) == PULSE
    welcome = Welcome("r", "run", "", Recipe(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)
    router.send_multipart([peer, *encode(welcome)])
    assert heard(desk) == [welcome]


def test_while_nobody_is_there_all_words_wait_but_of_pulses_the_newest(peers: Peers) -> None:
    results = peers.edge(calling.results(peers.own, f"{peers.stem}/results"))
    run, bye = Run("r", 1, "print", "feeding", -1, ""), Bye("ann")
    pulses = [Pulse("ann", number, "r", "d", "wc", 2, 1, 0, 4, (), (), 0, 0.0, 0) for number in (1, 2, 3)]
    for word in (pulses[0], run, pulses[1], bye, pulses[2]):
        results.send(Port.RESULTS, word)
    assert results.files() == [(results.files()[0][0], zmq.POLLIN | zmq.POLLOUT)]  # type: ignore[index]
    pull = peers.bind(zmq.PULL, "results")
    assert [said(pull, results) for _ in range(3)] == [run, bye, pulses[2]]
    assert not isinstance(results.files()[0], tuple)


def test_before_it_knows_where_to_it_keeps_all(peers: Peers) -> None:
    results = peers.edge(calling.results(peers.own))
    results.send(Port.RESULTS, Bye("ann"))
    assert (results.files(), results.receive()) == ([], [])
    pull = peers.bind(zmq.PULL, "results")
    results.send(Port.RESULTS, Connect(f"{peers.stem}/results"))
    assert said(pull, results) == Bye("ann")


def test_connect_makes_a_new_socket_to_where_it_was(peers: Peers) -> None:
    results = peers.edge(calling.results(peers.own, f"{peers.stem}/results"))
    before = results.files()
    results.send(Port.RESULTS, Connect())
    assert results.files() != before
    pull = peers.bind(zmq.PULL, "results")
    results.send(Port.RESULTS, Bye("ann"))
    assert said(pull, results) == Bye("ann")


def test_a_lane_is_connected_to_where_the_welcome_says_and_once(peers: Peers) -> None:
    lane = peers.edge(calling.lane(peers.own))
    assert (lane.files(), lane.receive()) == ([], [])
    lane.send(Port.LANES, Connect())  # nowhere yet
    assert lane.files() == []
    push = peers.bind(zmq.PUSH, "lane.1")
    lane.send(Port.LANES, Connect(f"{peers.stem}/lane.1"))
    files = lane.files()
    lane.send(Port.LANES, Connect(f"{peers.stem}/lane.1"))
    assert lane.files() == files
    push.send_multipart(encode(CHUNK))
    push.send(b"garbage")
    push.send(b"garbage")
    words: list[Message] = []
    while len(words) < 2:
        words += heard(lane)
    assert words[0] == CHUNK
    assert isinstance(words[1], Refused)
    lane.send(Port.LANES, Connect(f"{peers.stem}/lane.2"))
    assert lane.files() != files


def test_control_hears_ack_and_kill_and_an_onlooker_status_too(peers: Peers) -> None:
    out = peers.edge(ControlOut(peers.own, f"{peers.stem}/control"))
    status, kill = Status("r", "done", 0, 0, 0, -1, (), ()), Kill("r", "done", "", 0)
    out.send(Port.CONTROL, ACK)
    worker = peers.edge(calling.control(peers.own, f"{peers.stem}/control"))
    looks_on = peers.edge(calling.control(peers.own, f"{peers.stem}/control", looks_on=True))

    def speak() -> None:
        out.receive()
        out.send(Port.CONTROL, status)

    kinds: set[type] = set()
    while Status not in kinds:
        kinds |= {type(word) for word in heard(looks_on, speak)}
    words = heard(worker, speak)
    out.send(Port.CONTROL, kill)
    while kill not in words:
        words += heard(worker, out.receive)
    assert {type(word) for word in words} == {Ack, Kill}
