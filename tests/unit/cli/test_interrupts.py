"""^C comes in the program's own lines and where it waits, and a little later where a library is in the middle."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.cli.interrupts import InterruptHandler, TerminationInterrupt

ELSEWHERE = "/elsewhere/library.py"
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)


@pytest.fixture(autouse=True)
def _own_lines_are_here() -> Iterator[None]:
    before = [signal.getsignal(number) for number in SIGNALS]
    hooks = sys.unraisablehook, sys.excepthook
    InterruptHandler(str(Path(__file__).parent))
    yield
    sys.unraisablehook, sys.excepthook = hooks
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, done in zip(SIGNALS, before, strict=True):
        signal.signal(number, done)


def elsewhere(name: str) -> Callable[..., Any]:
    """A function of a library: it calls what it is given, and says that it came to its end."""
    code = f"def {name}(inside, ended):\n    inside()\n    ended.append({name!r})\n"
    names: dict[str, Any] = {}
    exec(compile(code, ELSEWHERE, "exec"), names)  # noqa: S102 -- so that its file is another
    found: Callable[..., Any] = names[name]
    return found


def strike(number: signal.Signals) -> Callable[[], None]:
    """A call that is hit by the signal, from a library's code."""
    code = compile(f"import os\ndef hit():\n    os.kill(os.getpid(), {int(number)})\n", ELSEWHERE, "exec")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    found: Callable[[], None] = names["hit"]
    return found


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminationInterrupt)]
)
def test_interrupt_in_own_lines_is_raised_at_once(number: signal.Signals, raised: type[BaseException]) -> None:
    with pytest.raises(raised):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("name", ["recv", "poll", "join", "term"])
def test_interrupt_while_waiting_is_raised_at_once(name: str) -> None:
    ended: list[str] = []
    waits = elsewhere(name)
    with pytest.raises(KeyboardInterrupt):
        waits(strike(signal.SIGINT), ended)
    assert not ended


@pytest.mark.parametrize("name", ["__init__", "socket", "start", "__exit__", "destroy"])
def test_interrupt_waits_for_uninterruptible_function(name: str) -> None:
    ended: list[str] = []
    makes = elsewhere(name)

    def go_on() -> None:
        makes(strike(signal.SIGTERM), ended)
        time.sleep(10)

    with pytest.raises(TerminationInterrupt):
        go_on()
    assert ended == [name]


def test_repeated_interrupt_does_not_break_cleanup() -> None:
    ended: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        ended.append("cleared up")
    with pytest.raises(TerminationInterrupt):  # the last of them, later
        time.sleep(10)
    assert ended


class Freed:
    """Something that is hit while it is freed, where nothing can be raised."""

    def __init__(self, number: signal.Signals) -> None:
        self._number = number

    def __del__(self) -> None:
        os.kill(os.getpid(), self._number)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminationInterrupt)]
)
def test_unraisable_interrupt_is_raised_again(
    number: signal.Signals, raised: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    def free() -> None:
        Freed(number)
        time.sleep(10)

    with pytest.raises(raised):
        free()
    assert "Traceback" not in capsys.readouterr().err


def test_interrupt_is_raised_once() -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
