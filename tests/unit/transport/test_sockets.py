"""Sockets: bind, connect, errors, close."""

from __future__ import annotations

import os
import socket as plain
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
from zmq.utils.monitor import recv_monitor_message

from pipeline.model.errors import PipelineError, UsageError
from pipeline.transport import sockets
from pipeline.transport.sockets import OPTIONS, RECONNECT_MILLISECONDS, ZmqContext

WITHIN = 10_000


@pytest.fixture
def context() -> Iterator[ZmqContext]:
    made = ZmqContext()
    yield made
    made.close()


@pytest.fixture
def closing() -> Iterator[Callable[[zmq.Socket[bytes]], zmq.Socket[bytes]]]:
    """Return a function that registers a socket to be closed at the end of the test."""
    opened: list[zmq.Socket[bytes]] = []

    def keep(socket: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
        opened.append(socket)
        return socket

    yield keep
    for socket in opened:
        sockets.close(socket, linger=0)


Closing = Callable[[zmq.Socket[bytes]], zmq.Socket[bytes]]


def test_context_has_pid_and_name() -> None:
    one, other = ZmqContext(), ZmqContext()
    assert one.pid == os.getpid()
    assert one.name.startswith("0x")
    assert one.name != other.name
    one.close()
    other.close()


def test_connected_socket_sends_to_bound_one(context: ZmqContext, closing: Closing, tmp_path: Path) -> None:
    at = f"ipc://{tmp_path}/results"
    sender = closing(context.connect(zmq.PUSH, at))  # no peer yet
    assert sender.poll(0, zmq.POLLOUT) == 0  # so no message is queued
    receiver = closing(context.bind(zmq.PULL, at))
    assert sender.poll(WITHIN, zmq.POLLOUT)
    sender.send_multipart([b"one", b"two"])
    assert receiver.poll(WITHIN)
    assert receiver.recv_multipart() == [b"one", b"two"]


def test_missing_local_peer_is_tried_every_50_ms(context: ZmqContext, closing: Closing, tmp_path: Path) -> None:
    waiting = closing(context.connect(zmq.DEALER, f"ipc://{tmp_path}/registry"))
    monitor = closing(waiting.get_monitor_socket(zmq.EVENT_CONNECT_RETRIED))
    delays: list[int] = []
    while len(delays) < 8:  # enough for a delay that doubles each time to exceed the limit
        assert monitor.poll(WITHIN)
        delays.append(recv_monitor_message(monitor)["value"])
    assert max(delays) == 50


@pytest.mark.parametrize("scheme", ["ipc", "tcp"])
def test_every_socket_option_is_set(context: ZmqContext, closing: Closing, tmp_path: Path, scheme: str) -> None:
    at = f"ipc://{tmp_path}/x" if scheme == "ipc" else "tcp://127.0.0.1:1"
    connected = closing(context.connect(zmq.DEALER, at, hwm=16))
    bound = closing(context.bind(zmq.PUSH, f"ipc://{tmp_path}/y"))
    for socket, marks in ((connected, 16), (bound, 0)):
        assert {option: socket.getsockopt(option) for option in OPTIONS} == OPTIONS
        assert (socket.getsockopt(zmq.SNDHWM), socket.getsockopt(zmq.RCVHWM)) == (marks, marks)
        assert socket.getsockopt(zmq.HEARTBEAT_IVL) == 0
    assert connected.getsockopt(zmq.IMMEDIATE) == 1
    assert (
        connected.getsockopt(zmq.RECONNECT_IVL),
        connected.getsockopt(zmq.RECONNECT_IVL_MAX),
    ) == RECONNECT_MILLISECONDS[scheme]


def test_connect_subscribes_to_topics(context: ZmqContext, closing: Closing, tmp_path: Path) -> None:
    control = closing(context.bind(zmq.XPUB, f"ipc://{tmp_path}/control"))
    closing(context.connect(zmq.SUB, f"ipc://{tmp_path}/control", topics=(b"pipe2.ack ", b"pipe2.kill ")))
    heard = set()
    for _ in range(2):
        assert control.poll(WITHIN)
        heard.add(control.recv())
    assert heard == {b"\1pipe2.ack ", b"\1pipe2.kill "}


def test_router_unknown_peer_raises(context: ZmqContext, closing: Closing, tmp_path: Path) -> None:
    desk = closing(context.bind(zmq.ROUTER, f"ipc://{tmp_path}/desk"))
    with pytest.raises(zmq.ZMQError) as raised:
        desk.send_multipart([b"nobody", b"x"], zmq.NOBLOCK)
    assert raised.value.errno == zmq.EHOSTUNREACH


def test_bind_used_endpoint_raises(context: ZmqContext, closing: Closing) -> None:
    with plain.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        at = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(PipelineError, match=f"{at} is in use by another process") as raised:
            closing(context.bind(zmq.PULL, at))
        assert not isinstance(raised.value, UsageError)


def test_bind_foreign_address_is_usage_error(context: ZmqContext, closing: Closing) -> None:
    with pytest.raises(UsageError, match=r"cannot use tcp://192.0.2.1:5557"):
        closing(context.bind(zmq.PULL, "tcp://192.0.2.1:5557"))


def test_bind_keeps_file_that_is_no_socket(context: ZmqContext, closing: Closing, tmp_path: Path) -> None:
    (tmp_path / "desk").write_text("precious")
    with pytest.raises(PipelineError, match="a file that is not a socket exists"):
        closing(context.bind(zmq.ROUTER, f"ipc://{tmp_path}/desk"))
    assert (tmp_path / "desk").read_text() == "precious"


@pytest.mark.parametrize("kind", [zmq.ROUTER, zmq.XPUB, zmq.PULL, zmq.PUSH])
def test_unbind_removes_ipc_file(context: ZmqContext, tmp_path: Path, kind: int) -> None:
    bound = context.bind(kind, f"ipc://{tmp_path}/here")
    assert (tmp_path / "here").is_socket()
    sockets.unbind(bound)
    sockets.unbind(bound)
    assert not list(tmp_path.iterdir())


def test_close_none_has_no_effect() -> None:
    sockets.close(None)
    sockets.unbind(None)


def test_last_message_is_sent_after_close(tmp_path: Path) -> None:
    theirs, ours = ZmqContext(), ZmqContext()
    receiver = theirs.bind(zmq.PULL, f"ipc://{tmp_path}/results")
    sender = ours.connect(zmq.PUSH, f"ipc://{tmp_path}/results")
    assert sender.poll(WITHIN, zmq.POLLOUT)
    for _ in range(1000):
        sender.send(b"x" * 1000)
    sockets.close(sender)
    ours.close()
    for _ in range(1000):
        assert receiver.poll(WITHIN)
        receiver.recv()
    sockets.close(receiver)
    theirs.close()
