"""The cutter: any pieces give the same records. How it reads files is in test_source."""

from __future__ import annotations

import random

import pytest

from pipeline.input.files import RecordSplitter


@pytest.mark.parametrize("block", [None, 1, 50, 5000])
@pytest.mark.parametrize("seed", range(5))
def test_blocks_and_records_do_not_depend_on_the_pieces(seed: int, block: int | None) -> None:
    rng = random.Random(seed)
    text = b"".join(b"x" * rng.choice([0, 3, 40, 400]) + b"\n" for _ in range(200)) + b"no end"
    results = []
    for longest in (1, 30, 10_000):
        cutter, found, at = RecordSplitter(b"\n", block), [], 0
        while at < len(text):
            piece = text[at : at + rng.randint(1, longest)]
            at += len(piece)
            cutter.add(piece)
            while body := cutter.take(100):
                found.append(body)
                assert body.endswith(b"\n")
        cutter.finish()
        while body := cutter.take(100):
            found.append(body)
        assert b"".join(found) == text + (b"" if block else b"\n")
        results.append(found)
    if block:
        assert results[0] == results[1] == results[2]


def test_there_is_nothing_to_take_before_a_record_is_whole() -> None:
    cutter = RecordSplitter(b"\0", None)
    cutter.add(b"a\nb")
    assert cutter.take(10) == b""
    cutter.add(b"\0c")
    assert cutter.take(1) == b"a\nb\0"
    assert cutter.take(10) == b""
    cutter.finish()
    assert cutter.take(10) == b"c\0"
    assert cutter.take(10) == b""
