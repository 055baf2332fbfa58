"""Parsers for option values: sizes, durations, port ranges, --halt.

When a person wants a run to end before all is done: after so many failures, successes or ends.

The words are GNU parallel's: `soon` starts nothing more, `now` kills what runs; `fail`, `success` or `done`; a number,
or a percentage of all tasks, which can be told only once their number is known. Nothing here ends anything.

How the value of an option is written: sizes, times, counts, and what the help calls them.

A reader takes a text and answers with the value, or raises ValueError with what is wrong in the words of the person
who typed it. It knows no option by name, and never looks at the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from pipeline.model.option_values import HaltCondition, Timeout

_MAX_TASKS = 1 << 62
"""As many tasks as there can be."""


def parse_halt(text: str) -> HaltCondition | None:
    """What `now,fail=1`, `soon,done=10%` or `never` mean. Raises ValueError."""
    if text == "never":
        return None
    found = re.fullmatch(r"(soon|now),(fail|success|done)=([0-9]{1,18})(%?)", text)
    if not found or not 0 < int(found[3]) <= (100 if found[4] else _MAX_TASKS):
        raise ValueError(f"{text!r} is not like now,fail=1 or soon,done=10%")
    mode, why, number = found[1], found[2], int(found[3])
    return HaltCondition(mode, why, percent=number) if found[4] else HaltCondition(mode, why, number)  # type: ignore[arg-type]


KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
MAX_PORT = 65535

_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": KIB * GIB}
_TIME_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_integer(text: str) -> int:
    """A whole number. Raises ValueError."""
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def parse_jobs(text: str) -> int:
    """A whole number. Raises ValueError, also for what GNU parallel reckons from the CPUs: `200%`, `+1`, `-1`."""
    if re.fullmatch(r"[0-9]+%|[+-][0-9]+", text):
        raise ValueError(f"{text!r} is not a plain number: reckon it in the shell, as in -j $((2 * $(nproc)))")
    return parse_integer(text)


def parse_size(text: str) -> int:
    """Bytes of `512`, `64k`, `1M`, `1.5G`: powers of 1024. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", text.lower())
    if not found:
        raise ValueError(f"{text!r} is not a size like 512, 64k, 1M or 10G")
    return int(float(found[1]) * _SIZE_UNITS[found[2]])


def parse_seconds(text: str) -> float:
    """Seconds of `2`, `0.5`, `300ms`, `10m`, `1h`. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]+)?)(ms|min|[smhd]?)", text.lower())
    if not found:
        raise ValueError(f"{text!r} is not a time like 2, 0.5, 300ms, 10m or 1h")
    return float(found[1]) * _TIME_UNITS[found[2]]


def parse_port_range(text: str) -> tuple[int, int]:
    """First and last port of `20000-29999`. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < low <= high <= MAX_PORT:
        raise ValueError(f"{text!r} is not a range of ports like 20000-29999")
    return low, high


def check_port_range(text: str) -> str:
    """The text itself, when it is a port range. Raises ValueError."""
    parse_port_range(text)
    return text


def check_durability(text: str) -> str:
    """`process` or `disk`. Raises ValueError."""
    if text not in {"process", "disk"}:
        raise ValueError(f"{text!r} is neither process nor disk")
    return text


def parse_timeout(text: str) -> Timeout:
    """Of a time, or of `200%` of the median. Raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)%", text)
    limit = Timeout(median_factor=float(found[1]) / 100) if found else Timeout(seconds=parse_seconds(text))
    if not limit:
        raise ValueError("it must be more than 0")
    return limit


class OptionType(Struct, frozen=True):
    """How a value is written: its name in the help, how it is read, the least one allowed."""

    metavar: str = ""
    parse: Callable[[str], object] = str
    minimum: float | None = None


def check_regex(text: str) -> str:
    """The text itself, when it is a regular expression. Raises ValueError."""
    try:
        re.compile(text)
    except re.error as wrong:
        raise ValueError(f"{text!r} is not a regular expression: {wrong}") from None
    return text


def check_header(text: str) -> str:
    """A colon: the first line. Raises ValueError."""
    if text != ":":
        raise ValueError(f"it takes a colon, as in `--header :`, not {text!r}")
    return text


FLAG = OptionType()
TEXT = OptionType("TEXT")
VARIABLE = OptionType("NAME[=VALUE]")
REGEX = OptionType("REGEX", check_regex)
HEADER = OptionType(":", check_header)
NUMBER = OptionType("N", parse_integer)
NAME = OptionType("NAME")
FILE = OptionType("FILE")
FOLDER = OptionType("DIR")
COMMAND = OptionType("COMMAND")
ENDPOINT = OptionType("ENDPOINT")
CALLABLE = OptionType("CALLABLE")
PORTS = OptionType("LOW-HIGH", check_port_range)
COUNT = OptionType("N", parse_integer, 1)
SIZE = OptionType("SIZE", parse_size, 1)
TIME = OptionType("TIME", parse_seconds, 0.01)
HALT = OptionType("WHEN,WHY=N", parse_halt)
SHELL = OptionType("bash|zsh|fish")
PROGRAM = OptionType("PROGRAM")
JOBS = OptionType("N", parse_jobs, 1)
DURABILITY = OptionType("process|disk", check_durability)
TIMEOUT = OptionType("TIME|N%", parse_timeout)
RETRY_COUNT = OptionType("N", parse_integer, 0)
DELAY = OptionType("TIME", parse_seconds, 0)
