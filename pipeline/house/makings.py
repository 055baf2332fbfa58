"""What `pipe` is made of and where it stands: versions, the clock, the terminal; one small look each.

Promises: a library that is missing or too old is named with what installs it. Changes nothing.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata

from pipeline import __version__
from pipeline.house.finding import CheckResult

MIN_PYTHON = (3, 11)
MIN_LIBRARY_VERSIONS = {
    "pyzmq": "26",
    "typer": "0.29",
    "rich": "13",
    "msgspec": "0.18.6",
    "msgpack": "1.0.5",
    "psutil": "5.9",
}
"""The least version of each library, as pyproject.toml has it."""
MIN_LIBZMQ = (4, 3, 2)
MIN_CLOCK_SECONDS, MAX_CLOCK_SECONDS = 1_760_000_000, 4_102_444_800
"""In seconds: before this was written, no clock is right; the year 2100."""


def check_python(version: tuple[int, ...] = tuple(sys.version_info[:3])) -> CheckResult:
    """Whether the interpreter is new enough."""
    shown = ".".join(map(str, version))
    if version >= MIN_PYTHON:
        return CheckResult("pipe", "ok", f"{__version__} on Python {shown}")
    least = ".".join(map(str, MIN_PYTHON))
    return CheckResult("pipe", "bad", f"Python {shown} is too old", f"install pipe for Python {least} or newer")


def check_libraries(version: Callable[[str], str] = metadata.version) -> CheckResult:
    """Whether each library is there, and new enough."""
    wrong: list[str] = []
    right: list[str] = []
    for name, least in MIN_LIBRARY_VERSIONS.items():
        try:
            found = version(name)
        except metadata.PackageNotFoundError:
            wrong.append(f"{name} is missing")
            continue
        (right if _version_numbers(found) >= _version_numbers(least) else wrong).append(f"{name} {found}")
    if not wrong:
        return CheckResult("libraries", "ok", ", ".join(right))
    names = " ".join(
        f"'{name}>={MIN_LIBRARY_VERSIONS[name]}'"
        for name in MIN_LIBRARY_VERSIONS
        if any(each.split()[0] == name for each in wrong)
    )
    return CheckResult("libraries", "bad", f"too old or missing: {', '.join(wrong)}", f"pip install {names}")


def check_libzmq(version: tuple[int, ...] = (), capabilities: Mapping[str, bool] | None = None) -> CheckResult:
    """Whether libzmq does as the design thinks, and has what tcp will need."""
    wheel = "pip install --force-reinstall --only-binary :all: pyzmq"
    try:
        import zmq
    except ImportError as error:
        return CheckResult("libzmq", "bad", f"can't be loaded: {error}", wheel)
    found = version or zmq.zmq_version_info()
    able = {name: zmq.has(name) for name in ("ipc", "curve", "draft")} if capabilities is None else capabilities
    shown = f"{'.'.join(map(str, found))}, " + ", ".join(f"{'' if yes else 'no '}{name}" for name, yes in able.items())
    if not able.get("ipc"):
        return CheckResult("libzmq", "bad", f"{shown}: stations can't meet on one machine", wheel)
    if found < MIN_LIBZMQ:
        least = ".".join(map(str, MIN_LIBZMQ))
        return CheckResult("libzmq", "warn", f"{shown}: older than {least}, connections may not be repaired", wheel)
    if not able.get("curve"):
        return CheckResult("libzmq", "warn", f"{shown}: tcp can never have keys", wheel)
    return CheckResult("libzmq", "ok", f"{shown} (no drafts are needed)")


def check_clock(now: float = 0.0) -> CheckResult:
    """Whether the clock can be right: journals, job logs and `pipe top` show its time."""
    seconds = now or time.time()
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    if MIN_CLOCK_SECONDS <= seconds < MAX_CLOCK_SECONDS:
        return CheckResult("clock", "ok", shown)
    says = f"{shown} can't be right: journals and job logs would say so, too, and files may look changed"
    return CheckResult("clock", "warn", says, "set the clock, as with `timedatectl set-ntp true`")


def check_terminal(environment: Mapping[str, str], *, is_terminal: bool) -> CheckResult:
    """Whether a bar can be drawn on stderr, if that is a terminal."""
    if not is_terminal:
        return CheckResult("terminal", "ok", "stderr is none: no bar is drawn unless with --bar")
    term = environment.get("TERM", "")
    if term in {"", "dumb"}:
        says = f"TERM is {term or 'not set'}: a bar would be drawn line under line"
        return CheckResult("terminal", "warn", says, "set TERM, as to xterm-256color, or give --no-bar")
    plain = ", without colours (NO_COLOR)" if environment.get("NO_COLOR") else ""
    return CheckResult("terminal", "ok", f"{term}{plain}")


def _version_numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)[:3]]
