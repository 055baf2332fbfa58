"""What a roster decides: who is started, who is told to stop, and what the person hears of it.

Frozen and closed, like the words of the line, but they never travel: the launcher does what they say.
"""

from __future__ import annotations

from dataclasses import dataclass
from signal import SIGRTMIN

VENTILATOR_DEAD = SIGRTMIN + 3
"""Tells the sink that the ventilator has died and will not be restarted. Only the launcher sends it."""


@dataclass(frozen=True, slots=True)
class Spawn:
    """Start this one. It counts as living from now on."""

    name: str


@dataclass(frozen=True, slots=True)
class PassOn:
    """Let this one know that a person asked to stop, with SIGINT or SIGTERM; or that there is VENTILATOR_DEAD."""

    name: str
    signum: int


@dataclass(frozen=True, slots=True)
class Signal:
    """Send this one a signal."""

    name: str
    signum: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """For the person: this one is not started again, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Say:
    """For the person."""

    text: str


Decision = Spawn | PassOn | Signal | GiveUp | Say
