"""Boundaries of input checksums, by which a later reading of the same input is compared with this one.

- Boundaries are fixed by record number: each of the first EXACT records has its own, then every GROUP records share
  one. So two readings are comparable wherever each of them was cut into pieces.
- A checksum covers the records since the last boundary. Taken between two boundaries, it covers the part of the
  group that was read so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import iter_unpack

EXACT = 1024
"""How many records at the beginning have a checksum each; a multiple of GROUP."""
GROUP = 256


def last_boundary(number: int) -> int:
    """Return the last boundary that is not above record `number`."""
    return number if number <= EXACT else number - number % GROUP


def next_boundary(number: int) -> int:
    """Return the first boundary above record `number`."""
    return number + 1 if number < EXACT else number - number % GROUP + GROUP


def boundary_count(number: int) -> int:
    """Return how many groups end at or below record `number`."""
    return min(number, EXACT) + max(0, number - EXACT) // GROUP


def checksum_count(first: int, count: int) -> int:
    """Return how many checksums `count` records from `first` on have: one per boundary, and one for the end."""
    end = first + count
    return boundary_count(end) - boundary_count(first) + (end > max(first, last_boundary(end)))


def iterate(first: int, count: int, checksums: bytes) -> Iterator[tuple[int, int]]:
    """Yield each checksum with the number of the record before which it ends.

    Raises:
        struct.error: a checksum is cut off.
    """
    end = first + count
    for (crc,) in iter_unpack("<I", checksums):
        first = min(next_boundary(first), end)
        yield first, crc
