"""User messages and formatting of numbers.

How amounts look to a person: bytes, times, counts, rates; and any text in one plain line.

Pure and small: the same number gives the same text. Never asks for the language of the terminal.

What a person is told: each word for people as one sentence.

Pure: the same words give the same text. Promises: one fact has one sentence, and what came over the wire is cut
down to printable characters. Never prints, never asks the time or the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.config.settings import Settings
from pipeline.model.errors import version_mismatch_text
from pipeline.model.events import (
    CallableLoading,
    ContextCreated,
    PeerRejected,
    StationStopped,
    VersionMismatch,
    Waiting,
    WorkerLost,
)
from pipeline.model.messages import RunStatus, StopRequest
from pipeline.model.state_machine import Message

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600


def format_memory(size: int) -> str:
    """Bytes as 12 MB or 1.5 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"  # noqa: PLR2004


def format_duration(duration: float) -> str:
    """Seconds as 0.5 s, or 1:02:03."""
    return f"{duration:.1f} s" if duration < MINUTE_SECONDS else format_clock(duration)


def format_count(number: int, noun: str) -> str:
    """`1 task`, `1,234 tasks`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_number(value: float) -> str:
    """Three digits or more of a positive number: 0.52, 19.2, 1,234."""
    return f"{value:,.{max(0, 3 - len(str(int(value))))}f}"


def format_clock(duration: float) -> str:
    """Seconds as 0:12 or 1:02:03."""
    whole = max(0, round(duration))
    hours, minutes = whole // HOUR_SECONDS, whole // MINUTE_SECONDS % MINUTE_SECONDS
    return f"{hours}:{minutes:02}:{whole % MINUTE_SECONDS:02}" if hours else f"{minutes}:{whole % MINUTE_SECONDS:02}"


def sanitize(text: str) -> str:
    """The text in one line of printable characters: no word from the wire moves the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


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
