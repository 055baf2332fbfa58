from __future__ import annotations

import re
from typing import Any

import pytest

from pipeline.config.option_types import MIB
from pipeline.config.settings import OPTIONS, Settings, parse_settings
from pipeline.model.errors import UsageError
from pipeline.model.option_values import HaltCondition, Timeout
from pipeline.model.records import ArgumentSource


def test_parse_settings_converts_values() -> None:
    settings = parse_settings(
        {
            "command": ["gzip", "{}"],
            "jobs": "3",
            "lane_ports": "7000-7009",
            "window": "1M",
            "peer_timeout": "2m",
            "files": ["a", "b"],
            "zero": True,
            "verbose": 2,
            "timeout": "150%",
            "halt": "soon,fail=3",
            "durability": "disk",
            "retries": "0",
        }
    )
    assert settings == Settings(
        command=("gzip", "{}"),
        jobs=3,
        lane_ports="7000-7009",
        window=MIB,
        peer_timeout=120,
        files=("a", "b"),
        zero=True,
        verbose=2,
        timeout=Timeout(median_factor=1.5),
        halt=HaltCondition("soon", "fail", 3),
        durability="disk",
        retries=0,
    )


def test_parse_settings_keeps_defaults() -> None:
    assert parse_settings({}) == Settings()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ({"jobs": "two"}, "--jobs: 'two' is not a whole number"),
        ({"window": "big"}, "--window: 'big' is not a size"),
        ({"heartbeat_timeout": "long"}, "--heartbeat-timeout: 'long' is not a time"),
        ({"lane_ports": "5-1"}, "--lane-ports: '5-1' is not a range of ports"),
        ({"timeout": "0"}, "--timeout: '0' is not more than 0"),
        ({"halt": "later"}, "--halt: 'later' is not like now,fail=1"),
        ({"durability": "ram"}, "--durability: 'ram' is neither process nor disk"),
    ],
)
def test_invalid_value_names_its_option(typed: dict[str, object], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        parse_settings(typed)


@pytest.mark.parametrize(
    ("command", "given", "expected"),
    [
        ("run", {"command": ("x",), "jobs": 0}, "--jobs must be at least 1, not 0"),
        ("run", {"command": ("x",), "workers": 0}, "--workers must be at least 1, not 0"),
        ("ventilate", {"chunk": 0}, "--chunk must be at least 1, not 0"),
        ("ventilate", {"block": 0}, "--block must be at least 1, not 0"),
        (
            "ventilate",
            {"heartbeat_interval": 5.0, "heartbeat_timeout": 5.0},
            "--heartbeat-timeout must be longer than --heartbeat-interval",
        ),
        (
            "sink",
            {"heartbeat_interval": 5.0, "heartbeat_timeout": 5.0},
            "--heartbeat-timeout must be longer than --heartbeat-interval",
        ),
        ("work", {"stdin": True}, "--stdin requires COMMAND"),
        ("run", {"command": ("x",), "call": "a:b"}, "COMMAND and --call exclude each other"),
        ("run", {"command": ("x",), "init": "a:b"}, "--init requires --call"),
        ("run", {"call": "a:b", "stdin": True}, "--stdin requires COMMAND, not --call"),
        ("run", {"call": "a:b", "keep_background": True}, "--keep-background requires COMMAND, not --call"),
        ("run", {"call": "a:b", "tag": True}, "--tag(string)? requires COMMAND, not --call"),
        ("work", {"call": "a:b", "tagstring": "{}"}, "--tag(string)? requires COMMAND, not --call"),
        ("work", {"call": "nothing"}, "--call: 'nothing' is not like MODULE:FUNCTION"),
        ("work", {"call": "a:b", "init": "b:"}, "--init: 'b:' is not like MODULE:FUNCTION"),
        (
            "run",
            {"command": ("x",), "files": ("a",), "argument_sources": (ArgumentSource(":::", ()),)},
            "not from both",
        ),
        (
            "ventilate",
            {"block": 10, "argument_sources": (ArgumentSource(":::", ("a",)),)},
            "--block cuts files or stdin",
        ),
        (
            "ventilate",
            {"from_failed": True, "argument_sources": (ArgumentSource(":::", ("a",)),)},
            "from files or stdin; leave out :::, --block and -0",
        ),
        ("ventilate", {"from_failed": True, "block": 10}, "--from-failed reads the output of --failed"),
        ("ventilate", {"from_failed": True, "zero": True}, "--from-failed reads the output of --failed"),
        ("ventilate", {"spool": "d", "no_spool": True}, "--spool and --no-spool exclude each other"),
        ("ventilate", {"max_task": 0}, "--max-task-bytes must be at least 1, not 0"),
        ("work", {"command": ("x",), "term_grace": -1.0}, "--term-grace must be at least 0, not -1"),
        ("sink", {"retries": -1}, "--retries must be at least 0, not -1"),
        ("sink", {"crash_limit": 0}, "--crash-limit must be at least 1, not 0"),
        ("run", {"command": ("x",), "resume": True, "restart": True}, "--resume continues .* --restart discards it"),
        ("sink", {"output": "o", "resume_failed": True, "restart": True}, "--resume-failed continues .* give one"),
        ("run", {"command": ("x",), "resume": True}, "--resume requires a journal; give -o FILE, or --journal FILE"),
        ("sink", {"resume_failed": True}, "--resume-failed requires a journal"),
        ("sink", {"durability": "disk"}, "--durability disk requires a journal"),
        ("journal", {}, "FILE is missing; give a journal, like results.txt.journal"),
    ],
)
def test_conflicting_options_are_rejected(command: str, given: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as error:
        Settings(**given).validate(command)
    assert re.search(expected, f"{error.value}; {error.value.hint}")


@pytest.mark.parametrize(
    ("command", "given"),
    [
        ("run", {"command": ("x",), "output": "o", "resume": True, "resume_failed": True, "durability": "disk"}),
        ("run", {"command": ("x",), "journal": "j", "resume": True}),
        ("run", {"command": ("x",), "restart": True}),
        ("sink", {"output": "o", "failed": "f", "journal": "j"}),
        ("ventilate", {"from_failed": True, "files": ("f",)}),
        ("journal", {"journal": "o.journal"}),
    ],
)
def test_compatible_options_are_accepted(command: str, given: dict[str, Any]) -> None:
    Settings(**given).validate(command)


@pytest.mark.parametrize("command", ["ventilate", "sink", "kill", "top"])
def test_other_commands_need_no_task_command(command: str) -> None:
    settings = Settings()
    assert settings.validate(command) is settings


def test_settings_are_frozen() -> None:
    with pytest.raises(AttributeError):
        Settings().jobs = 3  # type: ignore[misc]


def test_heartbeat_options_belong_to_heartbeat_commands() -> None:
    on = {each.name: each.on for each in OPTIONS}
    # a worker receives them in its Registration
    assert on["heartbeat_interval"] == on["heartbeat_timeout"] == {"run", "ventilate", "sink"}


def test_flags_are_unique_in_each_command() -> None:
    for command in ("run", "ventilate", "work", "sink", "kill", "top"):
        flags = [flag for each in OPTIONS if command in each.on for flag in each.flags]
        assert len(flags) == len(set(flags)) > 0
