"""What a roster decides: who is started, who is told to stop, and what the person hears of it.

Frozen and closed, like the words of the line, but they never travel: the launcher does what they say.
"""

from __future__ import annotations

from signal import SIGRTMIN

from msgspec import Struct

VENTILATOR_DEAD = SIGRTMIN + 3
"""Tells the sink that the ventilator has died and will not be restarted. Only the launcher sends it."""


class StartProcess(Struct, frozen=True):
    """Start this one. It counts as living from now on."""

    name: str


class ForwardSignal(Struct, frozen=True):
    """Let this one know that a person asked to stop, with SIGINT or SIGTERM; or that there is VENTILATOR_DEAD."""

    name: str
    signum: int


class SendSignal(Struct, frozen=True):
    """Send this one a signal."""

    name: str
    signum: int


class ProcessFailed(Struct, frozen=True):
    """For the person: this one is not started again, and why."""

    name: str
    reason: str


class ShowMessage(Struct, frozen=True):
    """For the person."""

    text: str


SupervisorAction = StartProcess | ForwardSignal | SendSignal | ProcessFailed | ShowMessage
