"""Fingerprints: the state counts only if the records are not compared."""

from __future__ import annotations

from pipeline.model.records import is_same_input, make_fingerprint


def test_is_same_input_verified_compares_name_only() -> None:
    ours = make_fingerprint("name", "state")
    assert is_same_input(ours, make_fingerprint("name", "state"), is_verified=False)
    assert not is_same_input(ours, make_fingerprint("name", "later"), is_verified=False)
    assert is_same_input(ours, make_fingerprint("name", "later"), is_verified=True)
    assert not is_same_input(ours, make_fingerprint("other", "state"), is_verified=True)
