"""The proxy of the fault tests executes its commands; otherwise those tests would prove nothing."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.processes import wait_until
from tests.support.proxy import Proxy

SOON, WITHIN = 0.15, 60.0


class Ends(NamedTuple):
    """Both ends of a connection through the proxy."""

    proxy: Proxy
    server: socket.socket
    caller: socket.socket
    callee: socket.socket


def called(proxy: Proxy, server: socket.socket) -> tuple[socket.socket, socket.socket]:
    """Open a new connection."""
    if proxy.endpoint.startswith("ipc"):
        caller = socket.socket(socket.AF_UNIX)
        caller.connect(proxy.endpoint.removeprefix("ipc://"))
    else:
        caller = socket.create_connection(("127.0.0.1", int(proxy.endpoint.rpartition(":")[2])))
    callee, _ = server.accept()
    for each in (caller, callee):
        each.settimeout(WITHIN)
    return caller, callee


@pytest.fixture(params=["tcp", "ipc"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    if request.param == "tcp":
        server = socket.create_server(("127.0.0.1", 0))
        proxy = Proxy(f"tcp://127.0.0.1:{server.getsockname()[1]}")
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "server"))
        server.listen()
        proxy = Proxy(f"ipc://{tmp_path}/server", f"ipc://{tmp_path}/proxy")
    server.settimeout(WITHIN)
    with closing(server), proxy:
        caller, callee = called(proxy, server)
        with closing(caller), closing(callee):
            yield Ends(proxy, server, caller, callee)


def arrives(end: socket.socket, expected: bytes) -> None:
    got = b""
    while len(got) < len(expected):
        got += end.recv(65536)
    assert got == expected


def silent(end: socket.socket) -> None:
    end.settimeout(SOON)
    with pytest.raises(TimeoutError):
        end.recv(1)
    end.settimeout(WITHIN)


def test_proxy_forwards_bytes_and_end_both_ways(ends: Ends) -> None:
    ends.caller.sendall(b"up" * 100_000)
    arrives(ends.callee, b"up" * 100_000)
    ends.callee.sendall(b"down")
    arrives(ends.caller, b"down")
    ends.caller.shutdown(socket.SHUT_WR)
    assert ends.callee.recv(1) == b""
    ends.callee.sendall(b"last")
    arrives(ends.caller, b"last")


def test_reset_closes_connections_and_accepts_new_ones(ends: Ends) -> None:
    assert ends.proxy.send_command("reset") == 1
    for end in (ends.caller, ends.callee):
        with suppress(ConnectionResetError):
            assert end.recv(1) == b""
    assert ends.proxy.send_command("reset") == 0
    caller, callee = called(ends.proxy, ends.server)
    caller.sendall(b"again")
    arrives(callee, b"again")
    caller.close()
    callee.close()


@pytest.mark.parametrize("way", ["up", "down", ""])
def test_held_bytes_arrive_later_on_open_connections(ends: Ends, way: str) -> None:
    ends.proxy.send_command("hold", way)
    held = [pair for pair in ((ends.caller, ends.callee, "up"), (ends.callee, ends.caller, "down")) if way in pair[2]]
    for sender, receiver, _ in held:
        sender.sendall(b"held")
        silent(receiver)
    if way == "up":
        ends.callee.sendall(b"free")
        arrives(ends.caller, b"free")
    ends.proxy.send_command("pass")
    for _, receiver, _ in held:
        arrives(receiver, b"held")


def test_swallowed_bytes_never_arrive(ends: Ends) -> None:
    ends.proxy.send_command("swallow", "up")
    ends.caller.sendall(b"lost")
    silent(ends.callee)
    ends.callee.sendall(b"free")
    arrives(ends.caller, b"free")
    ends.proxy.send_command("pass")
    ends.caller.sendall(b"kept")
    arrives(ends.callee, b"kept")


def test_delayed_bytes_arrive_in_order(ends: Ends) -> None:
    ends.proxy.send_command("delay", SOON, "up")
    sent_at = time.monotonic()
    ends.caller.sendall(b"one")
    ends.caller.sendall(b"two")
    arrives(ends.callee, b"onetwo")
    assert time.monotonic() - sent_at >= SOON


def test_proxy_without_server_rejects_and_stays(ends: Ends) -> None:
    ends.server.close()
    for _ in range(2):
        with pytest.raises((OSError, AssertionError)):
            called(ends.proxy, ends.server)
    wait_until(lambda: ends.proxy.send_command("pass") == 1)
