"""The one list of options and their defaults: frozen, validated once, taken by all commands.

The door builds its signatures and its help from these fields, and `settings_from` reads what a person typed.
Promises: a UsageError names the option and what it wants. Never looks at the file system or the machine;
below the door, nobody takes more of it than it needs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from pipeline.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
LAST_PORT = 65535

_SIZES = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": KIB * GIB}
_TIMES = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def whole(text: str) -> int:
    """A whole number. Raises ValueError."""
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def size(text: str) -> int:
    """Bytes of `512`, `64k`, `1M`, `1.5G`: powers of 1024. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", text.lower())
    if not found:
        raise ValueError(f"{text!r} is not a size like 512, 64k, 1M or 10G")
    return int(float(found[1]) * _SIZES[found[2]])


def seconds(text: str) -> float:
    """Seconds of `2`, `0.5`, `300ms`, `10m`, `1h`. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]+)?)(ms|min|[smhd]?)", text.lower())
    if not found:
        raise ValueError(f"{text!r} is not a time like 2, 0.5, 300ms, 10m or 1h")
    return float(found[1]) * _TIMES[found[2]]


def port_range(text: str) -> tuple[int, int]:
    """First and last port of `20000-29999`. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < low <= high <= LAST_PORT:
        raise ValueError(f"{text!r} is not a range of ports like 20000-29999")
    return low, high


def ports(text: str) -> str:
    """The text itself, when it is a port range. Raises ValueError."""
    port_range(text)
    return text


@dataclass(frozen=True, slots=True)
class Kind:
    """How a value is written: its name in the help, how it is read, the least one allowed."""

    metavar: str = ""
    read: Callable[[str], object] = str
    least: float | None = None


FLAG = Kind()
NAME = Kind("NAME")
FILE = Kind("FILE")
COMMAND = Kind("COMMAND")
ENDPOINT = Kind("ENDPOINT")
CALLABLE = Kind("CALLABLE")
PORTS = Kind("LOW-HIGH", ports)
COUNT = Kind("N", whole, 1)
SIZE = Kind("SIZE", size, 1)
TIME = Kind("TIME", seconds, 0.01)

ALL = "run ventilate work sink kill top"
TASKS = "run ventilate"
BEATS = "run ventilate sink"
WORK = "run work"
SINK = "run sink"


def option(default: Any, *flags: str, about: str, on: str, kind: Kind = FLAG, words: str = "") -> Any:
    """One field: its flags (none: not an option), what it is about, the commands it is `on`.

    In the commands named by `words`, the words that are no options are its values, too.
    """
    commands = frozenset(on.split()) if flags else frozenset()
    metadata = {"flags": flags, "help": about, "on": commands, "kind": kind, "words": frozenset(words.split())}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a person can choose. Sizes are bytes, times are seconds."""

    # what to run
    command: tuple[str, ...] = option((), about="one shell line, or an argv", on="", kind=COMMAND, words=WORK)
    call: str = option("", "--call", about="call MODULE:FUNCTION or FILE.py:FUNCTION", on=WORK, kind=CALLABLE)
    init: str = option("", "--init", about="call this once in each warm child first", on=WORK, kind=CALLABLE)
    stdin: bool = option(False, "--stdin", about="give the task on stdin instead of in {}", on=WORK)
    jobs: int | None = option(None, "--jobs", "-j", about="tasks at a time [one a CPU]", on=WORK, kind=COUNT)
    workers: int = option(1, "--workers", "-w", about="worker processes", on="run", kind=COUNT)

    # the tasks
    files: tuple[str, ...] = option(
        (), "--arg-file", "-a", about="read tasks from FILE, not stdin", on=TASKS, kind=FILE, words="ventilate"
    )
    arguments: tuple[str, ...] | None = option(None, about="tasks given after :::", on="")
    zero: bool = option(False, "--null", "-0", about="tasks end in NUL, not newline", on=TASKS)
    block: int | None = option(None, "--block", about="make each task a block of about SIZE", on=TASKS, kind=SIZE)
    chunk: int | None = option(None, "--chunk", about="tasks in a message [sizes itself]", on=TASKS, kind=COUNT)
    window: int = option(64 * MIB, "--window", about="tasks on the way, in bytes", on=TASKS, kind=SIZE)

    # the results
    output: str = option("", "--output", "-o", about="write results to FILE, not stdout", on=SINK, kind=FILE)
    keep_order: bool = option(False, "--keep-order", "-k", about="results in the order of tasks", on=SINK)
    spill_limit: int = option(
        10 * GIB, "--spill-limit", about="disk for results ahead of their turn", on=SINK, kind=SIZE
    )

    # where the stations meet
    name: str = option(
        "default", "--name", about="meet here under this name; run takes a private one", on=ALL, kind=NAME
    )
    at: str = option("", "--at", about="meet at tcp://HOST; ports 5557 to 5559", on=ALL, kind=ENDPOINT)
    desk: str = option("", "--desk", about="the ventilator's desk alone", on=ALL, kind=ENDPOINT)
    results: str = option("", "--results-at", about="the sink's results endpoint alone", on=ALL, kind=ENDPOINT)
    control: str = option("", "--control-at", about="the sink's control endpoint alone", on=ALL, kind=ENDPOINT)
    lane_ports: str = option("20000-29999", "--lane-ports", about="tcp ports for lanes", on=TASKS, kind=PORTS)
    insecure: bool = option(False, "--insecure", about="allow tcp, which has no keys yet", on=ALL)

    # patience and talk
    patience: float = option(600.0, "--patience", about="how long to wait for a lost peer", on=ALL, kind=TIME)
    interval: float = option(1.0, "--interval", about="time between pulses", on=BEATS, kind=TIME)
    liveness: float = option(10.0, "--liveness", about="silence that loses a worker", on=BEATS, kind=TIME)
    now: bool = option(False, "--now", about="kill running tasks, too", on="kill")
    once: bool = option(False, "--once", about="print it once and end", on="top")
    verbose: int = option(0, "--verbose", "-v", about="say more", on=ALL)
    quiet: bool = option(False, "--quiet", "-q", about="no progress, no summary", on=ALL)

    def validate(self, command: str) -> Settings:
        """Itself, when it makes sense for `command`; else raises UsageError, naming the option."""
        for each in fields(self):
            least, value = each.metadata["kind"].least, getattr(self, each.name)
            if least is not None and value is not None and value < least:
                raise UsageError(f"{each.metadata['flags'][0]} must be at least {least:g}, not {value:g}")
        wrong = _wrong_tasks(self) or (_wrong_work(self) if command in WORK.split() else "")
        if wrong:
            raise UsageError(wrong)
        return self


def _wrong_work(settings: Settings) -> str:
    """What is wrong with the command and its like; empty if nothing."""
    if settings.command and settings.call:
        return "COMMAND and --call exclude each other: give one"
    if not settings.command and not settings.call:
        return "COMMAND is missing: give one, like 'gzip {}', or --call MODULE:FUNCTION"
    if settings.init and not settings.call:
        return "--init needs --call: commands have no warm child"
    if settings.stdin and settings.call:
        return "--stdin is for commands: a callable gets its task as an argument"
    for flag, name in (("--call", settings.call), ("--init", settings.init)):
        if name and not all(name.rpartition(":")[::2]):
            return f"{flag} wants MODULE:FUNCTION or FILE.py:FUNCTION, not {name!r}"
    return ""


def _wrong_tasks(settings: Settings) -> str:
    """What is wrong with the tasks and the times; empty if nothing."""
    if settings.files and settings.arguments is not None:
        return "tasks come from files or from :::, not from both"
    if settings.block and settings.arguments is not None:
        return "--block cuts files or stdin into tasks; there is nothing to cut behind :::"
    if settings.liveness <= settings.interval:
        return f"--liveness must be longer than --interval ({settings.interval:g} s)"
    return ""


def settings_from(typed: Mapping[str, object]) -> Settings:
    """The settings of what was typed: field name to a text, several texts, or a value as it is.

    What is missing or empty keeps its default. Raises UsageError, naming the option.
    """
    given: dict[str, Any] = {}
    for each in fields(Settings):
        value = typed.get(each.name)
        try:
            if isinstance(value, str):
                given[each.name] = each.metadata["kind"].read(value)
            elif value is not None:
                given[each.name] = tuple(value) if isinstance(value, list) else value
        except ValueError as wrong:
            raise UsageError(f"{each.metadata['flags'][0]}: {wrong}") from None
    return Settings(**given)
