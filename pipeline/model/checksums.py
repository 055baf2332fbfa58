"""Checksums of the input: by them a record is known again when the input is read another time.

The boundaries of checksums are fixed by record number: each of the first EXACT records has its own, then every GROUP
records share one. So two readings of one input can be compared, wherever each of them was cut. A checksum covers the
records from the last boundary on; one that is taken between two boundaries covers what was read of its group so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import iter_unpack

EXACT = 1024
"""So many records at the beginning have one each; a multiple of GROUP."""
GROUP = 256


def floor(number: int) -> int:
    """The last boundary that is not above record `number`."""
    return number if number <= EXACT else number - number % GROUP


def following(number: int) -> int:
    """The first boundary above record `number`."""
    return number + 1 if number < EXACT else number - number % GROUP + GROUP


def index(number: int) -> int:
    """How many groups end at or below record `number`."""
    return min(number, EXACT) + max(0, number - EXACT) // GROUP


def length(first: int, count: int) -> int:
    """How many checksums `count` records from `first` on have: one for each boundary, and one for their end."""
    end = first + count
    return index(end) - index(first) + (end > max(first, floor(end)))


def each(first: int, count: int, marks: bytes) -> Iterator[tuple[int, int]]:
    """Each checksum with the number of the record before which it ends. Raises struct.error if one is cut off."""
    end = first + count
    for (crc,) in iter_unpack("<I", marks):
        first = min(following(first), end)
        yield first, crc
