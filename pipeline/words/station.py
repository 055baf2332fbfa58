"""A station, its ports, and what it says: the one shape of ventilator, worker and sink.

A station is a plain object. It is given a message and the time and answers with messages addressed
to ports. It never opens a socket, reads a file, asks a clock or draws a random number.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum, auto
from typing import Any, Protocol

from msgspec import Struct

from pipeline.words.errands import InternalMessage
from pipeline.words.messages import WireMessage
from pipeline.words.notices import Notice

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
