"""What a field of a word may be: checks that answer with the value, or raise TypeError or ValueError.

A check never trusts: not a type, not a size, not an order. They are put together from smaller ones, as words are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipeline.words.parts import Ranges

Check = Callable[[Any], Any]


def exactly(kind: type) -> Check:
    """A value of this very type."""

    def check(value: Any) -> Any:
        if type(value) is not kind:
            raise TypeError(value)
        return value

    return check


text, flag = exactly(str), exactly(bool)


def whole(value: Any) -> int:
    """A whole number that fits 62 bits."""
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise TypeError(value)
    return value


def known(value: Any) -> int:
    """A whole number, or -1 while it is unknown."""
    return -1 if value == -1 else whole(value)


def seconds(value: Any) -> float:
    """A time that is not negative."""
    if type(value) not in (float, int) or not 0 <= value < 1e12:  # noqa: PLR2004 (NaN fails, too)
        raise TypeError(value)
    return float(value)


def ranges(value: Any) -> Ranges:
    """Sorted, half-open, not empty, and merged: two that touch are one."""
    last = -1
    if type(value) is not tuple:
        raise TypeError(value)
    for low, high in value:
        if type(low) is not int or type(high) is not int or not last < low < high < 1 << 62:
            raise TypeError(value)
        last = high
    return tuple(value)


def one_of(*words: str) -> Check:
    """One of these words."""

    def check(value: Any) -> str:
        if value not in words:
            raise TypeError(value)
        return str(value)

    return check


def record(kind: type, *checks: Check) -> Check:
    """An array of so many fields, as a `kind`."""

    def check(value: Any) -> Any:
        if type(value) is not tuple:
            raise TypeError(value)
        return kind(*(own(item) for own, item in zip(checks, value, strict=True)))

    return check


def many(check_one: Check) -> Check:
    """An array of any number of these."""

    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple:
            raise TypeError(value)
        return tuple(check_one(item) for item in value)

    return check
