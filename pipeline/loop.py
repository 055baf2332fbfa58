"""The one loop: carries messages between one station and its edges. The only place where a station meets time.

A turn waits for files or the deadline, lets every ready edge speak, and gives the station its tick only when all that
had arrived is known, so that nobody is thought silent whose words were waiting. Signals become messages. No decisions.
"""

from __future__ import annotations

import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from typing import Any, Protocol

import zmq

from pipeline.failpoints import armed
from pipeline.house.decisions import VENTILATOR_DEAD
from pipeline.house.signals import ASKED
from pipeline.words import errors
from pipeline.words.errands import Foreign
from pipeline.words.errors import PipelineError, StationError
from pipeline.words.messages import Stop
from pipeline.words.notices import Asked, Preparing, Refused, VentilatorDead, Waiting
from pipeline.words.station import Address, Caller, Edge, Lane, Message, Port, Station

STORY = 50
"""Words remembered for the story of a bug."""
STALLED = 0.5
"""Seconds that a wait was too long: this process was stopped, or the machine asleep, and much may have arrived."""
NOTICES: dict[int, Message] = {ASKED: Asked(), VENTILATOR_DEAD: VentilatorDead()}
"""What the station receives for a signal that is not a request to stop."""
NAMES: dict[int, str] = {signal.SIGINT: "^C", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}


class Signals(Protocol):
    """Where signals arrive."""

    def fileno(self) -> int:
        """Readable when one has."""

    def taken(self) -> list[int]:
        """Those that have."""


class Loop:
    """One station, its edges, and what wakes them."""

    def __init__(
        self,
        station: Station,
        edges: dict[Port, Edge],
        signals: Signals,
        keeper: int | None = None,
        told: Callable[[Message], None] = lambda _: None,
    ) -> None:
        self._station, self._edges = armed(station, edges)
        self._signals, self._keeper, self._told = signals, keeper, told
        self._poller = zmq.Poller()
        self._files: dict[Port, list[object]] = {}
        self._owner: dict[object, Port] = {}
        self._touched: set[Port] = set(edges)
        self._stops = 0
        self._story: deque[Any] = deque(maxlen=STORY)
        self._keeper_gone = False
        for fd in (signals.fileno(), keeper):
            if fd is not None:
                self._poller.register(fd, zmq.POLLIN)

    def run(self) -> int:
        """Until the station is done; its exit code. Raises StationError for a bug of ours, with the last words."""
        try:
            self._send(self._station.tick(time.monotonic()))
            while not self._station.done and not self._keeper_gone:
                self._turn()
        except PipelineError:
            raise
        except Exception as error:
            story = "\n  ".join(f"> {word!s:.300}" for word in self._story)
            raise StationError(f"{type(error).__name__}: {error}\nthe last words were:\n  {story}") from error
        return errors.INCOMPLETE if self._keeper_gone else self._station.outcome

    def _turn(self) -> None:
        """Wait, hear all that is ready and what that leads to, then let the station have its tick."""
        before = time.monotonic()
        wait = self._wait(before)
        ports = self._ready(wait)
        stalled = time.monotonic() - before > STALLED + wait / 1000
        while ports:
            for port in ports:
                for message in self._edges[port].receive():
                    self._hear(message)
                    if self._station.done:
                        return
            self._watch(ports)
            ports = self._spoken() or (self._ready(0) if stalled else [])  # nobody is silent whose words wait
        if self._station.deadline <= time.monotonic():
            self._send(self._station.tick(time.monotonic()))

    def _wait(self, now: float) -> int:
        """Milliseconds until somebody wants to be asked."""
        self._watch(self._touched)
        deadline = min(self._station.deadline, *(edge.deadline for edge in self._edges.values()))
        return 0 if self._touched or deadline <= now else math.ceil(min(deadline - now, 3600.0) * 1000)

    def _ready(self, wait: int) -> list[Port]:
        """Which edges to ask: the ready, the due, and those that were just spoken to."""
        ready = [file for file, _ in self._poller.poll(wait)]
        now = time.monotonic()
        due = [port for port, edge in self._edges.items() if edge.deadline <= now]
        for file in ready:
            if file == self._signals.fileno():
                self._stop()
            elif file == self._keeper:
                self._keeper_gone = True
        heard = [self._owner[file] for file in ready if file in self._owner]
        return list(dict.fromkeys((*heard, *due, *self._spoken())))

    def _spoken(self) -> list[Port]:
        """The edges that were spoken to since the last call: they may have an answer."""
        touched, self._touched = self._touched, set()
        return list(touched)

    def _watch(self, ports: Iterable[Port]) -> None:
        """Poll what these edges want polled now; the others have not changed."""
        for port in ports:
            files, before = self._edges[port].files(), self._files.get(port, [])
            if files == before:
                continue
            for file in before:
                bare = file[0] if isinstance(file, tuple) else file
                if self._owner.pop(bare, None):
                    self._poller.unregister(bare)
            for file in files:
                bare, mask = file if isinstance(file, tuple) else (file, zmq.POLLIN)
                self._poller.register(bare, mask)
                self._owner[bare] = port
            self._files[port] = files

    def _stop(self) -> None:
        for number in self._signals.taken():
            if notice := NOTICES.get(number):
                self._hear(notice)
                continue
            self._stops += 1
            self._told(stop := Stop("soon" if self._stops == 1 else "now", NAMES.get(number, str(number))))
            self._hear(stop)

    def _hear(self, message: Message) -> None:
        kind: Any = type(message)  # hashable, which mypy can't see of so large a union
        self._story.append(_in_brief(kind)(message))
        self._send(self._station.receive(message, time.monotonic()))
        if isinstance(message, Refused | Preparing | Waiting) or (
            isinstance(message, Foreign) and not message.peer and not self._station.done
        ):
            self._told(message)  # the edge's to notice, and no station's business

    def _send(self, sends: list) -> None:  # type: ignore[type-arg]
        for send in sends:
            port = _port(send.to)
            if port is Port.TOLD:
                self._told(send.message)
            else:
                self._edges[port].send(send.to, send.message)
                self._touched.add(port)


@cache
def _in_brief(kind: type) -> attrgetter[Any]:
    """What the story keeps of a word: its kind and small fields, but no body, which would live on with it."""
    return attrgetter(
        "__class__.__name__", *(name for name, hint in kind.__annotations__.items() if hint not in {"bytes", "Result"})
    )


def _port(to: Address) -> Port:
    if isinstance(to, Lane):
        return Port.LANES
    return Port.DESK if isinstance(to, Caller) else to
