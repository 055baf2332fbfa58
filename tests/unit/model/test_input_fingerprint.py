"""Fingerprints: the state counts only where nobody compares the records."""

from __future__ import annotations

from pipeline.model.records import is_same_input, make_fingerprint


def test_both_parts_must_be_the_same_unless_the_records_are_verified() -> None:
    ours = make_fingerprint("name", "state")
    assert is_same_input(ours, make_fingerprint("name", "state"), is_verified=False)
    assert not is_same_input(ours, make_fingerprint("name", "later"), is_verified=False)
    assert is_same_input(ours, make_fingerprint("name", "later"), is_verified=True)
    assert not is_same_input(ours, make_fingerprint("other", "state"), is_verified=True)
