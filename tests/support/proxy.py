"""A proxy between two endpoints, in a process of its own, that does to connections what a bad network does.

It passes bytes, and when told resets all connections, holds them (nothing moves, nobody hangs up), swallows what comes,
or delays it; both ways, or `up` (from who connects) or `down` alone. It knows nothing of what it carries.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from tests.support.processes import ROOT, read_line

DIRECTIONS = ("up", "down")
MAX_WAITING_BYTES = 1 << 20
"""Bytes that wait in one direction of one connection."""


class Proxy:
    """The tests' side: starts the process and tells it what to do. `at` is where to connect to."""

    def __init__(self, target: str, listen: str = "tcp://127.0.0.1:0") -> None:
        words = [sys.executable, "-m", "tests.support.proxy", listen, target]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.endpoint = read_line(self._process).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and with it all connections. May be called twice."""
        self._process.kill()
        self._process.communicate()

    def send_command(self, *arguments: object) -> int:
        """`reset`, or `pass`, `hold`, `swallow`, `delay SECONDS`, each with `up` or `down` or neither; then it is so.

        Answers with the number of connections.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, arguments)) + "\n")
        self._process.stdin.flush()
        return int(read_line(self._process))


@dataclass
class ProxyRule:
    """What is done in one direction. `delay` is seconds."""

    mode: str = "pass"
    delay: float = 0.0


@dataclass(eq=False)
class ProxyStream:
    """One direction of one connection: what waits in it, and until when."""

    source: socket.socket
    target: socket.socket
    rule: ProxyRule
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    waiting_bytes: int = 0
    is_ended: bool = False

    def can_read(self) -> bool:
        """Whether it takes more."""
        return not self.is_ended and self.rule.mode != "hold" and self.waiting_bytes < MAX_WAITING_BYTES

    def due_at(self) -> float:
        """When it has something to give; infinite if never."""
        return self.waiting[0][0] if self.waiting and self.rule.mode != "hold" else float("inf")

    def read(self) -> None:
        """Take what has come."""
        data = self.source.recv(65536)
        self.is_ended = not data
        if self.rule.mode != "swallow":
            self.waiting.append((time.monotonic() + self.rule.delay, data))
            self.waiting_bytes += len(data)

    def write(self) -> None:
        """Give what is due; an end is given, too."""
        due, data = self.waiting.popleft()
        if not data:
            self.target.shutdown(socket.SHUT_WR)
            return
        sent = self.target.send(data)
        self.waiting_bytes -= sent
        if sent < len(data):
            self.waiting.appendleft((due, data[sent:]))


class ProxyServer:
    """The process's side: all connections, and one select."""

    def __init__(self, listen: str, target: str) -> None:
        self._target = target
        self._listener = _make_socket(listen)
        self._listener.bind(_address(listen))
        self._listener.listen(100)
        self._rules = {way: ProxyRule() for way in DIRECTIONS}
        self._streams: list[ProxyStream] = []
        where = self._listener.getsockname()
        _write_line(f"tcp://{where[0]}:{where[1]}" if listen.startswith("tcp") else listen)

    def run_once(self) -> bool:
        """Wait for something, and do it; False when nobody commands any more."""
        now = time.monotonic()
        soonest = min((way.due_at() for way in self._streams), default=float("inf"))
        late = [way for way in self._streams if way.due_at() <= now]
        wait = None if late or soonest == float("inf") else soonest - now
        readers = {way.source: way for way in self._streams if way.can_read()}
        writers = {way.target: way for way in late}
        files: list[socket.socket | int] = [0, self._listener, *readers]
        readable, writable, _ = select.select(files, [*writers], [], wait)
        for target in writable:
            self._transfer(writers[target], ProxyStream.write)
        for source, way in readers.items():
            if source in readable:
                self._transfer(way, ProxyStream.read)
        if self._listener in readable:
            self._accept()
        return 0 not in readable or self._handle_command()

    def _transfer(self, stream: ProxyStream, transfer: Callable[[ProxyStream], None]) -> None:
        """Do it; whoever has hung up takes the other with it."""
        try:
            if stream in self._streams:
                transfer(stream)
        except BlockingIOError:
            return
        except OSError:
            self._reset(stream)
        if all(other.is_ended and not other.waiting for other in self._both_streams(stream)):
            self._reset(stream)

    def _accept(self) -> None:
        caller, _ = self._listener.accept()
        callee = _make_socket(self._target)
        try:
            callee.connect(_address(self._target))
        except OSError:
            caller.close()
            callee.close()
            return
        for each in (caller, callee):
            each.setblocking(False)
        self._streams += [
            ProxyStream(caller, callee, self._rules["up"]),
            ProxyStream(callee, caller, self._rules["down"]),
        ]

    def _both_streams(self, stream: ProxyStream) -> list[ProxyStream]:
        return [other for other in self._streams if other.source in (stream.source, stream.target)]

    def _reset(self, stream: ProxyStream) -> None:
        """Reset: nobody is told goodbye."""
        for other in self._both_streams(stream):
            self._streams.remove(other)
            if other.source.family == socket.AF_INET:
                with suppress(OSError):
                    other.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            other.source.close()

    def _handle_command(self) -> bool:
        """One command; its answer is how many connections there were."""
        words = _read_command().split()
        if not words:
            return False
        count = len(self._streams) // 2
        if words[0] == "reset":
            while self._streams:
                self._reset(self._streams[0])
        else:
            for name in set(DIRECTIONS) & set(words) or DIRECTIONS:
                rule = self._rules[name]
                rule.mode = "pass" if words[0] == "delay" else words[0]
                rule.delay = float(words[1]) if words[0] == "delay" else 0.0
        _write_line(str(count))
        return True


def _make_socket(endpoint: str) -> socket.socket:
    return socket.socket(socket.AF_INET if endpoint.startswith("tcp") else socket.AF_UNIX)


def _address(endpoint: str) -> tuple[str, int] | str:
    if endpoint.startswith("ipc://"):
        return endpoint.removeprefix("ipc://")
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _read_command() -> str:
    """A line from stdin, which is never read ahead."""
    text = b""
    while not text.endswith(b"\n") and (byte := os.read(0, 1)):
        text += byte
    return text.decode()


def _write_line(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    switch = ProxyServer(*sys.argv[1:])
    while switch.run_once():
        pass
