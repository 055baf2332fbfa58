"""Counting, slicing and fingerprinting records in bytes; JSON records with several fields.

Records in bytes: counting, cutting and slicing them without ever making a list of them.

A body is a run of records, each with its one-byte terminator. With `block`, a body is one record, whole.
Nothing here copies more than the slice it returns; only the terminator cuts, so \r, \x0b and U+2028 are content.

Tasks of several arguments: a record that is a JSON array of texts or, with names, a JSON object of them.

A record never holds a newline or a NUL byte, whatever its arguments hold; bytes that are no UTF-8 come through. Names
may occur twice. Only for records of the shapes `columns` and `packed`.

Fingerprints: which input a run is about, as one word says it and another is compared with it.

A fingerprint is two digests with a colon between: what the input is called, and in what state it is (sizes, times).
Where each record is verified as it is read again, the name alone must be the same. Never looks at an input.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from msgspec import Struct

if TYPE_CHECKING:
    from pipeline.model.messages import RecordFormat


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


def encode_fields(values: Sequence[bytes], names: Sequence[bytes] = ()) -> bytes:
    """The record, without a terminator; `names` are as many as the values, or none."""
    import json  # most runs have lines

    texts = [json.dumps(_decode_text(value)) for value in values]
    if not names:
        return f"[{','.join(texts)}]".encode()
    pairs = zip((json.dumps(_decode_text(name)) for name in names), texts, strict=True)
    return f"{{{','.join([f'{name}:{value}' for name, value in pairs])}}}".encode()


def decode_fields(record: bytes) -> tuple[list[bytes], list[bytes]]:
    """The values of a record, and their names: as many, or none. Raises ValueError for what is no such record."""
    import json

    found: Any = json.loads(record, object_pairs_hook=tuple)
    names: list[Any] = []
    if isinstance(found, tuple):
        names, found = [name for name, _ in found], [value for _, value in found]
    if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
        raise ValueError("it is no array of texts, and no object of them")
    return [_encode_text(text) for text in found], [_encode_text(name) for name in names]


def _decode_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class ArgumentSource(Struct, frozen=True):
    """Tasks on the command line: the words behind one mark, which is `:::`, `::::`, `:::+` or `::::+`.

    Behind `::::` they are files of tasks. A `+` joins this source to the one before, item to item; without it, each
    is combined with each.
    """

    separator: str
    arguments: tuple[str, ...]


def make_fingerprint(name: str, state: str) -> str:
    """Of two digests, neither of which holds a colon."""
    return f"{name}:{state}"


def is_same_input(left: str, right: str, *, is_verified: bool) -> bool:
    """Whether both can be the same input; `verified`: somebody compares the records themselves."""
    return left.partition(":")[0] == right.partition(":")[0] if is_verified else left == right
