"""ZeroMQ peers in separate processes that a test can stop and kill, and a monitor of socket events.

A peer runs Python code with `zmq`, a context and its arguments. It prints lines; each wait for a line has a deadline.
"""

from __future__ import annotations

import os
import select
import signal
import socket as plain
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import zmq
from zmq.utils.monitor import recv_monitor_message

TIMEOUT_MS = 60_000
"""Deadline of each wait."""
QUIET_MS = 200
"""Time to wait for an event that must not happen."""
PREAMBLE = """
import os, signal, sys, zmq
context = zmq.Context()
words = sys.argv[1:]
def say(*what): print(*what, flush=True)
def socket(kind, **options):
    made = context.socket(kind)
    for name, value in options.items():
        made.set(getattr(zmq, name), value)
    return made
"""
PeerProcess = subprocess.Popen[bytes]
BytesSocket = zmq.Socket[bytes]


@contextmanager
def start_peer(code: str, *arguments: object) -> Iterator[PeerProcess]:
    """Run `code` in a process, and kill it at the end."""
    argv = [sys.executable, "-c", PREAMBLE + code, *map(str, arguments)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as process:  # two lines may arrive at once
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def read_line(process: PeerProcess, milliseconds: int = TIMEOUT_MS) -> str:
    """Return the next line of the peer, or "" after the deadline."""
    assert process.stdout is not None
    ready = select.select([process.stdout], [], [], milliseconds / 1000)[0]
    return process.stdout.readline().decode().strip() if ready else ""


@contextmanager
def make_sockets() -> Iterator[SocketFactory]:
    """Yield a socket factory, and close all its sockets at the end without linger."""
    made = SocketFactory()
    yield made
    made.context.destroy(linger=0)


class SocketFactory:
    """Context that makes sockets with options by name."""

    def __init__(self) -> None:
        self.context: zmq.Context[BytesSocket] = zmq.Context()

    def __call__(self, kind: int, **options: int | bytes) -> BytesSocket:
        made = self.context.socket(kind)
        made.set(zmq.LINGER, 0)  # otherwise closing a socket could block for ever
        for name, value in options.items():
            made.set(getattr(zmq, name), value)
        return made


def endpoint_of(bound: BytesSocket) -> str:
    """Return the endpoint that the socket is bound to."""
    return bound.get_string(zmq.LAST_ENDPOINT)


class SocketMonitor:
    """Monitor of the connection events of a socket."""

    def __init__(self, socket: BytesSocket) -> None:
        self._events = socket.get_monitor_socket()

    def wait(self, *kinds: zmq.Event) -> zmq.Event:
        """Wait for one of these events."""
        deadline = time.monotonic() + TIMEOUT_MS / 1000
        while time.monotonic() < deadline:
            if self._events.poll(100) and (event := self._next()) in kinds:
                return event
        raise AssertionError(f"none of {kinds} has happened")

    def collect_events(self, milliseconds: int = QUIET_MS) -> list[zmq.Event]:
        """Return all events until none happens for this time."""
        events = []
        while self._events.poll(milliseconds):
            events.append(self._next())
        return events

    def _next(self) -> zmq.Event:
        return zmq.Event(recv_monitor_message(self._events)["event"])


def fill_socket(socket: BytesSocket, message: bytes, limit: int = 50_000, settled: int = QUIET_MS) -> int:
    """Return how many messages the socket accepts, up to `limit`, until it accepts none for `settled` milliseconds."""
    count = 0
    while count < limit and socket.poll(settled, zmq.POLLOUT):
        with suppress(zmq.Again):
            while count < limit:
                socket.send(message, zmq.NOBLOCK)
                count += 1
    return count


def kernel_holds(over: str) -> int:
    """Return how many small messages the send buffer of a connection holds at least on this machine.

    The kernel charges a packet of some bytes with its own overhead, in all less than 2 kB (Linux 6: 768 bytes to 1280).
    The batch of libzmq and the buffer of the receiver hold more.
    """
    if over == "ipc":
        one, two = plain.socketpair()
    else:
        with plain.create_server(("127.0.0.1", 0)) as server:
            one, two = plain.create_connection(server.getsockname()), server.accept()[0]
    with one, two:
        return one.getsockopt(plain.SOL_SOCKET, plain.SO_SNDBUF) // 2048
