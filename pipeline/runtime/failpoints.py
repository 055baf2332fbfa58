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

from pipeline.model.errors import INTERNAL_ERROR, UsageError
from pipeline.model.events import InternalMessage, Notice
from pipeline.model.messages import WireMessage
from pipeline.model.state_machine import Adapter, Address, Message, Port, Send, StateMachine

VARIABLE = "PIPE_FAILPOINT"
ACTIONS: dict[str, Callable[[], None]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "exit": lambda: os._exit(INTERNAL_ERROR),
}
_STRIKE_PATTERN = r"((?:ventilator|worker|sink)\.([a-z-]+)-(?:received|sent)):([1-9][0-9]*)=(kill|stop|exit)"


class FailpointPlan(Struct, frozen=True):
    """What to do where: the act for each (point, hit); the file for all that is reached, and that of the one strike."""

    strikes: Mapping[tuple[str, int], str]
    record_file: str = ""
    once_file: str = ""


def parse_plan(text: str) -> FailpointPlan:
    """The plan that is written so. Raises UsageError, naming what can't be read."""
    strikes: dict[tuple[str, int], str] = {}
    files = {"record": "", "once": ""}
    for item in text.split(","):
        kind, _, file = item.partition(":")
        found = re.fullmatch(_STRIKE_PATTERN, item)
        if kind in files and file:
            files[kind] = file
        elif found and found[2] in _message_names():
            strikes[found[1], int(found[3])] = found[4]
        else:
            raise UsageError(f"{VARIABLE}: {item!r} is not like worker.result-sent:3=kill, record:FILE or once:FILE")
    return FailpointPlan(strikes, files["record"], files["once"])


def with_failpoints(machine: StateMachine, adapters: dict[Port, Adapter]) -> tuple[StateMachine, dict[Port, Adapter]]:
    """The station and its edges as they are, or, when the environment says so, with failpoints at each word.

    Raises UsageError for a plan that can't be read.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return machine, adapters
    watch = HitCounter(parse_plan(text), type(machine).__name__.lower())
    wrapped = {port: cast("Adapter", _AdapterWithFailpoints(edge, watch)) for port, edge in adapters.items()}
    return cast("StateMachine", _MachineWithFailpoints(machine, watch)), wrapped


class HitCounter:
    """Counts what is reached, and strikes."""

    def __init__(self, plan: FailpointPlan, role: str) -> None:
        self._plan, self._role = plan, role
        self._hits: Counter[str] = Counter()

    def count_hit(self, message: Message, direction: str) -> None:
        """The word is on its way: `heard` or `sent`."""
        point = f"{self._role}.{_to_kebab_case(type(message).__name__)}-{direction}"
        self._hits[point] += 1
        hit = self._hits[point]
        if self._plan.record_file:
            _append_line(self._plan.record_file, f"{point} {hit}\n")
        act = self._plan.strikes.get((point, hit))
        if act and (not self._plan.once_file or _is_first(self._plan.once_file)):
            ACTIONS[act]()


class _MachineWithFailpoints:
    """A station that is struck before it hears; in all else the one it stands for."""

    def __init__(self, machine: StateMachine, counter: HitCounter) -> None:
        self._machine, self._counter = machine, counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def receive(self, message: Message, now: float) -> list[Send]:
        self._counter.count_hit(message, "received")
        return self._machine.receive(message, now)


class _AdapterWithFailpoints:
    """An edge after which its process is struck; in all else the one it stands for."""

    def __init__(self, adapter: Adapter, counter: HitCounter) -> None:
        self._adapter, self._counter = adapter, counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def send(self, to: Address, message: Message) -> None:
        self._adapter.send(to, message)
        self._counter.count_hit(message, "sent")


@cache
def _to_kebab_case(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


@cache
def _message_names() -> frozenset[str]:
    """All words that pass through a loop."""
    return frozenset(
        _to_kebab_case(kind.__name__) for union in (WireMessage, InternalMessage, Notice) for kind in get_args(union)
    )


def _append_line(path: str, line: str) -> None:
    """A whole line, also when several processes write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, line.encode())
    os.close(file)


def _is_first(path: str) -> bool:
    """Whether nobody was here before."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True
