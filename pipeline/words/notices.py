"""The words for the person who looks on: who is missing, lost, refused, and why nothing runs.

A station says them once when it begins and once when it is over; render.py turns them into sentences, and the door
prints them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.words.errands import Foreign
from pipeline.words.messages import Glance, Status


@dataclass(frozen=True, slots=True)
class Missing:
    """This station waits for somebody who has not come, or was lost."""

    who: Literal["ventilator", "worker", "sink"]


@dataclass(frozen=True, slots=True)
class Present:
    """For the person: the one that was missing is here."""

    who: Literal["ventilator", "worker", "sink"]


@dataclass(frozen=True, slots=True)
class Lost:
    """For the person: this worker fell silent; `tasks` of its tasks go out again."""

    worker: str
    tasks: int


@dataclass(frozen=True, slots=True)
class Refused:
    """For the person: somebody was turned away, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Full:
    """For the person: the spill is full (or not any more), and nothing new is sent until task `turn` has ended."""

    turn: int
    full: bool


@dataclass(frozen=True, slots=True)
class Stuck:
    """For the person: an edge waits for room on its disk, where and since when; an empty reason: not any more."""

    reason: str


@dataclass(frozen=True, slots=True)
class Preparing:
    """For the person: no task can run yet, since this callable is still being imported or prepared."""

    call: str


@dataclass(frozen=True, slots=True)
class Began:
    """For the person: this process has made a ZeroMQ context of its own."""

    role: str
    pid: int
    context: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A person asks what runs now (SIGUSR1): the loop says it to its station."""


@dataclass(frozen=True, slots=True)
class VentilatorDead:
    """The launcher reports that the ventilator has died and will not be restarted; the loop passes it to the sink."""


@dataclass(frozen=True, slots=True)
class Shown:
    """For the person who asked: the whole line, as the sink sees it, or one worker."""

    what: Status | Glance


@dataclass(frozen=True, slots=True)
class Ended:
    """For the person: this station ends early, and why."""

    role: str
    reason: str


Notice = (
    Missing
    | Present
    | Lost
    | Refused
    | Full
    | Stuck
    | Preparing
    | Began
    | Asked
    | VentilatorDead
    | Shown
    | Ended
    | Foreign
    | Status
)
