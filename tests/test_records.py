"""Records: cutting by number is the same as splitting, whatever the lengths are."""

from __future__ import annotations

import random
from struct import iter_unpack
from zlib import crc32

import pytest

from pipeline.words.parts import Recipe
from pipeline.words.records import EXACT, FEW, STRETCHES, count, each, end_of, marks, split, terminator

LINES = Recipe()
NULS = Recipe(zero=True)
BLOCK = Recipe(block=True)


def some(seed: int) -> tuple[list[bytes], Recipe]:
    """Records of one of several natures: even, empty, clumped, or with one giant among them."""
    rng = random.Random(seed)
    recipe = rng.choice([LINES, NULS])
    alphabet = [b"a", b"\r", b"\x0b", b"\xe2\x80\xa8", b"\x85", b"\n" if recipe.zero else b"\0"]
    number = rng.choice([0, 1, FEW, FEW + 1, 300, 5000])
    longest = rng.choice([0, 1, 3, 60, 200])
    lengths = [rng.randint(0, longest) for _ in range(number)]
    if number and rng.random() < 0.5:
        clump = rng.randrange(number)
        lengths[clump : clump + 200] = [rng.choice([0, 5000])] * len(lengths[clump : clump + 200])
    return [rng.choice(alphabet) * length for length in lengths], recipe


@pytest.mark.parametrize("seed", range(60))
def test_end_of_agrees_with_splitting(seed: int) -> None:
    records, recipe = some(seed)
    rng = random.Random(seed)
    mark = terminator(recipe)
    body = b"".join(record + mark for record in records)
    ends = [0]
    for record in records:
        ends.append(ends[-1] + len(record) + 1)
    assert count(body, recipe) == len(records)
    assert each(body, recipe) == records
    for number in {0, len(records), *(rng.randint(0, len(records)) for _ in range(12))}:
        skipped = rng.randint(0, len(records) - number)
        assert end_of(body, number, recipe) == ends[number]
        assert end_of(body, number, recipe, ends[skipped]) == ends[skipped + number]
        assert split(body, number, recipe) == (body[: ends[number]], body[ends[number] :])


@pytest.mark.parametrize("number", [1, FEW, FEW + 1, 10_000])
def test_asking_for_more_records_than_there_are_raises(number: int) -> None:
    body = b"a\n" * (number - 1) + b"no end"
    with pytest.raises(ValueError, match="not found"):
        end_of(body, number, LINES)


def test_a_block_is_one_record_whatever_it_holds() -> None:
    body = b"one\ntwo\nno end"
    assert count(body, BLOCK) == 1
    assert each(body, BLOCK) == [body]
    assert end_of(body, 1, BLOCK) == len(body)
    assert split(body, 0, BLOCK) == (b"", body)
    assert split(body, 1, BLOCK) == (body, b"")


def test_nothing_is_no_record() -> None:
    assert count(b"", LINES) == 0
    assert each(b"", LINES) == []
    assert split(b"", 0, LINES) == (b"", b"")


def test_an_empty_line_is_a_record() -> None:
    assert each(b"\n\nx\n", LINES) == [b"", b"", b"x"]
    assert each(b"\0", NULS) == [b""]


@pytest.mark.parametrize("seed", range(60))
def test_marks_add_up_and_each_is_of_its_bytes(seed: int) -> None:
    records, recipe = some(seed)
    body = b"".join(record + terminator(recipe) for record in records)
    found = list(iter_unpack("<3I", marks(body, len(records), recipe)))
    at = 0
    for number, size, crc in found:
        stretch = body[at : at + size]
        assert stretch.endswith(terminator(recipe))
        assert (count(stretch, recipe), crc32(stretch)) == (number, crc)
        at += size
    assert at == len(body)
    if len(records) <= EXACT:
        assert len(found) == len(records)
    else:
        assert EXACT // STRETCHES < len(found) <= STRETCHES + 1


def test_a_block_has_one_mark() -> None:
    body = b"one\ntwo\nno end"
    assert list(iter_unpack("<3I", marks(body, 1, BLOCK))) == [(1, len(body), crc32(body))]


def test_a_changed_byte_changes_the_mark_of_its_stretch_alone() -> None:
    body = b"".join(b"%d\n" % number for number in range(5000))
    changed = body.replace(b"2500\n", b"2600\n")
    pairs = zip(
        iter_unpack("<3I", marks(body, 5000, LINES)), iter_unpack("<3I", marks(changed, 5000, LINES)), strict=True
    )
    assert sum(one != other for one, other in pairs) == 1
