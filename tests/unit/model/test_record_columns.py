"""Records of several arguments."""

from __future__ import annotations

import json

import pytest

from pipeline.model.records import decode_fields, encode_fields

ODD = [b"", b"a b", b"\n\0\t", b"\xff\xfe", "ü".encode(), b'"', b"\\"]


def test_fields_round_trip_any_bytes_without_terminator() -> None:
    record = encode_fields(ODD)
    assert decode_fields(record) == (ODD, [])
    assert b"\n" not in record
    assert b"\0" not in record


def test_encode_fields_allows_repeated_names() -> None:
    record = encode_fields([b"1", b"2"], [b"x", b"x"])
    assert decode_fields(record) == ([b"1", b"2"], [b"x", b"x"])
    assert json.loads(encode_fields([b"1"], [b"x"])) == {"x": "1"}


def test_encode_no_fields_is_a_record() -> None:
    assert decode_fields(encode_fields([])) == ([], [])


@pytest.mark.parametrize("record", [b"", b"[1]", b"{", b"7", b'"a"', b'{"x": null}', b'[["a"]]'])
def test_decode_invalid_record_raises(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_fields(record)


def test_encode_unequal_names_and_values_raises() -> None:
    with pytest.raises(ValueError, match="zip"):
        encode_fields([b"1"], [b"x", b"y"])
