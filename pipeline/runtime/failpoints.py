"""Failpoints: kill or stop a process at a chosen message, so that tests can hit every step of a run.

`PIPE_FAILPOINT=worker.result-sent:3=kill` kills a worker after it has sent its third Result; `-received` strikes before
the state machine handles the message. Separate several with commas. `record:FILE` records each message and its count,
`once:FILE` lets only one process strike, since restarted processes inherit the environment. Counts are per process and
start at 1. Without the variable nothing is wrapped, so messages cost nothing more.
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
    """The action at each (failpoint, count), and the files of `record` and `once`."""

    strikes: Mapping[tuple[str, int], str]
    record_file: str = ""
    once_file: str = ""


def parse_plan(text: str) -> FailpointPlan:
    """Parse the value of PIPE_FAILPOINT.

    Raises:
        UsageError: an item is malformed.
    """
    strikes: dict[tuple[str, int], str] = {}
    files = {"record": "", "once": ""}
    for item in text.split(","):
        kind, _, file = item.partition(":")
        match = re.fullmatch(_STRIKE_PATTERN, item)
        if kind in files and file:
            files[kind] = file
        elif match and match[2] in _message_names():
            strikes[match[1], int(match[3])] = match[4]
        else:
            hint = "write it like worker.result-sent:3=kill, record:FILE or once:FILE"
            raise UsageError(f"invalid {VARIABLE}: {item!r}", hint)
    return FailpointPlan(strikes, files["record"], files["once"])


def with_failpoints(machine: StateMachine, adapters: dict[Port, Adapter]) -> tuple[StateMachine, dict[Port, Adapter]]:
    """Return the state machine and its adapters, wrapped if the environment names failpoints.

    Raises:
        UsageError: the plan is malformed.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return machine, adapters
    counter = HitCounter(parse_plan(text), type(machine).__name__.lower())
    wrapped = {port: cast("Adapter", _AdapterWithFailpoints(adapter, counter)) for port, adapter in adapters.items()}
    return cast("StateMachine", _MachineWithFailpoints(machine, counter)), wrapped


class HitCounter:
    """Counts messages and strikes."""

    def __init__(self, plan: FailpointPlan, role: str) -> None:
        self._plan, self._role = plan, role
        self._hits: Counter[str] = Counter()

    def count_hit(self, message: Message, direction: str) -> None:
        """Count a message that is `received` or `sent`, and strike if it is time."""
        point = f"{self._role}.{_to_kebab_case(type(message).__name__)}-{direction}"
        self._hits[point] += 1
        hit = self._hits[point]
        if self._plan.record_file:
            _append_line(self._plan.record_file, f"{point} {hit}\n")
        action = self._plan.strikes.get((point, hit))
        if action and (not self._plan.once_file or _is_first(self._plan.once_file)):
            ACTIONS[action]()


class _MachineWithFailpoints:
    """A state machine with failpoints before each received message."""

    def __init__(self, machine: StateMachine, counter: HitCounter) -> None:
        self._machine, self._counter = machine, counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._machine, name)

    def receive(self, message: Message, now: float) -> list[Send]:
        self._counter.count_hit(message, "received")
        return self._machine.receive(message, now)


class _AdapterWithFailpoints:
    """An adapter with failpoints after each sent message."""

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
    """Return the names of all messages that pass through an event loop."""
    return frozenset(
        _to_kebab_case(kind.__name__) for union in (WireMessage, InternalMessage, Notice) for kind in get_args(union)
    )


def _append_line(path: str, line: str) -> None:
    """Append a whole line, even if several processes append at the same time."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(file, line.encode())
    os.close(file)


def _is_first(path: str) -> bool:
    """Return whether no process has created the file before."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True
