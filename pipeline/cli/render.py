"""What a person is told: each word for people as one sentence.

Pure: the same words give the same text. Promises: one fact has one sentence, and what came over the wire is cut
down to printable characters. Never prints, never asks the time or the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.cli.figures import format_count, sanitize
from pipeline.words.errands import VersionMismatch
from pipeline.words.errors import version_mismatch_text
from pipeline.words.messages import RunStatus, StopRequest
from pipeline.words.notices import CallableLoading, ContextCreated, PeerRejected, StationStopped, Waiting, WorkerLost
from pipeline.words.settings import Settings
from pipeline.words.station import Message

_WAITS = {
    "worker": ("no worker has checked in", "a worker has checked in"),
    "ventilator": ("no ventilator has come", "the ventilator is here"),
    "sink": ("no sink has answered", "the sink is here"),
    "spill": (
        "--spill-limit is reached: nothing new starts until {} has ended, whose result all others wait for",
        "there is room again; {} is next",
    ),
    "disk": ("{}: waiting for room, and going on by itself when there is some", "there is room on the disk again"),
}
"""What a person is told when a wait begins, and when it is over."""
_STARTS = {"worker": "pipe work{} COMMAND", "ventilator": "pipe ventilate{} FILE", "sink": "pipe sink{}"}
"""How a missing peer is started."""

UserMessage = Waiting | WorkerLost | CallableLoading | ContextCreated | PeerRejected | VersionMismatch | StationStopped


def is_talk(message: Message) -> bool:
    """Whether nothing has gone wrong: --quiet leaves it out."""
    return isinstance(message, CallableLoading | ContextCreated | StopRequest) or (
        isinstance(message, Waiting) and message.kind in _STARTS
    )


def format_endpoint_options(settings: Settings) -> str:
    """The options that lead to where these settings meet, with a space before each; empty for the default."""
    chosen = [("--at", settings.at), ("--desk", settings.registry_at), ("--results-at", settings.results_at)]
    chosen.append(("--control-at", settings.control_at))
    words = [f" {flag} {value}" for flag, value in chosen if value]
    if not words and settings.name != Settings().name:
        words.append(f" --name {settings.name}")
    return "".join(words) + (" --insecure" if settings.insecure else "")


def message_text(message: UserMessage, endpoint_options: str | None) -> str:
    """What is told, for a person; `where` is the place that stations started now must be given, None: start none."""
    if isinstance(message, Waiting):
        text = _WAITS[message.kind][not message.active].format(sanitize(message.detail))
        starts = message.active and message.kind in _STARTS and endpoint_options is not None
        return f"{text}; start one with `{_STARTS[message.kind].format(endpoint_options)}`" if starts else text
    return MESSAGE_FORMATTERS[type(message)](message)


def _worker_lost_text(notice: WorkerLost) -> str:
    go = "goes" if notice.task_count == 1 else "go"
    back = (
        f"{format_count(notice.task_count, 'task')} of its own {go} out again"
        if notice.task_count
        else "it held no task"
    )
    return f"worker {sanitize(notice.worker)} fell silent; {back}"


MESSAGE_FORMATTERS: dict[type, Callable[[Any], str]] = {
    WorkerLost: _worker_lost_text,
    CallableLoading: lambda told: f"no task runs yet: --call {sanitize(told.call)} is still being imported",
    PeerRejected: lambda told: f"{sanitize(told.name)} was turned away: {sanitize(told.reason)}",
    VersionMismatch: lambda told: sanitize(version_mismatch_text(told.version)),
    ContextCreated: lambda told: f"{sanitize(told.role)} {told.pid} has a context of its own, {sanitize(told.context)}",
    StationStopped: lambda told: (
        f"the {sanitize(told.role)} ends: " + "\n".join(map(sanitize, told.reason.splitlines()))
    ),
}


def stopping_text(stop: StopRequest) -> str:
    """What a person is told who asked this process to stop."""
    return "stopping: running tasks finish, once more to kill them" if stop.mode == "soon" else "killing what runs"


def waiting_for_text(status: RunStatus) -> str:
    """Whose goodbye is missing."""
    return f"waiting for the goodbye of {', '.join(sanitize(name) for name in status.waiting_for)}"
