"""Interfaces of stations: StateMachine, Adapter, Port, Send; and PeerMonitor, which watches one peer.

A state machine receives a message and the time, and returns messages addressed to ports. It never opens a socket,
reads a file, reads a clock or draws a random number. An adapter connects one port to a socket, a file or an executor.
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
"""The ventilator's name in its Goodbye; each worker has a name of its own."""

Message = WireMessage | InternalMessage | Notice


class Port(Enum):
    """A destination that a state machine can send to. Each port has one adapter."""

    REGISTRY = auto()
    """From a worker to the ventilator's registry."""
    LANES = auto()
    """The ventilator's lanes (OpenLane, CloseLane); a worker's one lane (Reconnect)."""
    RESULTS = auto()
    """From workers and ventilator to the sink."""
    CONTROL = auto()
    """The sink's broadcast; at the other stations Reconnect only."""
    SOURCE = auto()
    EXECUTOR = auto()
    OUTPUT = auto()
    SPILL = auto()
    JOURNAL = auto()
    USER = auto()
    """Notices for the user."""


class PeerAddress(Struct, frozen=True, gc=False):
    """One connected peer of the ventilator's registry."""

    peer: bytes


class LaneAddress(Struct, frozen=True, gc=False):
    """The lane of one worker, for chunks."""

    number: int


Address = Port | PeerAddress | LaneAddress


class Send(Struct, frozen=True, gc=False):
    """A message and its destination."""

    to: Address
    message: Message


Handlers = dict[type, Callable[[Any, float], "list[Send]"]]
"""The handler of each message type; other messages are ignored."""


class StateMachine(Protocol):
    """The logic of a station, driven by the event loop. `deadline` is compared with `now`."""

    done: bool

    @property
    def exit_code(self) -> int:
        """The exit code, once `done`."""

    @property
    def stop_reason(self) -> str:
        """Why the station ends early; else empty."""

    @property
    def deadline(self) -> float:
        """When `tick` is to be called if no message arrives."""

    def receive(self, message: Message, now: float) -> list[Send]:
        """Handle a message."""

    def tick(self, now: float) -> list[Send]:
        """Handle the deadline. All messages that arrived before it have been received."""


class Adapter(Protocol):
    """The connection of a port with a socket, the source, the executor, the output or the journal. Never blocks."""

    deadline: float
    """The time.monotonic() at which `receive` is to be called even if nothing is readable."""

    def send(self, to: Address, message: Message) -> None:
        """Accept a message for this adapter's port."""

    def pollables(self) -> list[object]:
        """Return what to poll: file descriptors or ZeroMQ sockets, alone or with an event mask."""

    def receive(self) -> list[Message]:
        """Return all messages that are ready. Called at every turn of the loop, so it must be cheap."""

    def close(self) -> None:
        """Release everything. May be called twice."""


NOTIFY_AFTER_SECONDS = 2.0
"""Seconds of silence after which the user is notified."""


class PeerMonitor:
    """Silence of one peer: notices for the user, reconnects, and the final timeout.

    The user is notified once of a silence, and once of its end. Before the first message from the peer, a station waits
    without limit; after it, `peer_timeout` seconds of silence mean that the peer is lost.
    """

    def __init__(self, role: Peer, now: float, peer_timeout: float, interval: float = 1.0) -> None:
        self._role: Peer = role
        self._last_message_at, self._peer_timeout = now, peer_timeout
        self.interval = interval  # a live peer sends something at least this often
        self.has_been_seen = self._has_notified = False
        self._reconnected_at = now

    @property
    def deadline(self) -> float:
        """When a silence is reported."""
        if self._has_notified:
            return NEVER
        return self._last_message_at + (NOTIFY_AFTER_SECONDS + self.interval * self.has_been_seen)

    def restart(self, now: float) -> None:
        """Count silence from now."""
        self._last_message_at, self._has_notified = now, False

    def record_message(self, now: float) -> list[Send]:
        """Note a message of the peer. Report the end of a reported silence."""
        had_notified, self._has_notified = self._has_notified, False
        self._last_message_at, self.has_been_seen = now, True
        return [Send(Port.USER, Waiting(self._role, active=False))] if had_notified else []

    def tick(self, now: float) -> list[Send]:
        """Report a silence, once."""
        if now < self.deadline:
            return []
        self._has_notified = True
        return [Send(Port.USER, Waiting(self._role))]

    def stop(self) -> None:
        """Report no silence any more: the peer is known to be dead."""
        self._has_notified = True

    def is_silent_for(self, now: float, seconds: float) -> bool:
        return now - self._last_message_at > seconds

    def is_lost(self, now: float) -> bool:
        """Return whether the peer has been seen and its timeout is over."""
        return self.has_been_seen and self.is_silent_for(now, max(self._peer_timeout, 3 * self.interval))

    def is_reconnect_due(self, now: float, seconds: float) -> bool:
        """Return whether to reconnect: no message for `seconds`, and no reconnect within them either."""
        if not self.is_silent_for(now, seconds) or now - self._reconnected_at <= seconds:
            return False
        self._reconnected_at = now
        return True
