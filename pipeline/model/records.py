"""Records as bytes: counting, splitting and fingerprinting them; JSON records with several fields.

- A body is a sequence of records, each with its one-byte terminator. With `block`, a body is one whole record.
- Only the terminator splits: CR, VT and U+2028 are content. Counting never builds a list of records.
- A record of several arguments is a JSON array of strings or, with names, a JSON object. It never contains a newline
  or a NUL byte. Bytes that are not UTF-8 survive; names may occur twice.
- A fingerprint is two digests, joined by a colon: of the input's name, and of its state (sizes, times).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

if TYPE_CHECKING:
    from pipeline.model.messages import RecordFormat


class PackingLimit(NamedTuple):
    """How many arguments fit one command of -X: as many as take `room` in all, by the `measure` of each."""

    room: int = 128 << 10
    measure: Callable[[bytes], int] = len


STEP_BELOW_RECORDS = 64
"""Below this number of records, stepping from terminator to terminator is faster than counting."""


def terminator(record_format: RecordFormat) -> bytes:
    """Return the byte that ends a record."""
    return b"\0" if record_format.zero else b"\n"


def count(body: bytes, record_format: RecordFormat) -> int:
    """Return the number of whole records in `body`."""
    if record_format.block:
        return 1
    mark = terminator(record_format)
    # find() is many times faster than count(), and suffices for a single long record
    return 1 if body and body.find(mark) == len(body) - 1 else body.count(mark)


def end_offset(body: bytes, number: int, record_format: RecordFormat, start: int = 0) -> int:
    """Return the offset after the `number`-th record from `start`.

    Raises:
        ValueError: there are fewer records.
    """
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
    """Split `body` after its `number`-th record."""
    at = end_offset(body, number, record_format)
    return body[:at], body[at:]


def list_records(body: bytes, record_format: RecordFormat) -> list[bytes]:
    """Return the records of `body` without their terminators."""
    if record_format.block:
        return [body]
    parts = body.split(terminator(record_format))
    parts.pop()
    return parts


def end_near(body: bytes, number: int, record_format: RecordFormat, start: int, size: int) -> int:
    """Return the same as `end_offset`, faster if the records have about `size` bytes in all."""
    if record_format.block:
        return len(body)
    mark = terminator(record_format)
    at = body.find(mark, start + max(size, 1) - 1) + 1 or len(body)
    counted = body.count(mark, start, at)
    if abs(counted - number) > STEP_BELOW_RECORDS:
        return end_offset(body, number, record_format, start)
    while counted > number:
        at = body.rfind(mark, start, at - 1) + 1
        counted -= 1
    while counted < number:
        at = body.index(mark, at) + 1
        counted += 1
    return at


def encode_fields(values: Sequence[bytes], names: Sequence[bytes] = ()) -> bytes:
    """Return a record without terminator. Give as many names as values, or none."""
    import json  # only here: most runs have plain lines

    texts = [json.dumps(_decode_text(value)) for value in values]
    if not names:
        return f"[{','.join(texts)}]".encode()
    pairs = zip((json.dumps(_decode_text(name)) for name in names), texts, strict=True)
    return f"{{{','.join([f'{name}:{value}' for name, value in pairs])}}}".encode()


def decode_fields(record: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the values of a record and their names, which may be none.

    Raises:
        ValueError: the record is not a JSON array or object of strings.
    """
    import json

    values: Any = json.loads(record, object_pairs_hook=tuple)
    names: list[Any] = []
    if isinstance(values, tuple):
        names, values = [name for name, _ in values], [value for _, value in values]
    if not isinstance(values, list) or not all(isinstance(text, str) for text in values):
        raise ValueError("not an array or object of strings")
    return [_encode_text(text) for text in values], [_encode_text(name) for name in names]


def encode_json(value: Any) -> bytes:
    """Return the value as JSON: as UTF-8, or with escapes if it contains a lone surrogate, such as of other bytes."""
    import json

    try:
        return json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value).encode()


def _decode_text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def _encode_text(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


class ArgumentSource(Struct, frozen=True):
    """Tasks on the command line: the arguments after one `:::`, `::::`, `:::+` or `::::+`.

    After `::::`, arguments are files of tasks. A `+` links this source with the one before, item by item; without it,
    all combinations are run.
    """

    separator: str
    arguments: tuple[str, ...]


def make_fingerprint(name: str, state: str) -> str:
    """Join two digests, neither of which contains a colon."""
    return f"{name}:{state}"


def is_same_input(left: str, right: str, *, is_verified: bool) -> bool:
    """Return whether both may be the same input.

    `is_verified`: the records themselves are compared when they are read again, so an equal name suffices.
    """
    return left.partition(":")[0] == right.partition(":")[0] if is_verified else left == right
