"""Channels that connect, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Callable

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
from pipeline.transport import channels
from pipeline.transport.channels import ControlPublisher
from pipeline.transport.codec import decode, encode
from tests.unit.transport.peers import ACK, PULSE, WITHIN, Peers

CHUNK = Chunk("r", 1, 1, 0, 1, b"x\n")


def frames(socket: zmq.Socket[bytes], adapter: Adapter) -> list[bytes]:
    """Return the next frames of this socket, while the adapter is polled."""
    deadline = time.monotonic() + WITHIN / 1000
    while not socket.poll(10):
        adapter.receive()
        assert time.monotonic() < deadline
    return socket.recv_multipart()


def receive_message(socket: zmq.Socket[bytes], adapter: Adapter) -> WireMessage:
    return decode(frames(socket, adapter))


def receive_until(adapter: Adapter, meanwhile: Callable[[], object] = lambda: None) -> list[Message]:
    """Return the messages of the adapter, as soon as there are any."""
    deadline = time.monotonic() + WITHIN / 1000
    while not (received := adapter.receive()):
        meanwhile()
        assert time.monotonic() < deadline
    return received


def test_registry_channel_sends_and_receives(peers: Peers) -> None:
    router = peers.bind(zmq.ROUTER, "desk")
    desk = peers.adapter(channels.connect_registry(peers.own, f"{peers.stem}/desk"))
    desk.send(Port.REGISTRY, PULSE)
    peer, *told = frames(router, desk)
    assert decode(told) == PULSE
    welcome = Registration("r", "run", "", RecordFormat(), 1, "ipc://l", "ipc://s", "ipc://c", 1.0, 10.0)
    router.send_multipart([peer, *encode(welcome)])
    assert receive_until(desk) == [welcome]


def test_unconnected_channel_keeps_messages_and_newest_heartbeat(peers: Peers) -> None:
    results = peers.adapter(channels.connect_results(peers.own, f"{peers.stem}/results"))
    run, bye = VentilatorState("r", 1, "print", "feeding", -1, ""), Goodbye("ann")
    pulses = [Heartbeat("ann", number, "r", "d", "wc", 2, 1, 0, 4, (), (), 0, 0.0, 0) for number in (1, 2, 3)]
    for message in (pulses[0], run, pulses[1], bye, pulses[2]):
        results.send(Port.RESULTS, message)
    assert results.pollables() == [(results.pollables()[0][0], zmq.POLLIN | zmq.POLLOUT)]  # type: ignore[index]
    pull = peers.bind(zmq.PULL, "results")
    assert [receive_message(pull, results) for _ in range(3)] == [run, bye, pulses[2]]
    assert not isinstance(results.pollables()[0], tuple)


def test_channel_without_endpoint_keeps_messages(peers: Peers) -> None:
    results = peers.adapter(channels.connect_results(peers.own))
    results.send(Port.RESULTS, Goodbye("ann"))
    assert (results.pollables(), results.receive()) == ([], [])
    pull = peers.bind(zmq.PULL, "results")
    results.send(Port.RESULTS, Reconnect(f"{peers.stem}/results"))
    assert receive_message(pull, results) == Goodbye("ann")


def test_reconnect_opens_new_socket_to_same_endpoint(peers: Peers) -> None:
    results = peers.adapter(channels.connect_results(peers.own, f"{peers.stem}/results"))
    before = results.pollables()
    results.send(Port.RESULTS, Reconnect())
    assert results.pollables() != before
    pull = peers.bind(zmq.PULL, "results")
    results.send(Port.RESULTS, Goodbye("ann"))
    assert receive_message(pull, results) == Goodbye("ann")


def test_lane_connects_once_per_endpoint(peers: Peers) -> None:
    lane = peers.adapter(channels.connect_lane(peers.own))
    assert (lane.pollables(), lane.receive()) == ([], [])
    lane.send(Port.LANES, Reconnect())  # no endpoint yet
    assert lane.pollables() == []
    push = peers.bind(zmq.PUSH, "lane.1")
    lane.send(Port.LANES, Reconnect(f"{peers.stem}/lane.1"))
    files = lane.pollables()
    lane.send(Port.LANES, Reconnect(f"{peers.stem}/lane.1"))
    assert lane.pollables() == files
    push.send_multipart(encode(CHUNK))
    push.send(b"garbage")
    push.send(b"garbage")
    received: list[Message] = []
    while len(received) < 2:
        received += receive_until(lane)
    assert received[0] == CHUNK
    assert isinstance(received[1], PeerRejected)
    lane.send(Port.LANES, Reconnect(f"{peers.stem}/lane.2"))
    assert lane.pollables() != files


def test_control_receives_status_only_if_asked(peers: Peers) -> None:
    out = peers.adapter(ControlPublisher(peers.own, f"{peers.stem}/control"))
    status, kill = RunStatus("r", "done", 0, 0, 0, -1, (), ()), Kill("r", "done", "", 0)
    out.send(Port.CONTROL, ACK)
    worker = peers.adapter(channels.connect_control(peers.own, f"{peers.stem}/control"))
    looks_on = peers.adapter(channels.connect_control(peers.own, f"{peers.stem}/control", with_status=True))

    def broadcast() -> None:
        out.receive()
        out.send(Port.CONTROL, status)

    kinds: set[type] = set()
    while RunStatus not in kinds:
        kinds |= {type(message) for message in receive_until(looks_on, broadcast)}
    received = receive_until(worker, broadcast)
    out.send(Port.CONTROL, kill)
    while kill not in received:
        received += receive_until(worker, out.receive)
    assert {type(message) for message in received} == {Ack, Kill}
