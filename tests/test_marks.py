"""Marks: crc32s are joined and taken apart as if the bytes were there."""

from __future__ import annotations

import random
import zlib
from itertools import pairwise

import pytest

from pipeline.journal.marks import MOST, Stretch, amended, joined, marked, rest, stretches


def of(low: int, records: list[bytes]) -> Stretch:
    """The stretch of these records."""
    body = b"".join(records)
    return Stretch(low, low + len(records), len(body), zlib.crc32(body))


@pytest.mark.parametrize("seed", range(20))
def test_parts_make_the_whole_and_the_whole_without_its_head_the_rest(seed: int) -> None:
    rng = random.Random(seed)
    records = [rng.randbytes(rng.choice([1, 7, 300, 70_000])) for _ in range(30)]
    cuts = sorted({0, 30, *(rng.randrange(1, 30) for _ in range(5))})
    whole = None
    for low, high in pairwise(cuts):
        part = of(low, records[low:high])
        whole = joined(whole, part)
        assert whole == of(0, records[:high])
    middle = cuts[1]
    assert rest(of(0, records), of(0, records[:middle])) == of(middle, records[middle:]) or middle == 30


def test_what_is_no_neighbour_is_not_joined() -> None:
    assert joined(of(0, [b"a"]), of(2, [b"c"])) == of(2, [b"c"])
    assert joined(None, of(2, [b"c"])) == of(2, [b"c"])


def test_nothing_is_made_up_about_what_is_unknown() -> None:
    unknown = Stretch(1, 2, 0, 0)
    assert joined(of(0, [b"a"]), unknown) == Stretch(0, 2, 0, 0)
    assert joined(unknown, of(2, [b"a"])) == Stretch(1, 3, 0, 0)
    assert rest(of(0, [b"a", b"b"]), of(0, [b"aa"])) == Stretch(1, 2, 0, 0)
    assert list(stretches(marked(Stretch(3, 5, MOST + 1, 77)))) == [Stretch(3, 5, 0, 0)]
    assert list(stretches(marked(Stretch(3, 5, MOST, 77)))) == [Stretch(3, 5, MOST, 77)]


def test_an_amendment_stands_for_all_that_it_replaces() -> None:
    recorded = [Stretch(low, low + 2, 9, low) for low in range(0, 12, 2)]
    new = {2: Stretch(2, 6, 8, 77), 8: Stretch(8, 10, 7, 78)}
    assert list(amended(recorded, new)) == [recorded[0], new[2], recorded[3], new[8], recorded[5]]
