"""ZeroMQ sockets with the options that this design leans on, bound or connected.

Every option is set before bind or connect, and each has its reason in docs/protocol.md. There are no ZMTP heartbeats:
they drop healthy connections under back-pressure. A context belongs to one process; a socket to one edge.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import zmq

from pipeline.model.errors import PipelineError, UsageError

SMALL_HWM = 16
"""High-water mark of what is repeated anyway."""

OPTIONS = {
    zmq.LINGER: 1000,
    zmq.BACKLOG: 4096,
    zmq.HANDSHAKE_IVL: 3000,
    zmq.CONNECT_TIMEOUT: 3000,
    zmq.TCP_KEEPALIVE: 1,
    zmq.TCP_KEEPALIVE_IDLE: 5,
    zmq.TCP_KEEPALIVE_INTVL: 2,
    zmq.TCP_KEEPALIVE_CNT: 3,
    zmq.TCP_MAXRT: 10000,
}
RECONNECT_MILLISECONDS = {"ipc": (5, 1000), "tcp": (100, 5000)}
"""Milliseconds between tries to connect, first and last: a local peer is there at once, a fleet must not storm."""


class ZmqContext:
    """One process's context."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 16384)
        self.pid = os.getpid()
        self.name = f"{self._context.underlying:#x}"

    def connect(
        self, socket_type: int, endpoint: str, *, hwm: int = 0, topics: tuple[bytes, ...] = ()
    ) -> zmq.Socket[bytes]:
        """A socket that connects to `at`, now or as soon as somebody is there."""
        socket = self._create_socket(socket_type, endpoint, hwm)
        if socket_type in (zmq.PUSH, zmq.DEALER):
            socket.setsockopt(zmq.IMMEDIATE, 1)
        first, last = RECONNECT_MILLISECONDS[endpoint[:3]]
        socket.setsockopt(zmq.RECONNECT_IVL, first)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, last)
        for topic in topics:
            socket.setsockopt(zmq.SUBSCRIBE, topic)
        self._run_or_close(lambda: socket.connect(endpoint), socket, endpoint)
        return socket

    def bind(self, socket_type: int, endpoint: str, *, hwm: int = 0) -> zmq.Socket[bytes]:
        """A socket bound to `at`; for ipc the caller holds the lock of that path.

        Raises:
            PipelineError: the endpoint is taken. UsageError: it can't be one of this machine's.
        """
        if endpoint.startswith("ipc://"):
            _check_socket_path(endpoint)
        socket = self._create_socket(socket_type, endpoint, hwm)
        if socket_type == zmq.ROUTER:
            socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._run_or_close(lambda: socket.bind(endpoint), socket, endpoint)
        return socket

    def _create_socket(self, socket_type: int, endpoint: str, hwm: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(socket_type)
        for option, value in OPTIONS.items():
            socket.setsockopt(option, value)
        socket.setsockopt(zmq.SNDHWM, hwm)
        socket.setsockopt(zmq.RCVHWM, hwm)
        if "[" in endpoint:
            socket.setsockopt(zmq.IPV6, 1)
        return socket

    @staticmethod
    def _run_or_close(action: object, socket: zmq.Socket[bytes], endpoint: str) -> None:
        try:
            action()  # type: ignore[operator]
        except zmq.ZMQError as error:
            socket.close(linger=0)
            if error.errno == zmq.EADDRINUSE:
                raise PipelineError(f"{endpoint} is taken by another process; end it, or meet elsewhere") from None
            raise UsageError(f"cannot use {endpoint}: {error.strerror or error}") from None

    def close(self) -> None:
        """Wait for what the closed sockets still have to send, at most their linger."""
        self._context.term()


def _check_socket_path(endpoint: str) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PipelineError(f"{path} is in the way and not a socket; bind() would delete it")


def close(socket: zmq.Socket[bytes] | None, linger: int = 1000) -> None:
    """Close a socket that connects; what it still has to send gets `linger` milliseconds."""
    if socket is not None and not socket.closed:
        socket.close(linger=linger)


def unbind(socket: zmq.Socket[bytes] | None, linger: int = 1000) -> None:
    """Close a bound socket, and remove its ipc file: libzmq leaves it."""
    if socket is None or socket.closed:
        return
    at = socket.getsockopt(zmq.LAST_ENDPOINT)
    socket.close(linger=linger)
    if isinstance(at, bytes) and at.startswith(b"ipc://"):
        Path(os.fsdecode(at.rstrip(b"\0"))[len("ipc://") :]).unlink(missing_ok=True)
