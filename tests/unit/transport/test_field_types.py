"""Field types of messages: which values are valid."""

from __future__ import annotations

from typing import Any, Literal

import msgpack
import msgspec
import pytest

from pipeline.model.messages import (
    MAX_LENGTH,
    Array,
    AttemptRange,
    Seconds,
    TaskFailure,
    Text,
    Whole,
    WholeOrUnknown,
    WireRanges,
)

MOST = (1 << 62) - 1
AB = Literal["a", "b"]


def decoded(value: Any, kind: Any) -> Any:
    """Return the value decoded as a field of that type, as if packed by another program."""
    return msgspec.msgpack.decode(msgpack.packb(value), type=kind)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Text, ""), (Text, "ü\n"), (Text, "ü" * MAX_LENGTH), (bool, True), (bool, False), (Whole, 0), (Whole, MOST),
        (WholeOrUnknown, -1), (WholeOrUnknown, MOST), (Seconds, 0.0), (Seconds, 0.25), (WireRanges, ()),
        (WireRanges, ((0, 1), (2, MOST))), (AB, "b"), (Array[Text], ()), (Array[Text], ("a", "")),
        (Array[Whole], (1,) * MAX_LENGTH),
    ],
)  # fmt: skip
def test_valid_value_round_trips(kind: Any, value: Any) -> None:
    found = decoded(value, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Text, b""), (Text, 1), (Text, None), (Text, "x" * (MAX_LENGTH + 1)), (bool, 1), (bool, 0), (bool, None),
        (Whole, -1), (Whole, MOST + 1), (Whole, True), (Whole, 1.0), (Whole, "1"), (Whole, None),
        (WholeOrUnknown, -2), (WholeOrUnknown, MOST + 1), (WholeOrUnknown, "1"), (WholeOrUnknown, None),
        (WholeOrUnknown, ()), (Seconds, -0.1), (Seconds, float("nan")), (Seconds, float("inf")), (Seconds, 1e12),
        (Seconds, True), (Seconds, "1"), (Seconds, None), (WireRanges, ((-1, 1),)), (WireRanges, ((0, MOST + 2),)),
        (WireRanges, ((0, 1, 2),)), (WireRanges, ((0,),)), (WireRanges, ((0.0, 1),)), (WireRanges, ((False, 1),)),
        (WireRanges, "ab"), (WireRanges, None), (AB, "c"), (AB, ""), (AB, None), (AB, ("a",)),
        (Array[Text], "ab"), (Array[Text], ("a", 1)), (Array[Text], None), (Array[Whole], (1,) * (MAX_LENGTH + 1)),
        (AttemptRange, (1, 2)), (AttemptRange, (1, 2, 3, 4)), (AttemptRange, (1, 2, -3)), (AttemptRange, "abc"),
        (AttemptRange, None), (AttemptRange, {}),
        (TaskFailure, (6, "odd", 9, "killed", "", 3)), (TaskFailure, (6, "signal", 9, "killed")),
    ],
)  # fmt: skip
def test_invalid_value_raises(kind: Any, value: Any) -> None:
    with pytest.raises(msgspec.ValidationError):
        decoded(value, kind)


def test_integer_is_valid_as_seconds() -> None:
    assert (decoded(2, Seconds), type(decoded(2, Seconds))) == (2.0, float)


def test_record_fields_are_checked() -> None:
    assert decoded((1, 2, 3), AttemptRange) == AttemptRange(1, 2, 3)
    assert decoded(((1, 2, 3), (4, 5, 6)), Array[AttemptRange]) == (AttemptRange(1, 2, 3), AttemptRange(4, 5, 6))
