"""Results in pieces: what each task wrote and left stays with it, whatever a worker says of lengths."""

from __future__ import annotations

import struct

import pytest

from pipeline.words.accounts import Account, packed
from pipeline.words.messages import Result
from pipeline.words.parts import Note
from pipeline.words.results import cut_result, merged
from pipeline.words.structs import replace


def result(first: int, *outputs: bytes, errors: bytes = b"", notes: tuple[Note, ...] = ()) -> Result:
    ends = [sum(map(len, outputs[: k + 1])) for k in range(len(outputs))]
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("r", "ann", first, len(outputs), b"".join(outputs), packed, errors, notes)


FAILED = replace(
    result(
        4, b"four", b"", b"six", b"seven", errors=b"oh",
        notes=(Note(4, "exit", 1, "one", "", size=2), Note(7, "signal", 9, "killed", "", size=3)),
    ),
    tries=2, records=b"aabbb",
)  # fmt: skip
FOUR_AND_FIVE = replace(
    result(4, b"four", b"", errors=b"oh", notes=FAILED.notes[:1]), tries=2, records=b"aa"
)  # fmt: skip
SEVEN = replace(result(7, b"seven", notes=FAILED.notes[1:]), tries=2, records=b"bbb")


def test_a_part_takes_its_outputs_notes_records_and_tries_along() -> None:
    assert cut_result(FAILED, [(4, 8)]) == [FAILED]
    assert cut_result(FAILED, [(4, 6), (7, 8)]) == [FOUR_AND_FIVE, SEVEN]
    assert cut_result(FAILED, []) == []


def test_accounts_go_with_their_tasks_and_cut_stderr() -> None:
    slots = [packed(Account(0.0, 0.0, 0.0, 0.0, 0, slot, slot, b"", b"")) for slot in (1, 0, 2)]
    told = replace(result(4, b"a", b"b", b"c", errors=b"123"), accounts=b"".join(slots), shape="json")
    assert [(part.errors, part.accounts) for part in cut_result(told, [(4, 5), (6, 7)])] == [
        (b"1", slots[0]), (b"23", slots[2]),
    ]  # fmt: skip
    assert {part.shape for part in cut_result(told, [(4, 5), (6, 7)])} == {"json"}
    assert merged(cut_result(told, [(4, 5), (5, 7)])) == told


def test_stderr_is_told_once_with_the_first_part_and_records_go_with_their_notes_only() -> None:
    middle = replace(result(5, b"", b"six", errors=b"oh"), tries=2)
    assert cut_result(FAILED, [(5, 7), (7, 8)]) == [middle, SEVEN]


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
    assert [part.output for part in cut_result(odd, [(0, 1), (1, 2), (2, 3)])] == outputs
    assert [part.output for part in cut_result(odd, [(0, 2)])] == [b"".join(outputs[:2])]


def test_neighbours_become_one_whose_ends_count_from_its_start() -> None:
    last = replace(result(8, b"eight", errors=b"no", notes=(Note(8, "exit", 2, "", "", 0),)), tries=2)
    whole = merged([FOUR_AND_FIVE, cut_result(replace(FAILED, errors=b""), [(6, 7)])[0], SEVEN, last])
    notes = (*FAILED.notes, Note(8, "exit", 2, "", "", 0))
    outputs = (b"four", b"", b"six", b"seven", b"eight")
    assert whole == replace(result(4, *outputs, errors=b"ohno", notes=notes), tries=2, records=b"aabbb")
    assert merged([SEVEN]) is SEVEN


def test_what_was_cut_and_merged_is_what_it_was() -> None:
    parts = cut_result(FAILED, [(4, 5), (5, 7), (7, 8)])
    assert merged(parts) == FAILED


def test_ends_past_the_output_do_not_reach_into_a_neighbours() -> None:
    odd = Result("r", "ann", 0, 2, b"ab", struct.pack("<2I", 900, 2), b"", ())
    whole = merged([odd, result(2, b"c")])
    assert [part.output for part in cut_result(whole, [(0, 1), (1, 2), (2, 3)])] == [b"ab", b"", b"c"]
