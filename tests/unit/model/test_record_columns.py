"""Tasks of several arguments as one record."""

from __future__ import annotations

import json

import pytest

from pipeline.model.records import decode_fields, encode_fields

ODD = [b"", b"a b", b"\n\0\t", b"\xff\xfe", "ü".encode(), b'"', b"\\"]


def test_whatever_bytes_come_back_as_they_were_and_no_record_holds_a_terminator() -> None:
    record = encode_fields(ODD)
    assert decode_fields(record) == (ODD, [])
    assert b"\n" not in record
    assert b"\0" not in record


def test_names_stand_with_their_values_and_may_occur_twice() -> None:
    record = encode_fields([b"1", b"2"], [b"x", b"x"])
    assert decode_fields(record) == ([b"1", b"2"], [b"x", b"x"])
    assert json.loads(encode_fields([b"1"], [b"x"])) == {"x": "1"}


def test_nothing_is_a_record_too() -> None:
    assert decode_fields(encode_fields([])) == ([], [])


@pytest.mark.parametrize("record", [b"", b"[1]", b"{", b"7", b'"a"', b'{"x": null}', b'[["a"]]'])
def test_what_is_no_such_record_is_refused(record: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_fields(record)


def test_names_and_values_must_be_as_many() -> None:
    with pytest.raises(ValueError, match="zip"):
        encode_fields([b"1"], [b"x", b"y"])
