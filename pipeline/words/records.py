r"""Records in bytes: counting, cutting and slicing them without ever making a list of them.

A body is a run of records, each with its one-byte terminator. With `block`, a body is one record, whole.
Nothing here copies more than the slice it returns; only the terminator cuts, so \r, \x0b and U+2028 are content.
"""

from __future__ import annotations

from itertools import pairwise
from struct import pack
from typing import TYPE_CHECKING
from zlib import crc32

if TYPE_CHECKING:
    from pipeline.words.parts import Recipe

FEW = 64
"""Below this many records, stepping from one terminator to the next beats counting."""
EXACT = 2048
"""Up to this many records have a mark each."""
STRETCHES = 256
"""About so many marks for more than that."""
UINT32 = (1 << 32) - 1


def terminator(recipe: Recipe) -> bytes:
    """The byte that ends a record."""
    return b"\0" if recipe.zero else b"\n"


def count(body: bytes, recipe: Recipe) -> int:
    """How many whole records `body` holds."""
    if recipe.block:
        return 1
    mark = terminator(recipe)
    # to find is many times faster than to count, and tells all of a single long record
    return 1 if body and body.find(mark) == len(body) - 1 else body.count(mark)


def end_of(body: bytes, number: int, recipe: Recipe, start: int = 0) -> int:
    """The offset just behind the `number`-th record from `start`. Raises ValueError if there are not that many."""
    if recipe.block:
        return len(body) if number else start
    mark = terminator(recipe)
    at, left, width = start, number, 32
    while left > FEW and at < len(body):
        stride = left * width
        covered = body.count(mark, at, at + stride)
        if covered > left:
            width = width // 2 or 1
        elif covered == left:
            return body.rfind(mark, at, at + stride) + 1
        else:
            at += stride
            left -= covered
            width *= 2 if covered * 4 < left else 1
    for _ in range(left):
        at = body.index(mark, at) + 1
    return at


def split(body: bytes, number: int, recipe: Recipe) -> tuple[bytes, bytes]:
    """`body` cut behind its `number`-th record."""
    at = end_of(body, number, recipe)
    return body[:at], body[at:]


def each(body: bytes, recipe: Recipe) -> list[bytes]:
    """The records of `body`, without their terminators (a block: as it is)."""
    if recipe.block:
        return [body]
    parts = body.split(terminator(recipe))
    parts.pop()
    return parts


def marks(body: bytes, number: int, recipe: Recipe) -> bytes:
    """Three little-endian uint32 for each stretch of `body`: its records, its bytes, and the crc32 of these.

    `number` is how many records `body` holds. A stretch is one record, or several where there are many. A single
    record of more bytes than a uint32 can say is told modulo its range.
    """
    if number == 1:
        return pack("<3I", 1, len(body) & UINT32, crc32(body))
    mark = terminator(recipe)
    if number <= EXACT:
        parts = [record + mark for record in each(body, recipe)]
        held = [1] * len(parts)
    else:
        ends = [0]
        while ends[-1] < len(body):
            ends.append(body.find(mark, ends[-1] + len(body) // STRETCHES) + 1 or len(body))
        parts = [body[start:end] for start, end in pairwise(ends)]
        held = [part.count(mark) for part in parts]
    # three columns of one table: a loop over the rows would take twice as long
    found = [0] * (3 * len(parts))
    found[0::3], found[1::3], found[2::3] = held, map(len, parts), map(crc32, parts)
    return pack(f"<{len(found)}I", *found)
