"""Checks of versions, clock and terminal, with simulated values."""

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


def test_minimum_versions_match_pyproject() -> None:
    assert [f"{name}>={minimum}" for name, minimum in environment_checks.MIN_LIBRARY_VERSIONS.items()] == PROJECT[
        "dependencies"
    ]
    assert PROJECT["requires-python"] == f">={'.'.join(map(str, environment_checks.MIN_PYTHON))}"


def test_version_checks_pass_on_this_machine() -> None:
    results = [
        environment_checks.check_python(),
        environment_checks.check_libraries(),
        environment_checks.check_libzmq(),
        environment_checks.check_clock(),
    ]
    assert [result for result in results if result.state != "ok"] == []


def test_check_python_too_old_is_bad() -> None:
    result = environment_checks.check_python((3, 10, 9))
    assert (result.state, result.detail) == ("bad", "Python 3.10.9 is too old")
    assert "3.11" in result.fix


def test_check_libraries_old_or_missing_suggests_pip_install() -> None:
    def version(name: str) -> str:
        if name == "msgpack":
            raise metadata.PackageNotFoundError
        return {"pyzmq": "25.1.2", "typer": "0.100.0rc1", "rich": "13.9"}.get(name, "5.10")

    result = environment_checks.check_libraries(version)
    assert (result.state, result.detail) == ("bad", "too old or missing: pyzmq 25.1.2, msgpack is missing")
    assert result.fix == "pip install 'pyzmq>=26' 'msgpack>=1.0.5'"


@pytest.mark.parametrize(
    ("version", "capabilities", "state", "detail"),
    [
        ((4, 3, 5), GOOD, "ok", "4.3.5, ipc, curve, no draft"),
        ((4, 2, 0), GOOD, "warn", "older than 4.3.2"),
        ((4, 3, 5), GOOD | {"curve": False}, "warn", "no curve, no draft: tcp cannot be encrypted"),
        ((4, 3, 5), GOOD | {"ipc": False}, "bad", "no ipc"),
    ],
)
def test_check_libzmq_reports_missing_capability(
    version: tuple[int, ...], capabilities: dict[str, bool], state: str, detail: str
) -> None:
    result = environment_checks.check_libzmq(version, capabilities)
    assert result.state == state
    assert detail in result.detail
    assert bool(result.fix) is (state != "ok")


def test_check_libzmq_import_error_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    original_import = builtins.__import__

    def import_without_zmq(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "zmq":
            raise ImportError("libzmq.so.5: not found")
        return original_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", import_without_zmq)
    result = environment_checks.check_libzmq()
    assert (result.state, result.detail) == ("bad", "cannot be loaded: libzmq.so.5: not found")


@pytest.mark.parametrize(("now", "state"), [(1.0, "warn"), (1_800_000_000.0, "ok"), (9e9, "warn")])
def test_check_clock_implausible_time_warns(now: float, state: str) -> None:
    result = environment_checks.check_clock(now)
    assert result.state == state
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", result.detail)


@pytest.mark.parametrize(
    ("environment", "is_terminal", "state", "detail"),
    [
        ({}, False, "ok", "stderr is not a terminal"),
        ({"TERM": "xterm"}, True, "ok", "xterm"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, "ok", "xterm, without colors (NO_COLOR)"),
        ({"TERM": "dumb"}, True, "warn", "TERM is dumb"),
        ({}, True, "warn", "TERM is not set"),
    ],
)
def test_check_terminal_unable_to_draw_warns(
    environment: dict[str, str],
    is_terminal: bool,  # noqa: FBT001
    state: str,
    detail: str,
) -> None:
    result = environment_checks.check_terminal(environment, is_terminal=is_terminal)
    assert (result.state, result.detail.startswith(detail)) == (state, True)
