r"""Records in bytes: counting, cutting and slicing them without ever making a list of them.

A body is a run of records, each with its one-byte terminator. With `block`, a body is one record, whole.
Nothing here copies more than the slice it returns; only the terminator cuts, so \r, \x0b and U+2028 are content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.words.parts import RecordFormat

STEP_BELOW_RECORDS = 64
"""Below this many records, stepping from one terminator to the next beats counting."""


def terminator(record_format: RecordFormat) -> bytes:
    """The byte that ends a record."""
    return b"\0" if record_format.zero else b"\n"


def count(body: bytes, record_format: RecordFormat) -> int:
    """How many whole records `body` holds."""
    if record_format.block:
        return 1
    mark = terminator(record_format)
    # to find is many times faster than to count, and tells all of a single long record
    return 1 if body and body.find(mark) == len(body) - 1 else body.count(mark)


def end_offset(body: bytes, number: int, record_format: RecordFormat, start: int = 0) -> int:
    """The offset just behind the `number`-th record from `start`. Raises ValueError if there are not that many."""
    if record_format.block:
        return len(body) if number else start
    mark = terminator(record_format)
    at, left, width = start, number, 32
    while left > STEP_BELOW_RECORDS and at < len(body):
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


def split(body: bytes, number: int, record_format: RecordFormat) -> tuple[bytes, bytes]:
    """`body` cut behind its `number`-th record."""
    at = end_offset(body, number, record_format)
    return body[:at], body[at:]


def list_records(body: bytes, record_format: RecordFormat) -> list[bytes]:
    """The records of `body`, without their terminators (a block: as it is)."""
    if record_format.block:
        return [body]
    parts = body.split(terminator(record_format))
    parts.pop()
    return parts


def end_near(body: bytes, number: int, recipe: RecordFormat, start: int, size: int) -> int:
    """The same as `end_of`, faster where these records have about `size` bytes."""
    if recipe.block:
        return len(body)
    mark = terminator(recipe)
    at = body.find(mark, start + max(size, 1) - 1) + 1 or len(body)
    found = body.count(mark, start, at)
    if abs(found - number) > STEP_BELOW_RECORDS:
        return end_offset(body, number, recipe, start)
    while found > number:
        at = body.rfind(mark, start, at - 1) + 1
        found -= 1
    while found < number:
        at = body.index(mark, at) + 1
        found += 1
    return at
