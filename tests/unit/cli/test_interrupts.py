"""Interrupts are raised in own lines and in waits, and deferred while a library creates or closes an object."""

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

LIBRARY_FILE = "/elsewhere/library.py"
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


def library_function(name: str) -> Callable[..., Any]:
    """Return a library function that calls its argument, and records that it has ended."""
    code = f"def {name}(inside, ended):\n    inside()\n    ended.append({name!r})\n"
    names: dict[str, Any] = {}
    exec(compile(code, LIBRARY_FILE, "exec"), names)  # noqa: S102 -- so that its file is another
    function: Callable[..., Any] = names[name]
    return function


def raise_in_library(number: signal.Signals) -> Callable[[], None]:
    """Return a library function during which the signal arrives."""
    code = compile(f"import os\ndef hit():\n    os.kill(os.getpid(), {int(number)})\n", LIBRARY_FILE, "exec")
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102
    function: Callable[[], None] = names["hit"]
    return function


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, TerminationInterrupt)]
)
def test_interrupt_in_own_lines_is_raised_at_once(number: signal.Signals, raised: type[BaseException]) -> None:
    with pytest.raises(raised):
        os.kill(os.getpid(), number)


@pytest.mark.parametrize("name", ["recv", "poll", "join", "term"])
def test_interrupt_while_waiting_is_raised_at_once(name: str) -> None:
    ended: list[str] = []
    waits = library_function(name)
    with pytest.raises(KeyboardInterrupt):
        waits(raise_in_library(signal.SIGINT), ended)
    assert not ended


@pytest.mark.parametrize("name", ["__init__", "socket", "start", "__exit__", "destroy"])
def test_interrupt_waits_for_uninterruptible_function(name: str) -> None:
    ended: list[str] = []
    makes = library_function(name)

    def run() -> None:
        makes(raise_in_library(signal.SIGTERM), ended)
        time.sleep(10)

    with pytest.raises(TerminationInterrupt):
        run()
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
    with pytest.raises(TerminationInterrupt):  # the last one is raised later
        time.sleep(10)
    assert ended


class Freed:
    """An object during whose destructor the signal arrives, where nothing can be raised."""

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
