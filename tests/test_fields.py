"""What a field of a word may be: the value itself, or an exception."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.wire.fields import Check, exactly, flag, known, many, one_of, ranges, record, seconds, text, whole
from pipeline.words.parts import Tried

TRIED = record(Tried, whole, whole, whole)
MOST = (1 << 62) - 1


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (text, ""), (text, "ü\n"), (flag, True), (flag, False), (whole, 0), (whole, MOST), (known, -1), (known, MOST),
        (seconds, 0.0), (seconds, 0.25), (ranges, ()), (ranges, ((0, 1), (2, MOST))), (one_of("a", "b"), "b"),
        (many(text), ()), (many(text), ("a", "")), (exactly(bytes), b""),
    ],
)  # fmt: skip
def test_what_fits_comes_back_as_it_was(check: Check, value: Any) -> None:
    checked = check(value)
    assert checked == value
    assert type(checked) is type(value)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (text, b""), (text, 1), (text, None), (flag, 1), (flag, 0), (flag, None),
        (whole, -1), (whole, MOST + 1), (whole, True), (whole, 1.0), (whole, "1"), (whole, None),
        (known, -2), (known, MOST + 1), (known, "1"), (known, None), (known, ()),
        (seconds, -0.1), (seconds, float("nan")), (seconds, float("inf")), (seconds, 1e12), (seconds, True),
        (seconds, "1"), (seconds, None),
        (ranges, [(0, 1)]), (ranges, ((1, 1),)), (ranges, ((2, 1),)), (ranges, ((-1, 1),)), (ranges, ((0, MOST + 2),)),
        (ranges, ((0, 2), (2, 3))), (ranges, ((0, 3), (2, 4))), (ranges, ((4, 5), (0, 1))), (ranges, ((0, 1, 2),)),
        (ranges, ((0,),)), (ranges, ((0.0, 1),)), (ranges, ((False, 1),)), (ranges, "ab"), (ranges, None),
        (one_of("a", "b"), "c"), (one_of("a", "b"), ""), (one_of("a", "b"), None), (one_of("a", "b"), ("a",)),
        (many(text), "ab"), (many(text), ("a", 1)), (many(text), None), (many(text), ["a"]),
        (TRIED, (1, 2)), (TRIED, (1, 2, 3, 4)), (TRIED, (1, 2, -3)), (TRIED, [1, 2, 3]), (TRIED, "abc"), (TRIED, None),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(check: Check, value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        check(value)


def test_a_whole_number_of_seconds_is_a_time() -> None:
    assert (seconds(2), type(seconds(2))) == (2.0, float)


def test_a_record_is_made_of_its_fields_each_checked_on_its_own() -> None:
    assert TRIED((1, 2, 3)) == Tried(1, 2, 3)
    assert many(TRIED)(((1, 2, 3), (4, 5, 6))) == (Tried(1, 2, 3), Tried(4, 5, 6))
