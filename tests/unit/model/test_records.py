"""Records: offsets by number agree with splitting, for records of any length."""

from __future__ import annotations

import random

import pytest

from pipeline.model.messages import RecordFormat
from pipeline.model.records import STEP_BELOW_RECORDS, count, end_near, end_offset, list_records, split, terminator

LINES = RecordFormat()
NULS = RecordFormat(zero=True)
BLOCK = RecordFormat(block=True)


def random_records(seed: int) -> tuple[list[bytes], RecordFormat]:
    """Return records of one of several kinds: equal length, empty, clumped, or with one giant among them."""
    rng = random.Random(seed)
    recipe = rng.choice([LINES, NULS])
    alphabet = [b"a", b"\r", b"\x0b", b"\xe2\x80\xa8", b"\x85", b"\n" if recipe.zero else b"\0"]
    number = rng.choice([0, 1, STEP_BELOW_RECORDS, STEP_BELOW_RECORDS + 1, 300, 5000])
    longest = rng.choice([0, 1, 3, 60, 200])
    lengths = [rng.randint(0, longest) for _ in range(number)]
    if number and rng.random() < 0.5:
        clump = rng.randrange(number)
        lengths[clump : clump + 200] = [rng.choice([0, 5000])] * len(lengths[clump : clump + 200])
    return [rng.choice(alphabet) * length for length in lengths], recipe


@pytest.mark.parametrize("seed", range(60))
def test_end_offset_agrees_with_splitting(seed: int) -> None:
    records, recipe = random_records(seed)
    rng = random.Random(seed)
    mark = terminator(recipe)
    body = b"".join(record + mark for record in records)
    ends = [0]
    for record in records:
        ends.append(ends[-1] + len(record) + 1)
    assert count(body, recipe) == len(records)
    assert list_records(body, recipe) == records
    for number in {0, len(records), *(rng.randint(0, len(records)) for _ in range(12))}:
        skipped = rng.randint(0, len(records) - number)
        assert end_offset(body, number, recipe) == ends[number]
        assert end_offset(body, number, recipe, ends[skipped]) == ends[skipped + number]
        assert split(body, number, recipe) == (body[: ends[number]], body[ends[number] :])


@pytest.mark.parametrize("number", [1, STEP_BELOW_RECORDS, STEP_BELOW_RECORDS + 1, 10_000])
def test_end_offset_beyond_last_record_raises(number: int) -> None:
    body = b"a\n" * (number - 1) + b"no end"
    with pytest.raises(ValueError, match="not found"):
        end_offset(body, number, LINES)


def test_block_is_one_record() -> None:
    body = b"one\ntwo\nno end"
    assert count(body, BLOCK) == 1
    assert list_records(body, BLOCK) == [body]
    assert end_offset(body, 1, BLOCK) == len(body)
    assert split(body, 0, BLOCK) == (b"", body)
    assert split(body, 1, BLOCK) == (body, b"")


def test_empty_body_has_no_record() -> None:
    assert count(b"", LINES) == 0
    assert list_records(b"", LINES) == []
    assert split(b"", 0, LINES) == (b"", b"")


def test_empty_line_is_a_record() -> None:
    assert list_records(b"\n\nx\n", LINES) == [b"", b"", b"x"]
    assert list_records(b"\0", NULS) == [b""]


@pytest.mark.parametrize("seed", range(60))
def test_end_near_agrees_with_end_offset(seed: int) -> None:
    records, recipe = random_records(seed)
    body = b"".join(record + terminator(recipe) for record in records)
    rng = random.Random(seed)
    for _ in range(20):
        low = rng.randrange(len(records) or 1)
        number = rng.randint(min(1, len(records)), len(records) - low)
        start = end_offset(body, low, recipe)
        for size in (0, 1, rng.randrange(2 * len(body) + 1), end_offset(body, number, recipe, start) - start):
            assert end_near(body, number, recipe, start, size) == end_offset(body, number, recipe, start)


def test_end_near_block_is_end_of_body() -> None:
    assert end_near(b"one\ntwo\nno end", 1, BLOCK, 0, 0) == 14
