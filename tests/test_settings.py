from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from pipeline.errors import UsageError
from pipeline.settings import GIB, KIB, MIB, Settings, port_range, seconds, settings_from, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512", 512),
        ("64k", 64 * KIB),
        ("1M", MIB),
        ("1.5m", 3 * MIB // 2),
        ("10G", 10 * GIB),
        ("2KiB", 2048),
        ("7b", 7),
    ],
)
def test_sizes_are_powers_of_1024(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "1X", "-1M", "1 M", "0x10", "1e9", "nan", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size like"):
        size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("2", 2), ("0.5", 0.5), ("300ms", 0.3), ("10m", 600), ("1h", 3600), ("1d", 86400)]
)
def test_times_are_seconds(text: str, expected: float) -> None:
    assert seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "soon", "inf", "nan", "-1", "1y"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time like"):
        seconds(text)


def test_port_ranges_are_checked() -> None:
    assert port_range("20000-29999") == (20000, 29999)
    for wrong in ("20000", "0-5", "30-20", "1-65536", "a-b"):
        with pytest.raises(ValueError, match=wrong):
            port_range(wrong)


def test_what_was_typed_becomes_typed_values() -> None:
    settings = settings_from(
        {
            "command": ["gzip", "{}"],
            "jobs": "3",
            "lane_ports": "7000-7009",
            "window": "1M",
            "patience": "2m",
            "files": ["a", "b"],
            "zero": True,
            "verbose": 2,
        }
    )
    assert settings == Settings(
        command=("gzip", "{}"),
        jobs=3,
        lane_ports="7000-7009",
        window=MIB,
        patience=120,
        files=("a", "b"),
        zero=True,
        verbose=2,
    )


def test_what_was_not_typed_keeps_its_default() -> None:
    assert settings_from({}) == Settings()


@pytest.mark.parametrize(
    ("typed", "named"),
    [
        ({"jobs": "two"}, "--jobs: 'two' is not a whole number"),
        ({"window": "big"}, "--window: 'big' is not a size"),
        ({"liveness": "long"}, "--liveness: 'long' is not a time"),
        ({"lane_ports": "5-1"}, "--lane-ports: '5-1' is not a range of ports"),
    ],
)
def test_a_value_that_cannot_be_read_names_its_option(typed: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        settings_from(typed)


@pytest.mark.parametrize(
    ("command", "given", "named"),
    [
        ("run", {"command": ("x",), "jobs": 0}, "--jobs must be at least 1, not 0"),
        ("run", {"command": ("x",), "workers": 0}, "--workers must be at least 1, not 0"),
        ("ventilate", {"chunk": 0}, "--chunk must be at least 1, not 0"),
        ("ventilate", {"block": 0}, "--block must be at least 1, not 0"),
        ("ventilate", {"interval": 5.0, "liveness": 5.0}, "--liveness must be longer than --interval"),
        ("sink", {"interval": 5.0, "liveness": 5.0}, "--liveness must be longer than --interval"),
        ("work", {}, "COMMAND is missing"),
        ("run", {"command": ("x",), "call": "a:b"}, "COMMAND and --call exclude each other"),
        ("run", {"command": ("x",), "init": "a:b"}, "--init needs --call"),
        ("run", {"call": "a:b", "stdin": True}, "--stdin is for commands"),
        ("work", {"call": "nothing"}, "--call wants MODULE:FUNCTION"),
        ("work", {"call": "a:b", "init": "b:"}, "--init wants MODULE:FUNCTION"),
        ("run", {"command": ("x",), "files": ("a",), "arguments": ()}, "not from both"),
        ("ventilate", {"block": 10, "arguments": ("a",)}, "--block cuts files or stdin"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(command: str, given: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Settings(**given).validate(command)


@pytest.mark.parametrize("command", ["ventilate", "sink", "kill", "top"])
def test_only_those_that_run_tasks_need_a_command(command: str) -> None:
    settings = Settings()
    assert settings.validate(command) is settings


def test_settings_are_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Settings().jobs = 3  # type: ignore[misc]


def test_who_repeats_itself_or_loses_others_has_its_own_times() -> None:
    on = {each.name: each.metadata["on"] for each in fields(Settings)}
    assert on["interval"] == on["liveness"] == {"run", "ventilate", "sink"}  # a worker is told them in its Welcome


def test_no_flag_means_two_things_in_one_command() -> None:
    for command in ("run", "ventilate", "work", "sink", "kill", "top"):
        flags = [flag for each in fields(Settings) if command in each.metadata["on"] for flag in each.metadata["flags"]]
        assert len(flags) == len(set(flags)) > 0
