"""The words for the person who looks on: who is missing, lost, refused, and why nothing runs.

A station says them once when it begins and once when it is over; render.py turns them into sentences, and the door
prints them.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from pipeline.words.errands import VersionMismatch
from pipeline.words.messages import RunStatus, WorkerActivity

Peer = Literal["ventilator", "worker", "sink"]


class Waiting(Struct, frozen=True, gc=False):
    """Something waits, or, not `active`, does so no longer.

    A station waits for a peer that has not come or was lost; new tasks wait while the spill is full, until the task
    `detail` has ended; an adapter waits for room on its disk, `detail` says where and why.
    """

    kind: Peer | Literal["spill", "disk"]
    detail: str = ""
    active: bool = True


class WorkerLost(Struct, frozen=True, gc=False):
    """For the person: this worker fell silent; `tasks` of its tasks go out again."""

    worker: str
    task_count: int


class PeerRejected(Struct, frozen=True, gc=False):
    """For the person: somebody was turned away, and why."""

    name: str
    reason: str


class CallableLoading(Struct, frozen=True, gc=False):
    """For the person: no task can run yet, since this callable is still being imported or prepared."""

    call: str


class ContextCreated(Struct, frozen=True, gc=False):
    """For the person: this process has made a ZeroMQ context of its own."""

    role: str
    pid: int
    context: str


class StatusRequested(Struct, frozen=True, gc=False):
    """A person asks what runs now (SIGUSR1): the loop says it to its station."""


class VentilatorDead(Struct, frozen=True, gc=False):
    """The launcher reports that the ventilator has died and will not be restarted; the loop passes it to the sink."""


class StatusReport(Struct, frozen=True, gc=False):
    """For the person who asked: the whole line, as the sink sees it, or one worker."""

    content: RunStatus | WorkerActivity


class StationStopped(Struct, frozen=True, gc=False):
    """For the person: this station ends early, and why."""

    role: str
    reason: str


Notice = (
    Waiting
    | WorkerLost
    | PeerRejected
    | CallableLoading
    | ContextCreated
    | StatusRequested
    | VentilatorDead
    | StatusReport
    | StationStopped
    | VersionMismatch
    | RunStatus
)
