from __future__ import annotations

import pytest

from pipeline.config.option_types import (
    GIB,
    KIB,
    MIB,
    check_durability,
    parse_integer,
    parse_port_range,
    parse_seconds,
    parse_size,
    parse_timeout,
)
from pipeline.model.option_values import UNLIMITED, Timeout


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
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "1X", "-1M", "1 M", "0x10", "1e9", "nan", "٣"])
def test_parse_size_rejects_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size like"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("2", 2), ("0.5", 0.5), ("300ms", 0.3), ("10m", 600), ("1h", 3600), ("1d", 86400)]
)
def test_times_are_seconds(text: str, expected: float) -> None:
    assert parse_seconds(text) == pytest.approx(expected)


@pytest.mark.parametrize("text", ["", "soon", "inf", "nan", "-1", "1y"])
def test_parse_seconds_rejects_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time like"):
        parse_seconds(text)


def test_port_ranges_are_checked() -> None:
    assert parse_port_range("20000-29999") == (20000, 29999)
    for wrong in ("20000", "0-5", "30-20", "1-65536", "a-b"):
        with pytest.raises(ValueError, match=wrong):
            parse_port_range(wrong)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200%", Timeout(median_factor=2.0)),
        ("12.5%", Timeout(median_factor=0.125)),
        ("30s", Timeout(30.0)),
        ("500ms", Timeout(0.5)),
    ],
)
def test_timeout_is_a_time_or_a_percentage(text: str, expected: Timeout) -> None:
    assert parse_timeout(text) == expected
    assert parse_timeout(text)


@pytest.mark.parametrize("text", ["0", "0%", "0ms"])
def test_timeout_must_be_positive(text: str) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        parse_timeout(text)
    assert not UNLIMITED


@pytest.mark.parametrize("text", ["", "%", "-5%", "5 %", "five"])
def test_parse_timeout_rejects_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time like"):
        parse_timeout(text)


def test_parse_integer_rejects_other_texts() -> None:
    assert (parse_integer("17"), parse_integer("-3")) == (17, -3)
    for wrong in ("", "1.0", "1e3", "one", "\u0663", "9" * 19):
        with pytest.raises(ValueError, match="is not a whole number"):
            parse_integer(wrong)


def test_durability_has_two_values() -> None:
    assert [check_durability(text) for text in ("process", "disk")] == ["process", "disk"]
    with pytest.raises(ValueError, match="'Disk' is neither process nor disk"):
        check_durability("Disk")
