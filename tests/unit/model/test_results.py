"""Results in pieces: what each task wrote and left stays with it, whatever a worker says of lengths."""

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


def test_a_part_takes_its_outputs_notes_records_and_tries_along() -> None:
    assert slice_result(FAILED, [(4, 8)]) == [FAILED]
    assert slice_result(FAILED, [(4, 6), (7, 8)]) == [FOUR_AND_FIVE, SEVEN]
    assert slice_result(FAILED, []) == []


def test_accounts_go_with_their_tasks_and_cut_stderr() -> None:
    slots = [encode_metrics(TaskMetrics(0.0, 0.0, 0.0, 0.0, 0, slot, slot, b"", b"")) for slot in (1, 0, 2)]
    told = replace(result(4, b"a", b"b", b"c", errors=b"123"), metrics=b"".join(slots), shape="json")
    assert [(part.stderr, part.metrics) for part in slice_result(told, [(4, 5), (6, 7)])] == [
        (b"1", slots[0]), (b"23", slots[2]),
    ]  # fmt: skip
    assert {part.shape for part in slice_result(told, [(4, 5), (6, 7)])} == {"json"}
    assert merge_results(slice_result(told, [(4, 5), (5, 7)])) == told


def test_stderr_is_told_once_with_the_first_part_and_records_go_with_their_notes_only() -> None:
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
def test_ends_that_do_not_ascend_cut_a_workers_own_output_and_nothing_else(
    ends: tuple[int, ...], outputs: list[bytes]
) -> None:
    odd = Result("r", "ann", 0, 3, b"abcdef", struct.pack("<3I", *ends), b"", ())
    assert [part.output for part in slice_result(odd, [(0, 1), (1, 2), (2, 3)])] == outputs
    assert [part.output for part in slice_result(odd, [(0, 2)])] == [b"".join(outputs[:2])]


def test_neighbours_become_one_whose_ends_count_from_its_start() -> None:
    last = replace(result(8, b"eight", errors=b"no", notes=(TaskFailure(8, "exit", 2, "", "", 0),)), attempt=2)
    whole = merge_results([FOUR_AND_FIVE, slice_result(replace(FAILED, stderr=b""), [(6, 7)])[0], SEVEN, last])
    notes = (*FAILED.failures, TaskFailure(8, "exit", 2, "", "", 0))
    outputs = (b"four", b"", b"six", b"seven", b"eight")
    assert whole == replace(result(4, *outputs, errors=b"ohno", notes=notes), attempt=2, failed_records=b"aabbb")
    assert merge_results([SEVEN]) is SEVEN


def test_what_was_cut_and_merged_is_what_it_was() -> None:
    parts = slice_result(FAILED, [(4, 5), (5, 7), (7, 8)])
    assert merge_results(parts) == FAILED


def test_ends_past_the_output_do_not_reach_into_a_neighbours() -> None:
    odd = Result("r", "ann", 0, 2, b"ab", struct.pack("<2I", 900, 2), b"", ())
    whole = merge_results([odd, result(2, b"c")])
    assert [part.output for part in slice_result(whole, [(0, 1), (1, 2), (2, 3)])] == [b"ab", b"", b"c"]
