"""Channels that bind, over real sockets: registry, lanes, results, control."""

from __future__ import annotations

import os
import socket as plain
import time
from collections.abc import Callable
from itertools import pairwise
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
from pipeline.model.messages import Ack, Chunk, Goodbye, Kill, Registration, RunStatus, WireMessage
from pipeline.model.messages import RecordFormat as Look
from pipeline.model.state_machine import Adapter, LaneAddress, Message, PeerAddress, Port
from pipeline.transport.channels import (
    MAX_MESSAGES_PER_POLL,
    ControlPublisher,
    LaneChannels,
    RegistryChannel,
    ResultsChannel,
)
from pipeline.transport.codec import TOPIC, decode, encode
from tests.unit.transport.peers import ACK, PULSE, WITHIN, Peers

WELCOME = Registration("r", "run", "", Look(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)
KILL = Kill("r", "done", "", 0)
STATUS = RunStatus("r", "feeding", 0, 0, -1, -1, (), ())


def receive_until(adapter: Adapter, is_enough: Callable[[list[Message]], bool] = bool) -> list[Message]:
    """Return all messages of the adapter until they are enough."""
    received: list[Message] = []
    deadline = time.monotonic() + WITHIN / 1000
    while not is_enough(received):
        assert time.monotonic() < deadline, received
        poller = zmq.Poller()
        for file in adapter.pollables():
            socket, mask = file if isinstance(file, tuple) else (file, zmq.POLLIN)
            poller.register(cast("zmq.Socket[bytes]", socket), mask)
        poller.poll(20)
        received += adapter.receive()
    return received


def receive_message(socket: zmq.Socket[bytes]) -> WireMessage:
    """Return the next message of this socket."""
    assert socket.poll(WITHIN)
    return decode(socket.recv_multipart())


# --- the desk


def test_registry_answers_each_peer(peers: Peers) -> None:
    desk = peers.adapter(RegistryChannel(peers.own, f"{peers.stem}/desk"))
    ann, bob = peers.call(zmq.DEALER, "desk"), peers.call(zmq.DEALER, "desk")
    ann.send_multipart(encode(PULSE))
    (called,) = receive_until(desk)
    assert isinstance(called, ReceivedFrom)
    assert called.message == PULSE
    bob.send_multipart(encode(Goodbye("bob")))
    (other,) = receive_until(desk)
    assert isinstance(other, ReceivedFrom)
    assert (other.message, other.peer == called.peer) == (Goodbye("bob"), False)
    desk.send(PeerAddress(called.peer), WELCOME)
    assert receive_message(ann) == WELCOME
    assert bob.poll(0) == 0


def test_registry_disconnected_peer_is_reported(peers: Peers) -> None:
    desk = peers.adapter(RegistryChannel(peers.own, f"{peers.stem}/desk"))
    desk.send(PeerAddress(b"\0gone"), WELCOME)
    assert desk.receive() == [PeerUnreachable(b"\0gone")]
    assert desk.receive() == []


def test_registry_reports_garbage_once_and_versions_always(peers: Peers) -> None:
    desk = peers.adapter(RegistryChannel(peers.own, f"{peers.stem}/desk"))
    stranger = peers.call(zmq.DEALER, "desk")
    for _ in range(3):
        stranger.send(b"GET / HTTP/1.1")
    stranger.send_multipart(encode(KILL))  # a valid message, but not one for a registry
    for _ in range(2):
        stranger.send_multipart([b"pipe7.pulse \x90"])
    received = receive_until(desk, lambda received: len(received) >= 3)
    assert isinstance(received[0], PeerRejected)
    assert received[0].reason.startswith("invalid message at the registry")
    assert [item.version for item in received[1:] if isinstance(item, VersionMismatch)] == ["pipe7", "pipe7"]


def test_results_report_version_mismatch_once(peers: Peers) -> None:
    results = peers.adapter(ResultsChannel(peers.own, f"{peers.stem}/results"))
    stranger = peers.call(zmq.PUSH, "results")
    assert stranger.poll(WITHIN, zmq.POLLOUT)
    for _ in range(2):
        stranger.send_multipart([b"pipe7.run \x90"])
    stranger.send_multipart(encode(Goodbye("last")))
    assert receive_until(results, lambda received: Goodbye("last") in received) == [
        VersionMismatch(b"", "pipe7"),
        Goodbye("last"),
    ]


# --- lanes


def test_lane_keeps_chunks_for_missing_worker(peers: Peers) -> None:
    lanes = peers.adapter(LaneChannels(peers.own, peers.stem))
    lanes.send(Port.LANES, OpenLane(4))
    (opened,) = receive_until(lanes)
    assert isinstance(opened, LaneOpened)
    assert (opened.lane, opened.endpoint.startswith(f"{peers.stem}/lane.")) == (4, True)
    chunks = [Chunk("r", 4, number, number, 1, b"x\n") for number in range(300)]
    for chunk in chunks:
        lanes.send(LaneAddress(4), chunk)
    worker = peers.call(zmq.PULL, opened.endpoint)
    assert receive_until(lanes, lambda _: not lanes.pollables()) == []
    assert [receive_message(worker) for _ in chunks] == chunks


def test_closed_lane_drops_unsent_chunks(peers: Peers) -> None:
    lanes = peers.adapter(LaneChannels(peers.own, peers.stem))
    lanes.send(Port.LANES, OpenLane(4))
    lanes.send(LaneAddress(4), Chunk("r", 4, 1, 0, 1, b"x\n"))
    assert list(peers.folder.iterdir())
    lanes.send(Port.LANES, CloseLane(4))
    assert (lanes.pollables(), list(peers.folder.iterdir())) == ([], [])
    # sent before the ventilator knows that the lane is closed
    lanes.send(LaneAddress(4), Chunk("r", 4, 2, 1, 1, b"x\n"))
    lanes.send(Port.LANES, CloseLane(4))
    assert receive_until(lanes) == [LaneOpened(4, f"{peers.stem}/lane.{os.getpid()}.4")]


def test_tcp_lanes_use_ports_in_turn_and_skip_used_ones(peers: Peers) -> None:
    with plain.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        full = peers.adapter(LaneChannels(peers.own, "tcp://127.0.0.1", range(port, port + 1)))
        with pytest.raises(PipelineError, match=f"no free port for a lane in {port}-{port}"):
            full.send(Port.LANES, OpenLane(1))
        lanes = peers.adapter(LaneChannels(peers.own, "tcp://127.0.0.1", range(port, port + 50)))
        for lane in (1, 2):
            lanes.send(Port.LANES, OpenLane(lane))
        one, two = (item.endpoint for item in receive_until(lanes) if isinstance(item, LaneOpened))
        assert len({one, two, f"tcp://127.0.0.1:{port}"}) == 3
    worker = peers.call(zmq.PULL, two)
    lanes.send(LaneAddress(2), Chunk("r", 2, 1, 0, 1, b"x\n"))
    receive_until(lanes, lambda _: not lanes.pollables())
    assert receive_message(worker) == Chunk("r", 2, 1, 0, 1, b"x\n")


# --- results


def test_results_are_in_order_and_limited_per_turn(peers: Peers) -> None:
    results = peers.adapter(ResultsChannel(peers.own, f"{peers.stem}/results"))
    worker = peers.call(zmq.PUSH, "results")
    assert worker.poll(WITHIN, zmq.POLLOUT)
    byes: list[Message] = [Goodbye(str(number)) for number in range(MAX_MESSAGES_PER_POLL + 10)]
    worker.send(b"garbage")
    for bye in byes:
        worker.send_multipart(encode(bye))  # type: ignore[arg-type]
    turns: list[int] = []

    def is_enough(received: list[Message]) -> bool:
        turns.append(len(received))
        return len(received) > len(byes)

    stranger, *received = receive_until(results, is_enough)
    assert isinstance(stranger, PeerRejected)
    assert received == byes
    assert max(later - sooner for sooner, later in pairwise(turns)) <= MAX_MESSAGES_PER_POLL


# --- control


def until(
    control: Adapter, listener: zmq.Socket[bytes], kind: type[WireMessage], again: WireMessage | None = None
) -> list[WireMessage]:
    """Return received messages up to one of this kind, while the adapter reads subscriptions and repeats `again`."""
    received: list[WireMessage] = []
    deadline = time.monotonic() + WITHIN / 1000
    while not received or not isinstance(received[-1], kind):
        assert time.monotonic() < deadline
        assert control.receive() == []
        if listener.poll(10):
            received.append(decode(listener.recv_multipart()))
        elif again:
            control.send(Port.CONTROL, again)
    return received


BOTH = (TOPIC[Ack], TOPIC[Kill])


def test_new_subscriber_receives_latest_ack_or_kill(peers: Peers) -> None:
    control = peers.adapter(ControlPublisher(peers.own, f"{peers.stem}/control"))
    control.send(Port.CONTROL, ACK)
    control.send(Port.CONTROL, STATUS)
    first = peers.call(zmq.SUB, "control", BOTH)
    assert until(control, first, Ack) == [ACK]
    control.send(Port.CONTROL, KILL)
    assert set(until(control, first, Kill)) <= {ACK, KILL}  # a welcome for each of its subscriptions
    assert until(control, peers.call(zmq.SUB, "control", BOTH), Kill) == [KILL]


def test_subscriber_receives_its_topics_only(peers: Peers) -> None:
    control = peers.adapter(ControlPublisher(peers.own, f"{peers.stem}/control"))
    control.send(Port.CONTROL, ACK)
    worker, looks_on = (
        peers.call(zmq.SUB, "control", BOTH),
        peers.call(zmq.SUB, "control", (TOPIC[Ack], TOPIC[RunStatus])),
    )
    assert until(control, worker, Ack) == [ACK]
    assert set(until(control, looks_on, RunStatus, again=STATUS)) == {ACK, STATUS}
    assert set(until(control, worker, Kill, again=KILL)) <= {ACK, KILL}
