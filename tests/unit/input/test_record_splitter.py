"""RecordSplitter: any pieces give the same records. test_source tests how files are read."""

from __future__ import annotations

import random

import pytest

from pipeline.input.files import RecordSplitter


@pytest.mark.parametrize("block", [None, 1, 50, 5000])
@pytest.mark.parametrize("seed", range(5))
def test_take_does_not_depend_on_piece_sizes(seed: int, block: int | None) -> None:
    rng = random.Random(seed)
    text = b"".join(b"x" * rng.choice([0, 3, 40, 400]) + b"\n" for _ in range(200)) + b"no end"
    results = []
    for max_size in (1, 30, 10_000):
        splitter, bodies, at = RecordSplitter(b"\n", block), [], 0
        while at < len(text):
            piece = text[at : at + rng.randint(1, max_size)]
            at += len(piece)
            splitter.add(piece)
            while body := splitter.take(100):
                bodies.append(body)
                assert body.endswith(b"\n")
        splitter.finish()
        while body := splitter.take(100):
            bodies.append(body)
        assert b"".join(bodies) == text + (b"" if block else b"\n")
        results.append(bodies)
    if block:
        assert results[0] == results[1] == results[2]


def test_take_before_record_is_complete_returns_nothing() -> None:
    splitter = RecordSplitter(b"\0", None)
    splitter.add(b"a\nb")
    assert splitter.take(10) == b""
    splitter.add(b"\0c")
    assert splitter.take(1) == b"a\nb\0"
    assert splitter.take(10) == b""
    splitter.finish()
    assert splitter.take(10) == b"c\0"
    assert splitter.take(10) == b""
