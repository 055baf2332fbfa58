"""Splitting and merging results: outputs stay with their task, even if a worker sends wrong ends."""

from __future__ import annotations

import struct

import pytest

from pipeline.model.messages import Result, TaskFailure
from pipeline.model.results import TaskMetrics, encode_metrics, merge_results, slice_result
from pipeline.model.structs import replace


def result(first: int, *outputs: bytes, errors: bytes = b"", notes: tuple[TaskFailure, ...] = ()) -> Result:
    ends = [sum(map(len, outputs[: k + 1])) for k in range(len(outputs))]
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("r", "ann", first, len(outputs), b"".join(outputs), packed, errors, notes)


FAILED = replace(
    result(
        4, b"four", b"", b"six", b"seven", errors=b"oh",
        notes=(TaskFailure(4, "exit", 1, "one", "", record_size=2), TaskFailure(7, "signal", 9, "killed", "",
        record_size=3)),
    ),
    attempt=2, failed_records=b"aabbb",
)  # fmt: skip
FOUR_AND_FIVE = replace(
    result(4, b"four", b"", errors=b"oh", notes=FAILED.failures[:1]), attempt=2, failed_records=b"aa"
)  # fmt: skip
SEVEN = replace(result(7, b"seven", notes=FAILED.failures[1:]), attempt=2, failed_records=b"bbb")


def test_slice_keeps_outputs_failures_records_and_attempt() -> None:
    assert slice_result(FAILED, [(4, 8)]) == [FAILED]
    assert slice_result(FAILED, [(4, 6), (7, 8)]) == [FOUR_AND_FIVE, SEVEN]
    assert slice_result(FAILED, []) == []


def test_slice_with_metrics_splits_stderr() -> None:
    slots = [encode_metrics(TaskMetrics(0.0, 0.0, 0.0, 0.0, 0, slot, slot, b"", b"")) for slot in (1, 0, 2)]
    whole_result = replace(result(4, b"a", b"b", b"c", errors=b"123"), metrics=b"".join(slots), shape="json")
    assert [(part.stderr, part.metrics) for part in slice_result(whole_result, [(4, 5), (6, 7)])] == [
        (b"1", slots[0]), (b"23", slots[2]),
    ]  # fmt: skip
    assert {part.shape for part in slice_result(whole_result, [(4, 5), (6, 7)])} == {"json"}
    assert merge_results(slice_result(whole_result, [(4, 5), (5, 7)])) == whole_result


def test_slice_without_metrics_keeps_stderr_in_first_part() -> None:
    middle = replace(result(5, b"", b"six", errors=b"oh"), attempt=2)
    assert slice_result(FAILED, [(5, 7), (7, 8)]) == [middle, SEVEN]


@pytest.mark.parametrize(
    ("ends", "outputs"),
    [
        ((5, 2, 6), [b"abcde", b"", b"f"]),
        ((4, 0, 6), [b"abcd", b"", b"ef"]),
        ((0, 6, 6), [b"", b"abcdef", b""]),
        ((900, 3, 6), [b"abcdef", b"", b""]),
    ],
)
def test_slice_with_unordered_ends_does_not_raise(ends: tuple[int, ...], outputs: list[bytes]) -> None:
    odd = Result("r", "ann", 0, 3, b"abcdef", struct.pack("<3I", *ends), b"", ())
    assert [part.output for part in slice_result(odd, [(0, 1), (1, 2), (2, 3)])] == outputs
    assert [part.output for part in slice_result(odd, [(0, 2)])] == [b"".join(outputs[:2])]


def test_merge_counts_ends_from_its_start() -> None:
    last = replace(result(8, b"eight", errors=b"no", notes=(TaskFailure(8, "exit", 2, "", "", 0),)), attempt=2)
    whole = merge_results([FOUR_AND_FIVE, slice_result(replace(FAILED, stderr=b""), [(6, 7)])[0], SEVEN, last])
    notes = (*FAILED.failures, TaskFailure(8, "exit", 2, "", "", 0))
    outputs = (b"four", b"", b"six", b"seven", b"eight")
    assert whole == replace(result(4, *outputs, errors=b"ohno", notes=notes), attempt=2, failed_records=b"aabbb")
    assert merge_results([SEVEN]) is SEVEN


def test_merge_of_slices_is_the_original() -> None:
    parts = slice_result(FAILED, [(4, 5), (5, 7), (7, 8)])
    assert merge_results(parts) == FAILED


def test_merge_limits_ends_to_their_output() -> None:
    odd = Result("r", "ann", 0, 2, b"ab", struct.pack("<2I", 900, 2), b"", ())
    whole = merge_results([odd, result(2, b"c")])
    assert [part.output for part in slice_result(whole, [(0, 1), (1, 2), (2, 3)])] == [b"ab", b"", b"c"]
