"""Marks: what the records of an input were like, and whether they still are when it is read again.

A stretch says of neighbouring records how many there are, their bytes and the crc32 of these. Two readings may be cut
at different places; then what lies between common ends is compared, since crc32s can be joined without the bytes.
Pure: it reads nothing, and keeps no more than two stretches.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import cache, lru_cache

from msgspec import Struct

from pipeline.words.facts import Marked

POLYNOMIAL = 0xEDB88320
"""That of crc32, lowest power first, as zlib has it."""
ONE = 1 << 31
MARK = struct.Struct("<III")
MOST = (1 << 32) - 1


class Stretch(Struct, frozen=True, gc=False):
    """Records `low` to `high`: their bytes, and the crc32 of these. Of `size` 0 nothing is known."""

    low: int
    high: int
    size: int
    crc: int


def stretches(marked: Marked) -> Iterator[Stretch]:
    """Those of one fact, in order. Raises struct.error if its marks are cut off."""
    low = marked.first
    for count, size, crc in MARK.iter_unpack(marked.marks):
        yield Stretch(low, low + count, size, crc)
        low += count


def marked(stretch: Stretch) -> Marked:
    """The fact of one stretch. What is too large for a mark is noted as unknown."""
    size, crc = (stretch.size, stretch.crc) if stretch.size <= MOST else (0, 0)
    count = stretch.high - stretch.low
    return Marked(stretch.low, count, MARK.pack(count, size, crc))


def joined(left: Stretch | None, right: Stretch) -> Stretch:
    """Both as one; only the right one, if they are no neighbours."""
    if left is None or left.high != right.low:
        return right
    if not (left.size and right.size):
        return Stretch(left.low, right.high, 0, 0)
    crc = _times(left.crc, _power(right.size)) ^ right.crc
    return Stretch(left.low, right.high, left.size + right.size, crc)


def rest(whole: Stretch, head: Stretch) -> Stretch:
    """What of `whole` is behind `head`, with which it begins."""
    size = whole.size - head.size
    if not (whole.size and head.size) or size < whole.high - head.high:
        return Stretch(head.high, whole.high, 0, 0)
    return Stretch(head.high, whole.high, size, whole.crc ^ _times(head.crc, _power(size)))


def amended(recorded: Iterable[Stretch], amendments: dict[int, Stretch]) -> Iterator[Stretch]:
    """What is on record, with each amendment, by its first record, in the place of what it replaces."""
    end = 0
    for stretch in recorded:
        instead = amendments.get(stretch.low, stretch) if stretch.low >= end else None
        if instead:
            end = instead.high
            yield instead


class Reading:
    """An input that is read again, beside what is on record of it."""

    def __init__(self, recorded: Iterator[Stretch]) -> None:
        self._recorded = recorded
        self._old: Stretch | None = None
        self._new: Stretch | None = None
        self.end = -1
        """Where the next stretch will begin."""

    def take(self, stretch: Stretch) -> tuple[Stretch | None, Stretch | None]:
        """The next stretch of the new reading. Answers with two.

        First, the records between two common ends that are not as they were. Second, what lies behind all that is on
        record; then this reading is over. Where the last stretch on record ends within a new one, it is not compared.
        """
        new = self._new = joined(self._new, stretch)
        self.end = new.high
        while self._old is None or self._old.high < new.high:
            following = next(self._recorded, None)
            if following is None:
                return None, self._behind(new)
            self._old = joined(self._old, following)
            if self._old.low < new.low:
                self._old = None
        old = self._old
        if old.high > new.high:
            if old.low > new.low:  # no common start yet
                self._new = None
            return None, None
        self._old = self._new = None
        same_place, known = old.low == new.low, bool(old.size and new.size)
        return (new if same_place and known and old != new else None), None

    def _behind(self, new: Stretch) -> Stretch:
        if self._old is None or self._old.low != new.low:
            return new
        return rest(new, self._old)


def _times(left: int, right: int) -> int:
    """The product of two polynomials modulo that of crc32."""
    product = 0
    while left:
        if left & ONE:
            product ^= right
        left = left << 1 & MOST
        right = right >> 1 ^ (POLYNOMIAL if right & 1 else 0)
    return product


@cache
def _square(number: int) -> int:
    """The power of x with the exponent 8 * 2 ** `number`."""
    if not number:
        return ONE >> 8
    root = _square(number - 1)
    return _times(root, root)


@lru_cache(maxsize=256)
def _power(size: int) -> int:
    """By what a crc32 is to be multiplied when so many bytes follow."""
    power = ONE
    for number in range(size.bit_length()):
        if size >> number & 1:
            power = _times(_square(number), power)
    return power
