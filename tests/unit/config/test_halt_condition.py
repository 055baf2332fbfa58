"""Conditions of --halt."""

from __future__ import annotations

import pytest

from pipeline.config.option_types import parse_halt
from pipeline.model.option_values import HaltCondition


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now,fail=1", HaltCondition("now", "fail", 1)),
        ("soon,success=20", HaltCondition("soon", "success", 20)),
        ("soon,done=10%", HaltCondition("soon", "done", percent=10)),
        ("never", None),
    ],
)
def test_parse_halt(text: str, expected: HaltCondition | None) -> None:
    assert parse_halt(text) == expected
    assert str(expected or "never") == text


@pytest.mark.parametrize(
    "text", ["", "now", "now,fail", "now,fail=", "now,fail=0", "now,fail=0%", "now,fail=-1", "later,fail=1",
             "now,lost=1", "now,fail=1,done=2", "Now,fail=1", "now, fail=1", "soon,done=101%", "soon,done=1.5%"],
)  # fmt: skip
def test_parse_halt_rejects_other_texts(text: str) -> None:
    with pytest.raises(ValueError, match="is not like now,fail=1 or soon,done=10%") as error:
        parse_halt(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "done", "failed", "total", "due"),
    [
        ("now,fail=1", 9, 0, -1, False),
        ("now,fail=1", 9, 1, -1, True),
        ("now,fail=2", 9, 3, 10, True),
        ("now,success=3", 4, 2, 10, False),
        ("now,success=3", 5, 2, 10, True),
        ("soon,done=5", 4, 4, 10, False),
        ("soon,done=5", 5, 0, 10, True),
        ("soon,done=5", 5, 0, -1, True),
        ("soon,fail=10%", 9, 9, -1, False),  # the total is unknown
        ("soon,fail=10%", 9, 1, 11, False),
        ("soon,fail=10%", 9, 1, 10, True),
        ("soon,done=100%", 10, 0, 10, True),
        ("soon,done=100%", 9, 0, 10, False),
        ("soon,fail=1%", 0, 0, 0, False),
    ],
)
def test_halt_is_met_at_its_count(text: str, done: int, failed: int, total: int, due: bool) -> None:  # noqa: FBT001
    halt = parse_halt(text)
    assert halt
    assert (halt.events_left(done, failed, total) == 0) is due


@pytest.mark.parametrize(
    ("text", "done", "failed", "total", "left"),
    [
        ("now,fail=3", 9, 1, -1, 2), ("now,fail=3", 9, 9, -1, 0), ("soon,success=5", 4, 2, 9, 3),
        ("soon,done=10%", 0, 0, -1, -1), ("soon,done=10%", 1, 0, 31, 3), ("now,fail=7%", 9, 0, 100, 7),
        ("now,fail=1%", 0, 0, 5, 1), ("now,fail=1%", 0, 0, 0, 1),
    ],
)  # fmt: skip
def test_halt_events_left(text: str, done: int, failed: int, total: int, left: int) -> None:
    halt = parse_halt(text)
    assert halt
    assert halt.events_left(done, failed, total) == left
