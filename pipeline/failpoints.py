"""Failpoints: a process ends or freezes itself at a chosen word, so that a test can strike at every step of a run.

`PIPE_FAILPOINT=worker.result-sent:3=kill` strikes when a worker's edge has just taken its third Result; `-heard` just
before the station hears a word. Several, by commas; `record:FILE` notes each point and hit, `once:FILE` lets one
process strike and no other, since whoever is forked in its place has the same environment. When it is unset nothing
is wrapped, and a word costs nothing more. Hits are counted for each process, from 1.
"""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, cast, get_args

from msgspec import Struct

from pipeline.words.errands import Errand
from pipeline.words.errors import OUR_BUG, UsageError
from pipeline.words.messages import Wire
from pipeline.words.notices import Notice
from pipeline.words.station import Address, Edge, Message, Port, Send, Station

VARIABLE = "PIPE_FAILPOINT"
ACTS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(OUR_BUG),
}
_STRIKE = r"((?:ventilator|worker|sink)\.([a-z-]+)-(?:heard|sent)):([1-9][0-9]*)=(kill|stop|exit)"


class Plan(Struct, frozen=True):
    """What to do where: the act for each (point, hit); the file for all that is reached, and that of the one strike."""

    strikes: Mapping[tuple[str, int], str]
    record: str = ""
    once: str = ""


def plan_of(text: str) -> Plan:
    """The plan that is written so. Raises UsageError, naming what can't be read."""
    strikes: dict[tuple[str, int], str] = {}
    files = {"record": "", "once": ""}
    for item in text.split(","):
        kind, _, file = item.partition(":")
        found = re.fullmatch(_STRIKE, item)
        if kind in files and file:
            files[kind] = file
        elif found and found[2] in _words():
            strikes[found[1], int(found[3])] = found[4]
        else:
            raise UsageError(f"{VARIABLE}: {item!r} is not like worker.result-sent:3=kill, record:FILE or once:FILE")
    return Plan(strikes, files["record"], files["once"])


def armed(station: Station, edges: dict[Port, Edge]) -> tuple[Station, dict[Port, Edge]]:
    """The station and its edges as they are, or, when the environment says so, with failpoints at each word.

    Raises UsageError for a plan that can't be read.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return station, edges
    watch = _Watch(plan_of(text), type(station).__name__.lower())
    wrapped = {port: cast("Edge", _Edge(edge, watch)) for port, edge in edges.items()}
    return cast("Station", _Station(station, watch)), wrapped


class _Watch:
    """Counts what is reached, and strikes."""

    def __init__(self, plan: Plan, role: str) -> None:
        self._plan, self._role = plan, role
        self._hits: Counter[str] = Counter()

    def reached(self, message: Message, way: str) -> None:
        """The word is on its way: `heard` or `sent`."""
        point = f"{self._role}.{_kebab(type(message).__name__)}-{way}"
        self._hits[point] += 1
        hit = self._hits[point]
        if self._plan.record:
            _append(self._plan.record, f"{point} {hit}\n")
        act = self._plan.strikes.get((point, hit))
        if act and (not self._plan.once or _first(self._plan.once)):
            ACTS[act]()


class _Station:
    """A station that is struck before it hears; in all else the one it stands for."""

    def __init__(self, station: Station, watch: _Watch) -> None:
        self._station, self._watch = station, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._station, name)

    def receive(self, message: Message, now: float) -> list[Send]:
        self._watch.reached(message, "heard")
        return self._station.receive(message, now)


class _Edge:
    """An edge after which its process is struck; in all else the one it stands for."""

    def __init__(self, edge: Edge, watch: _Watch) -> None:
        self._edge, self._watch = edge, watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._edge, name)

    def send(self, to: Address, message: Message) -> None:
        self._edge.send(to, message)
        self._watch.reached(message, "sent")


@cache
def _kebab(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


@cache
def _words() -> frozenset[str]:
    """All words that pass through a loop."""
    return frozenset(_kebab(kind.__name__) for union in (Wire, Errand, Notice) for kind in get_args(union))


def _append(path: str, line: str) -> None:
    """A whole line, also when several processes write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, line.encode())
    os.close(file)


def _first(path: str) -> bool:
    """Whether nobody was here before."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True
