"""ZeroMQ sockets with the options of this design.

- All options are set before bind or connect; docs/protocol.md gives the reason of each.
- There are no ZMTP heartbeats: they drop healthy connections under backpressure.
- A context belongs to one process, a socket to one channel.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress

import zmq

from pipeline.model.errors import PipelineError, UsageError

SMALL_HWM = 16
"""High-water mark of messages that are repeated anyway."""

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
RECONNECT_MILLISECONDS = {"ipc": (5, 50), "tcp": (100, 5000)}
"""First and last delay between connection attempts: local peers start at once, a fleet must not storm."""


class ZmqContext:
    """The ZeroMQ context of this process."""

    def __init__(self) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.set(zmq.MAX_SOCKETS, 16384)
        self.pid = os.getpid()
        self.name = f"{self._context.underlying:#x}"

    def connect(
        self, socket_type: int, endpoint: str, *, hwm: int = 0, topics: tuple[bytes, ...] = ()
    ) -> zmq.Socket[bytes]:
        """Return a socket that connects to `endpoint`, now or as soon as a peer binds it."""
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
        """Return a socket bound to `endpoint`. For ipc, the caller holds the lock of that path.

        Raises:
            PipelineError: the endpoint is in use.
            UsageError: this machine cannot bind the endpoint.
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
                raise PipelineError(
                    f"{endpoint} is in use by another process", "stop that process, or use other endpoints"
                ) from None
            raise UsageError(f"cannot use {endpoint}: {error.strerror or error}") from None

    def close(self) -> None:
        """Wait until closed sockets have sent their messages, at most their linger."""
        self._context.term()


def _check_socket_path(endpoint: str) -> None:
    # bind() deletes whatever is at its path
    path = endpoint.removeprefix("ipc://")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise PipelineError(f"cannot bind to {path}: a file that is not a socket exists", "remove it")


def close(socket: zmq.Socket[bytes] | None, linger: int = 1000) -> None:
    """Close a connecting socket. Unsent messages have `linger` milliseconds."""
    if socket is not None and not socket.closed:
        socket.close(linger=linger)


def unbind(socket: zmq.Socket[bytes] | None, linger: int = 1000) -> None:
    """Close a bound socket and remove its ipc file, which libzmq leaves."""
    if socket is None or socket.closed:
        return
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    socket.close(linger=linger)
    if isinstance(endpoint, bytes) and endpoint.startswith(b"ipc://"):
        with suppress(FileNotFoundError):
            os.unlink(endpoint.rstrip(b"\0").removeprefix(b"ipc://"))
