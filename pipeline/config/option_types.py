"""Parsers for option values (sizes, durations, port ranges, `--halt`) and the names that the help shows for them.

Invariants:
  - A parser takes a text and returns the value, or raises ValueError with a reason that contains the text.
  - A reason may end with `; HINT`, which `parse_settings` shows as the hint.
  - No parser knows an option by name or looks at the machine.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from pipeline.model.option_values import HaltCondition, Timeout

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
MAX_PORT = 65535
_MAX_TASKS = 1 << 62  # more than any run can have
_SIZE_UNITS = {"": 1, "k": KIB, "m": MIB, "g": GIB, "t": KIB * GIB}
_TIME_UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def parse_integer(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


def parse_jobs(text: str) -> int:
    """Return a whole number; reject `200%`, `+1` and `-1`, which GNU parallel computes from the number of CPUs."""
    if re.fullmatch(r"[0-9]+%|[+-][0-9]+", text):
        raise ValueError(f"{text!r} is not a plain number; compute it in the shell, as in -j $((2 * $(nproc)))")
    return parse_integer(text)


def parse_size(text: str) -> int:
    """Return the bytes of `512`, `64k`, `1M` or `1.5G`; units are powers of 1024."""
    found = re.fullmatch(r"([0-9]{1,18}(?:\.[0-9]+)?)([kmgt]?)(?:i?b)?", text.lower())
    if not found:
        raise ValueError(f"{text!r} is not a size like 512, 64k, 1M or 10G")
    return int(float(found[1]) * _SIZE_UNITS[found[2]])


def parse_seconds(text: str) -> float:
    """Return the seconds of `2`, `0.5`, `300ms`, `10m` or `1h`."""
    found = re.fullmatch(r"([0-9]{1,12}(?:\.[0-9]+)?)(ms|min|[smhd]?)", text.lower())
    if not found:
        raise ValueError(f"{text!r} is not a time like 2, 0.5, 300ms, 10m or 1h")
    return float(found[1]) * _TIME_UNITS[found[2]]


def parse_timeout(text: str) -> Timeout:
    """Return the limit of a time, or of a percentage of the median, as in `200%`."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)%", text)
    limit = Timeout(median_factor=float(found[1]) / 100) if found else Timeout(seconds=parse_seconds(text))
    if not limit:
        raise ValueError(f"{text!r} is not more than 0")
    return limit


def parse_halt(text: str) -> HaltCondition | None:
    """Return the condition of `now,fail=1` or `soon,done=10%`; None for `never`."""
    if text == "never":
        return None
    found = re.fullmatch(r"(soon|now),(fail|success|done)=([0-9]{1,18})(%?)", text)
    if not found or not 0 < int(found[3]) <= (100 if found[4] else _MAX_TASKS):
        raise ValueError(f"{text!r} is not like now,fail=1 or soon,done=10%")
    mode, event, number = found[1], found[2], int(found[3])
    return HaltCondition(mode, event, percent=number) if found[4] else HaltCondition(mode, event, number)  # type: ignore[arg-type]


def parse_port_range(text: str) -> tuple[int, int]:
    """Return the first and the last port of `20000-29999`."""
    found = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", text)
    low, high = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < low <= high <= MAX_PORT:
        raise ValueError(f"{text!r} is not a range of ports like 20000-29999")
    return low, high


def check_port_range(text: str) -> str:
    parse_port_range(text)
    return text


def check_durability(text: str) -> str:
    if text not in {"process", "disk"}:
        raise ValueError(f"{text!r} is neither process nor disk")
    return text


def check_regex(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}") from None
    return text


def check_header(text: str) -> str:
    if text != ":":
        raise ValueError(f"{text!r} is not a colon; give `--header :`")
    return text


class OptionType(Struct, frozen=True):
    """The form of an option's value: its name in the help, its parser, and its minimum."""

    metavar: str = ""
    parse: Callable[[str], object] = str
    minimum: float | None = None


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
