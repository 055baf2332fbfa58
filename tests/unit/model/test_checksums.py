"""Boundaries of checksums."""

from __future__ import annotations

import random
from struct import error, pack

import pytest

from pipeline.model.checksums import EXACT, GROUP, boundary_count, checksum_count, iterate, last_boundary, next_boundary

ENDS = [*range(1, EXACT + 1), *range(EXACT + GROUP, EXACT + 20 * GROUP, GROUP)]
"""All boundaries up to a limit."""


@pytest.mark.parametrize("number", [0, 1, EXACT - 1, EXACT, EXACT + 1, EXACT + GROUP - 1, EXACT + GROUP, 3000])
def test_checksum_boundaries_are_at_fixed_numbers(number: int) -> None:
    assert last_boundary(number) == max((end for end in ENDS if end <= number), default=0)
    assert next_boundary(number) == min(end for end in ENDS if end > number)
    assert boundary_count(number) == sum(end <= number for end in ENDS)


@pytest.mark.parametrize("seed", range(20))
def test_iterate_ends_checksums_at_boundaries_and_end(seed: int) -> None:
    rng = random.Random(seed)
    first, count = rng.randrange(3000), rng.choice([1, 2, GROUP, 900])
    ends = sorted({first + count, *(end for end in ENDS if first < end < first + count)})
    assert checksum_count(first, count) == len(ends)
    checksums = pack(f"<{len(ends)}I", *ends)
    assert list(iterate(first, count, checksums)) == [(end, end) for end in ends]


def test_empty_range_has_no_checksum() -> None:
    assert checksum_count(0, 0) == checksum_count(EXACT + 1, 0) == 0
    assert list(iterate(5, 0, b"")) == []


def test_iterate_truncated_checksum_raises() -> None:
    with pytest.raises(error):
        list(iterate(0, 2, b"12345"))
