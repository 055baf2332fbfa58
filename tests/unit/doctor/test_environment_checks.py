"""Versions, the clock, the terminal, as a test says they are."""

from __future__ import annotations

import builtins
import re
import tomllib
from importlib import metadata
from typing import Any

import pytest

from pipeline.doctor import environment_checks
from tests.support.processes import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
GOOD = {"ipc": True, "curve": True, "draft": False}


def test_what_is_wanted_is_what_the_project_says() -> None:
    assert [f"{name}>={least}" for name, least in environment_checks.MIN_LIBRARY_VERSIONS.items()] == PROJECT[
        "dependencies"
    ]
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, environment_checks.MIN_PYTHON))}"


def test_this_machine_is_good_enough_to_test_on() -> None:
    found = [
        environment_checks.check_python(),
        environment_checks.check_libraries(),
        environment_checks.check_libzmq(),
        environment_checks.check_clock(),
    ]
    assert [each for each in found if each.state != "ok"] == []


def test_an_old_python_cannot_work() -> None:
    found = environment_checks.check_python((3, 10, 9))
    assert (found.state, found.detail) == ("bad", "Python 3.10.9 is too old")
    assert "3.11" in found.fix


def test_a_library_that_is_old_or_missing_is_named_with_what_installs_it() -> None:
    def version(name: str) -> str:
        if name == "msgpack":
            raise metadata.PackageNotFoundError
        return {"pyzmq": "25.1.2", "typer": "0.100.0rc1", "rich": "13.9"}.get(name, "5.10")

    found = environment_checks.check_libraries(version)
    assert (found.state, found.detail) == ("bad", "too old or missing: pyzmq 25.1.2, msgpack is missing")
    assert found.fix == "pip install 'pyzmq>=26' 'msgpack>=1.0.5'"


@pytest.mark.parametrize(
    ("version", "has", "state", "says"),
    [
        ((4, 3, 5), GOOD, "ok", "4.3.5, ipc, curve, no draft"),
        ((4, 2, 0), GOOD, "warn", "older than 4.3.2"),
        ((4, 3, 5), GOOD | {"curve": False}, "warn", "no curve, no draft: tcp can never have keys"),
        ((4, 3, 5), GOOD | {"ipc": False}, "bad", "no ipc"),
    ],
)
def test_libzmq_must_be_able_to_do_it(version: tuple[int, ...], has: dict[str, bool], state: str, says: str) -> None:
    found = environment_checks.check_libzmq(version, has)
    assert found.state == state
    assert says in found.detail
    assert bool(found.fix) is (state != "ok")


def test_a_libzmq_that_cannot_be_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "zmq":
            raise ImportError("libzmq.so.5: not found")
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    found = environment_checks.check_libzmq()
    assert (found.state, found.detail) == ("bad", "can't be loaded: libzmq.so.5: not found")


@pytest.mark.parametrize(("now", "state"), [(1.0, "warn"), (1_800_000_000.0, "ok"), (9e9, "warn")])
def test_a_clock_that_cannot_be_right_is_told(now: float, state: str) -> None:
    found = environment_checks.check_clock(now)
    assert found.state == state
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", found.detail)


@pytest.mark.parametrize(
    ("environment", "is_one", "state", "says"),
    [
        ({}, False, "ok", "stderr is none"),
        ({"TERM": "xterm"}, True, "ok", "xterm"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, "ok", "xterm, without colours (NO_COLOR)"),
        ({"TERM": "dumb"}, True, "warn", "TERM is dumb"),
        ({}, True, "warn", "TERM is not set"),
    ],
)
def test_a_terminal_that_cannot_draw_is_told(
    environment: dict[str, str],
    is_one: bool,  # noqa: FBT001
    state: str,
    says: str,
) -> None:
    found = environment_checks.check_terminal(environment, is_terminal=is_one)
    assert (found.state, found.detail.startswith(says)) == (state, True)
