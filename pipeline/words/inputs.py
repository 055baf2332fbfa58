"""Fingerprints: which input a run is about, as one word says it and another is compared with it.

A fingerprint is two digests with a colon between: what the input is called, and in what state it is (sizes, times).
Where each record is verified as it is read again, the name alone must be the same. Never looks at an input.
"""

from __future__ import annotations

from msgspec import Struct


class ArgumentSource(Struct, frozen=True):
    """Tasks on the command line: the words behind one mark, which is `:::`, `::::`, `:::+` or `::::+`.

    Behind `::::` they are files of tasks. A `+` joins this source to the one before, item to item; without it, each
    is combined with each.
    """

    separator: str
    arguments: tuple[str, ...]


def make_fingerprint(name: str, state: str) -> str:
    """Of two digests, neither of which holds a colon."""
    return f"{name}:{state}"


def is_same_input(left: str, right: str, *, is_verified: bool) -> bool:
    """Whether both can be the same input; `verified`: somebody compares the records themselves."""
    return left.partition(":")[0] == right.partition(":")[0] if is_verified else left == right
