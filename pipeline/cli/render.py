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
from pipeline.words.notices import Began, Ended, Full, Lost, Missing, Preparing, Present, Refused, Stuck
from pipeline.words.settings import Settings

_ROLES = {
    "worker": ("no worker has checked in", "pipe work{} COMMAND", "a worker has checked in"),
    "ventilator": ("no ventilator has come", "pipe ventilate{} FILE", "the ventilator is here"),
    "sink": ("no sink has answered", "pipe sink{}", "the sink is here"),
}

Talk = Missing | Present | Preparing | Began
"""Nothing has gone wrong: --quiet leaves these out."""
Sentence = Talk | Lost | Full | Stuck | Refused | Foreign | Ended


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
    if isinstance(told, Missing):
        lack, start, _ = _ROLES[told.who]
        return lack if where is None else f"{lack}; start one with `{start.format(where)}`"
    return SENTENCES[type(told)](told)


def _lost(lost: Lost) -> str:
    go = "goes" if lost.tasks == 1 else "go"
    back = f"{counted(lost.tasks, 'task')} of its own {go} out again" if lost.tasks else "it held no task"
    return f"worker {plain(lost.worker)} fell silent; {back}"


def _full(full: Full) -> str:
    task = f"task {full.turn + 1:,}"
    if full.full:
        return f"--spill-limit is reached: nothing new starts until {task} has ended, whose result all others wait for"
    return f"there is room again; {task} is next"


def _stuck(stuck: Stuck) -> str:
    if stuck.reason:
        return f"{plain(stuck.reason)}: waiting for room, and going on by itself when there is some"
    return "there is room on the disk again"


SENTENCES: dict[type, Callable[[Any], str]] = {
    Present: lambda told: _ROLES[told.who][2],
    Lost: _lost,
    Full: _full,
    Stuck: _stuck,
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
