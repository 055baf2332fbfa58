"""Metrics of tasks as bytes: encoding, slicing, validation."""

from __future__ import annotations

import pytest

from pipeline.model.results import TaskMetrics, check_metrics, decode_metrics, encode_metrics, slice_metrics

ONE = TaskMetrics(1e9, 0.5, 2.0, 1.5, 1 << 40, 1, 3, b"wc \xff", b"\xff\n")
TWO = TaskMetrics(0.0, 0.0, 0.0, 0.0, 0, 2, 0, b"", b"")
BOTH = encode_metrics(ONE) + encode_metrics(TWO)


def test_metrics_round_trip() -> None:
    assert list(decode_metrics(BOTH)) == [ONE, TWO]
    assert list(decode_metrics(b"")) == []


@pytest.mark.parametrize(("low", "high", "left"), [(0, 1, [ONE]), (1, 2, [TWO]), (0, 2, [ONE, TWO]), (2, 2, [])])
def test_slice_metrics_returns_given_tasks(low: int, high: int, left: list[TaskMetrics]) -> None:
    assert list(decode_metrics(slice_metrics(BOTH, low, high))) == left


def test_check_metrics_mismatch_raises() -> None:
    check_metrics(BOTH, 2, 3)
    for body, count, errors in ((BOTH, 1, 3), (BOTH, 2, 2), (BOTH[:-1], 1, 3), (BOTH + b"x", 2, 3)):
        with pytest.raises(ValueError, match="metrics"):
            check_metrics(body, count, errors)


def test_truncated_metrics_raise() -> None:
    for size in range(len(BOTH)):
        if size in {0, len(encode_metrics(ONE))}:
            continue
        with pytest.raises(ValueError, match="cut off"):
            list(decode_metrics(BOTH[:size]))
