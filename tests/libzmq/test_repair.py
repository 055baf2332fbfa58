"""Assumptions about libzmq with broken connections and used endpoints."""

from __future__ import annotations

import socket as plain
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from tests.libzmq.peers import (
    QUIET_MS,
    TIMEOUT_MS,
    BytesSocket,
    SocketFactory,
    SocketMonitor,
    endpoint_of,
    make_sockets,
)
from tests.support.processes import wait_until
from tests.support.proxy import Proxy

RETRIES = {zmq.Event.CONNECT_RETRIED, zmq.Event.CONNECT_DELAYED, zmq.Event.CONNECTED}
OTHERS_GREETING = b"\xff" + bytes(8) + b"\x7f" + b"\x03\x00" + b"PLAIN".ljust(20, b"\0") + bytes(32)
"""The greeting of a peer that requires a password."""


@pytest.fixture
def make() -> Iterator[SocketFactory]:
    with make_sockets() as made:
        yield made


def test_broken_connection_is_reconnected(make: SocketFactory, tmp_path: Path) -> None:
    at, pull = f"ipc://{tmp_path}/lane", make(zmq.PULL, RECONNECT_IVL=5)
    pull.connect(at)
    for word in (b"one", b"two"):
        push = make(zmq.PUSH)
        push.bind(at)
        push.send(word)
        assert pull.poll(TIMEOUT_MS)
        assert pull.recv() == word
        push.close(linger=0)


def test_oversized_message_stops_reconnection(make: SocketFactory, tmp_path: Path) -> None:
    at, pull, push = f"ipc://{tmp_path}/lane", make(zmq.PULL, MAXMSGSIZE=1000, RECONNECT_IVL=5), make(zmq.PUSH)
    monitor = SocketMonitor(pull)
    push.bind(at)
    pull.connect(at)
    push.send(b"small")
    assert pull.poll(TIMEOUT_MS)
    assert pull.recv() == b"small"
    push.send(b"x" * 2000)
    monitor.wait(zmq.Event.DISCONNECTED)
    assert not RETRIES & set(monitor.collect_events())
    assert not push.poll(0, zmq.POLLOUT)
    pull.disconnect(at)  # this repairs the connection
    pull.connect(at)
    assert push.poll(TIMEOUT_MS, zmq.POLLOUT)


@pytest.mark.parametrize(("answer", "again"), [(OTHERS_GREETING, False), (b"", True)], ids=["other mechanism", "reset"])
def test_protocol_error_stops_reconnection(make: SocketFactory, answer: bytes, *, again: bool) -> None:
    with plain.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_MS / 1000)
        dealer = make(zmq.DEALER, RECONNECT_IVL=5)
        dealer.connect(f"tcp://127.0.0.1:{server.getsockname()[1]}")
        caller, _ = server.accept()
        with caller:
            caller.settimeout(TIMEOUT_MS / 1000)
            caller.recv(1)
            if answer:
                caller.sendall(answer)
                while caller.recv(100):  # until it closes the connection
                    pass
        server.settimeout(QUIET_MS / 1000 if not again else TIMEOUT_MS / 1000)
        try:
            server.accept()[0].close()
            came = True
        except TimeoutError:
            came = False
        assert came is again


def test_reconnected_dealer_gets_a_new_routing_id(make: SocketFactory, tmp_path: Path) -> None:
    at, desk, worker = f"ipc://{tmp_path}/desk", make(zmq.ROUTER, ROUTER_MANDATORY=1), make(zmq.DEALER, RECONNECT_IVL=5)
    desk.bind(at)

    def heartbeat() -> bytes:
        """Send heartbeats until one arrives, and return the routing id of the sender."""
        while not desk.poll(10):
            worker.send(b"heartbeat", zmq.NOBLOCK)
        return desk.recv_multipart()[0]

    with Proxy(at, f"ipc://{tmp_path}/proxy") as proxy:
        worker.connect(proxy.endpoint)
        before = heartbeat()
        while desk.poll(0):
            desk.recv_multipart()
        assert proxy.send_command("reset") == 1
        wait_until(lambda: _error(desk, before) == zmq.EHOSTUNREACH)
        assert heartbeat() != before


def _error(desk: BytesSocket, peer: bytes) -> int:
    """Return the errno of a send to this peer; 0 if it succeeds."""
    try:
        desk.send_multipart([peer, b"welcome"], zmq.NOBLOCK)
    except zmq.ZMQError as error:
        return error.errno or -1
    return 0


def test_bind_removes_a_regular_file(make: SocketFactory, tmp_path: Path) -> None:
    (tmp_path / "desk").write_text("precious")
    make(zmq.ROUTER).bind(f"ipc://{tmp_path}/desk")
    assert (tmp_path / "desk").is_socket()


def test_bind_silently_replaces_a_live_owner(make: SocketFactory, tmp_path: Path) -> None:
    at = f"ipc://{tmp_path}/results"
    owner, thief, late = make(zmq.PULL), make(zmq.PULL), make(zmq.PUSH)
    monitor = SocketMonitor(owner)
    owner.bind(at)
    thief.bind(at)
    late.connect(at)
    late.send(b"result")
    assert thief.poll(TIMEOUT_MS)
    assert set(monitor.collect_events(10)) <= {zmq.Event.LISTENING}


def test_ipc_file_outlives_its_socket(tmp_path: Path) -> None:
    with make_sockets() as make:
        make(zmq.PULL).bind(f"ipc://{tmp_path}/results")
    assert (tmp_path / "results").is_socket()


def test_bind_to_used_port_is_an_error(make: SocketFactory) -> None:
    first = make(zmq.PULL)
    first.bind("tcp://127.0.0.1:*")
    with pytest.raises(zmq.ZMQError) as raised:
        make(zmq.PULL).bind(endpoint_of(first))
    assert raised.value.errno == zmq.EADDRINUSE
