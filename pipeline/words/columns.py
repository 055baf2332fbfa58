"""Tasks of several arguments: a record that is a JSON array of texts or, with names, a JSON object of them.

A record never holds a newline or a NUL byte, whatever its arguments hold; bytes that are no UTF-8 come through. Names
may occur twice. Only for records of the shapes `columns` and `packed`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


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
