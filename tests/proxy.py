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

from orphans import line

WAYS = ("up", "down")
MOST = 1 << 20
"""Bytes that wait in one direction of one connection."""


class Proxy:
    """The tests' side: starts the process and tells it what to do. `at` is where to connect to."""

    def __init__(self, target: str, listen: str = "tcp://127.0.0.1:0") -> None:
        words = [sys.executable, __file__, listen, target]
        self._process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.at = line(self._process).strip()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End it, and with it all connections. May be called twice."""
        self._process.kill()
        self._process.communicate()

    def tell(self, *words: object) -> int:
        """`reset`, or `pass`, `hold`, `swallow`, `delay SECONDS`, each with `up` or `down` or neither; then it is so.

        Answers with the number of connections.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()
        return int(line(self._process))


@dataclass
class Rule:
    """What is done in one direction. `delay` is seconds."""

    mode: str = "pass"
    delay: float = 0.0


@dataclass(eq=False)
class Way:
    """One direction of one connection: what waits in it, and until when."""

    source: socket.socket
    target: socket.socket
    rule: Rule
    waiting: deque[tuple[float, bytes]] = field(default_factory=deque)
    size: int = 0
    ended: bool = False

    def reads(self) -> bool:
        """Whether it takes more."""
        return not self.ended and self.rule.mode != "hold" and self.size < MOST

    def due(self) -> float:
        """When it has something to give; infinite if never."""
        return self.waiting[0][0] if self.waiting and self.rule.mode != "hold" else float("inf")

    def read(self) -> None:
        """Take what has come."""
        data = self.source.recv(65536)
        self.ended = not data
        if self.rule.mode != "swallow":
            self.waiting.append((time.monotonic() + self.rule.delay, data))
            self.size += len(data)

    def write(self) -> None:
        """Give what is due; an end is given, too."""
        due, data = self.waiting.popleft()
        if not data:
            self.target.shutdown(socket.SHUT_WR)
            return
        sent = self.target.send(data)
        self.size -= sent
        if sent < len(data):
            self.waiting.appendleft((due, data[sent:]))


class Switch:
    """The process's side: all connections, and one select."""

    def __init__(self, listen: str, target: str) -> None:
        self._target = target
        self._listener = _open(listen)
        self._listener.bind(_address(listen))
        self._listener.listen(100)
        self._rules = {way: Rule() for way in WAYS}
        self._ways: list[Way] = []
        where = self._listener.getsockname()
        _say(f"tcp://{where[0]}:{where[1]}" if listen.startswith("tcp") else listen)

    def turn(self) -> bool:
        """Wait for something, and do it; False when nobody commands any more."""
        now = time.monotonic()
        soonest = min((way.due() for way in self._ways), default=float("inf"))
        late = [way for way in self._ways if way.due() <= now]
        wait = None if late or soonest == float("inf") else soonest - now
        readers = {way.source: way for way in self._ways if way.reads()}
        writers = {way.target: way for way in late}
        files: list[socket.socket | int] = [0, self._listener, *readers]
        readable, writable, _ = select.select(files, [*writers], [], wait)
        for target in writable:
            self._dare(writers[target], Way.write)
        for source, way in readers.items():
            if source in readable:
                self._dare(way, Way.read)
        if self._listener in readable:
            self._accept()
        return 0 not in readable or self._obey()

    def _dare(self, way: Way, act: Callable[[Way], None]) -> None:
        """Do it; whoever has hung up takes the other with it."""
        try:
            if way in self._ways:
                act(way)
        except BlockingIOError:
            return
        except OSError:
            self._drop(way)
        if all(other.ended and not other.waiting for other in self._both(way)):
            self._drop(way)

    def _accept(self) -> None:
        caller, _ = self._listener.accept()
        callee = _open(self._target)
        try:
            callee.connect(_address(self._target))
        except OSError:
            caller.close()
            callee.close()
            return
        for each in (caller, callee):
            each.setblocking(False)
        self._ways += [Way(caller, callee, self._rules["up"]), Way(callee, caller, self._rules["down"])]

    def _both(self, way: Way) -> list[Way]:
        return [other for other in self._ways if other.source in (way.source, way.target)]

    def _drop(self, way: Way) -> None:
        """Reset: nobody is told goodbye."""
        for other in self._both(way):
            self._ways.remove(other)
            if other.source.family == socket.AF_INET:
                with suppress(OSError):
                    other.source.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            other.source.close()

    def _obey(self) -> bool:
        """One command; its answer is how many connections there were."""
        words = _command().split()
        if not words:
            return False
        count = len(self._ways) // 2
        if words[0] == "reset":
            while self._ways:
                self._drop(self._ways[0])
        else:
            for name in set(WAYS) & set(words) or WAYS:
                rule = self._rules[name]
                rule.mode = "pass" if words[0] == "delay" else words[0]
                rule.delay = float(words[1]) if words[0] == "delay" else 0.0
        _say(str(count))
        return True


def _open(endpoint: str) -> socket.socket:
    return socket.socket(socket.AF_INET if endpoint.startswith("tcp") else socket.AF_UNIX)


def _address(endpoint: str) -> tuple[str, int] | str:
    if endpoint.startswith("ipc://"):
        return endpoint.removeprefix("ipc://")
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, int(port)


def _command() -> str:
    """A line from stdin, which is never read ahead."""
    text = b""
    while not text.endswith(b"\n") and (byte := os.read(0, 1)):
        text += byte
    return text.decode()


def _say(text: str) -> None:
    os.write(1, f"{text}\n".encode())


if __name__ == "__main__":
    switch = Switch(*sys.argv[1:])
    while switch.turn():
        pass
