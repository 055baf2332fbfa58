"""StateMachine and Adapter protocols, Port, Send; PeerMonitor (heartbeat timeouts).

A station, its ports, and what it says: the one shape of ventilator, worker and sink.

A station is a plain object. It is given a message and the time and answers with messages addressed
to ports. It never opens a socket, reads a file, asks a clock or draws a random number.

Watching for a peer: who is silent, since when, what the person is told, when the connection is replaced.

Silence of SOON is told once, and its end too. Before the first contact a station waits as long as it takes; after it,
`patience` seconds of silence are the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from msgspec import Struct

from pipeline.model.events import InternalMessage, Notice, Peer, Waiting
from pipeline.model.messages import WireMessage

NEVER = math.inf
VENTILATOR = "ventilator"
"""The name under which it says goodbye; workers have names of their own."""

Message = WireMessage | InternalMessage | Notice
"""Everything that is ever said."""


class Port(Enum):
    """Where a station can send. Each port has one edge."""

    REGISTRY = auto()
    """A worker's way to the ventilator's desk."""
    LANES = auto()
    """The ventilator's lanes: Open and Shut; the worker's one lane: Connect."""
    RESULTS = auto()
    """The way to the sink, for workers and ventilator."""
    CONTROL = auto()
    """The sink's broadcast; for the others Connect only."""
    SOURCE = auto()
    EXECUTOR = auto()
    OUTPUT = auto()
    SPILL = auto()
    JOURNAL = auto()
    USER = auto()
    """The person who looks on."""


class PeerAddress(Struct, frozen=True, gc=False):
    """The ventilator's way back to one caller at its desk."""

    peer: bytes


class LaneAddress(Struct, frozen=True, gc=False):
    """The ventilator's way to one worker, for chunks."""

    number: int


Address = Port | PeerAddress | LaneAddress


class Send(Struct, frozen=True, gc=False):
    """A message and where it goes."""

    to: Address
    message: Message


Handlers = dict[type, Callable[[Any, float], "list[Send]"]]
"""What a station does with each kind of word; the others it does not know."""


class StateMachine(Protocol):
    """What the loop drives. `deadline` is a time as `now` is; `outcome` is an exit code once `done`."""

    done: bool

    @property
    def exit_code(self) -> int:
        """The exit code, once done."""

    @property
    def stop_reason(self) -> str:
        """Why it ends early; empty if it does not."""

    @property
    def deadline(self) -> float:
        """Wake me then, even if nothing was said."""

    def receive(self, message: Message, now: float) -> list[Send]:
        """Something was said to me."""

    def tick(self, now: float) -> list[Send]:
        """My deadline has come, and all that had arrived before was received."""


class Adapter(Protocol):
    """The shell behind a port: a socket, the source, the executor, the output. Never blocks."""

    deadline: float
    """A time.monotonic() at which `receive` wants to be called even if no file is ready; NEVER if none."""

    def send(self, to: Address, message: Message) -> None:
        """Take a message for this edge's port."""

    def pollables(self) -> list[object]:
        """What to poll for reading: file descriptors, or ZeroMQ sockets."""

    def receive(self) -> list[Message]:
        """All messages that are ready now. Called at every turn of the loop, so cheap when there are none."""

    def close(self) -> None:
        """Let go of everything. May be called twice."""


NOTIFY_AFTER_SECONDS = 2.0
"""Seconds of waiting after which a person is told."""


class PeerMonitor:
    """One peer, as one station hears it."""

    def __init__(self, role: Peer, now: float, peer_timeout: float, interval: float = 1.0) -> None:
        self._role: Peer = role
        self._last_message_at, self._peer_timeout = now, peer_timeout
        self.interval = interval
        """Seconds in which a peer that is there says something anyway."""
        self.has_been_seen = self._has_notified = False
        self._reconnected_at = now

    @property
    def deadline(self) -> float:
        """When silence becomes worth a word."""
        return (
            NEVER
            if self._has_notified
            else self._last_message_at
            + (NOTIFY_AFTER_SECONDS + self.interval if self.has_been_seen else NOTIFY_AFTER_SECONDS)
        )

    def restart(self, now: float) -> None:
        """Silence counts from now."""
        self._last_message_at, self._has_notified = now, False

    def record_message(self, now: float) -> list[Send]:
        """The peer said something."""
        told, self._has_notified = self._has_notified, False
        self._last_message_at, self.has_been_seen = now, True
        return [Send(Port.USER, Waiting(self._role, active=False))] if told else []

    def tick(self, now: float) -> list[Send]:
        """Tell the person, once."""
        if now < self.deadline:
            return []
        self._has_notified = True
        return [Send(Port.USER, Waiting(self._role))]

    def stop(self) -> None:
        """Report the silence of this peer no more: it is known to be dead."""
        self._has_notified = True

    def is_silent_for(self, now: float, seconds: float) -> bool:
        """Whether nothing was heard for so long."""
        return now - self._last_message_at > seconds

    def is_lost(self, now: float) -> bool:
        """Whether it was there once and its patience is over."""
        return self.has_been_seen and self.is_silent_for(now, max(self._peer_timeout, 3 * self.interval))

    def is_reconnect_due(self, now: float, seconds: float) -> bool:
        """Whether to replace the connection now: silent so long, and not replaced within that time either."""
        if not self.is_silent_for(now, seconds) or now - self._reconnected_at <= seconds:
            return False
        self._reconnected_at = now
        return True
