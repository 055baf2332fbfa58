"""Fingerprints: the state counts only where nobody compares the records."""

from __future__ import annotations

from pipeline.words.inputs import fingerprint, same_input


def test_both_parts_must_be_the_same_unless_the_records_are_verified() -> None:
    ours = fingerprint("name", "state")
    assert same_input(ours, fingerprint("name", "state"), verified=False)
    assert not same_input(ours, fingerprint("name", "later"), verified=False)
    assert same_input(ours, fingerprint("name", "later"), verified=True)
    assert not same_input(ours, fingerprint("other", "state"), verified=True)
