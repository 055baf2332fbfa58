"""Fingerprints: which input a run is about, as one word says it and another is compared with it.

A fingerprint is two digests with a colon between: what the input is called, and in what state it is (sizes, times).
Where each record is verified as it is read again, the name alone must be the same. Never looks at an input.
"""

from __future__ import annotations

from msgspec import Struct


class Given(Struct, frozen=True):
    """Tasks on the command line: the words behind one mark, which is `:::`, `::::`, `:::+` or `::::+`.

    Behind `::::` they are files of tasks. A `+` joins this source to the one before, item to item; without it, each
    is combined with each.
    """

    mark: str
    words: tuple[str, ...]


def fingerprint(name: str, state: str) -> str:
    """Of two digests, neither of which holds a colon."""
    return f"{name}:{state}"


def same_input(ours: str, theirs: str, *, verified: bool) -> bool:
    """Whether both can be the same input; `verified`: somebody compares the records themselves."""
    return ours.partition(":")[0] == theirs.partition(":")[0] if verified else ours == theirs
