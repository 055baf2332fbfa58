"""What a person is told: each word for people as one sentence.

Pure: the same words give the same text. Promises: one fact has one sentence, and what came over the wire is cut
down to printable characters. Never prints, never asks the time or the terminal.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.cli.figures import counted, plain
from pipeline.words.errands import Foreign
from pipeline.words.errors import foreign
from pipeline.words.messages import Status, Stop
from pipeline.words.notices import Began, Ended, Lost, Preparing, Refused, Waiting
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

Sentence = Waiting | Lost | Preparing | Began | Refused | Foreign | Ended


def is_talk(message: Message) -> bool:
    """Whether nothing has gone wrong: --quiet leaves it out."""
    return isinstance(message, Preparing | Began | Stop) or (isinstance(message, Waiting) and message.kind in _STARTS)


def place(settings: Settings) -> str:
    """The options that lead to where these settings meet, with a space before each; empty for the default."""
    chosen = [("--at", settings.at), ("--desk", settings.desk), ("--results-at", settings.results)]
    chosen.append(("--control-at", settings.control))
    words = [f" {flag} {value}" for flag, value in chosen if value]
    if not words and settings.name != Settings().name:
        words.append(f" --name {settings.name}")
    return "".join(words) + (" --insecure" if settings.insecure else "")


def sentence(told: Sentence, where: str | None) -> str:
    """What is told, for a person; `where` is the place that stations started now must be given, None: start none."""
    if isinstance(told, Waiting):
        text = _WAITS[told.kind][not told.active].format(plain(told.detail))
        starts = told.active and told.kind in _STARTS and where is not None
        return f"{text}; start one with `{_STARTS[told.kind].format(where)}`" if starts else text
    return SENTENCES[type(told)](told)


def _lost(lost: Lost) -> str:
    go = "goes" if lost.tasks == 1 else "go"
    back = f"{counted(lost.tasks, 'task')} of its own {go} out again" if lost.tasks else "it held no task"
    return f"worker {plain(lost.worker)} fell silent; {back}"


SENTENCES: dict[type, Callable[[Any], str]] = {
    Lost: _lost,
    Preparing: lambda told: f"no task runs yet: --call {plain(told.call)} is still being imported",
    Refused: lambda told: f"{plain(told.name)} was turned away: {plain(told.reason)}",
    Foreign: lambda told: plain(foreign(told.version)),
    Began: lambda told: f"{plain(told.role)} {told.pid} has a context of its own, {plain(told.context)}",
    Ended: lambda told: f"the {plain(told.role)} ends: " + "\n".join(map(plain, told.reason.splitlines())),
}


def stopping(stop: Stop) -> str:
    """What a person is told who asked this process to stop."""
    return "stopping: running tasks finish, once more to kill them" if stop.mode == "soon" else "killing what runs"


def goodbyes(status: Status) -> str:
    """Whose goodbye is missing."""
    return f"waiting for the goodbye of {', '.join(plain(name) for name in status.awaited)}"
