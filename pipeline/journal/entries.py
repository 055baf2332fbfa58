"""Facts as the bytes that a journal keeps, and back.

The facts of one leaf become true together. Text that is no Unicode comes back as it was: msgspec can't write it, so
msgpack does, and msgspec only checks the types. What a newer `pipe` has written raises ValueError here; the journal
says where that was.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import ValidationError, convert
from msgspec.structs import astuple

from pipeline.journal.book import Book
from pipeline.words.errors import UsageError
from pipeline.words.facts import Began, Commanded, Ended, Fact, Killed, Left, Marked, Reopened, Settled
from pipeline.words.parts import Tried

MAGIC = b"pipe journal\x01"

NAMES: dict[type, str] = {
    Began: "Began",
    Commanded: "Commanded",
    Marked: "Marked",
    Settled: "Settled",
    Tried: "Tried",
    Reopened: "Reopened",
    Ended: "Ended",
    Killed: "Killed",
    Left: "Left",
}
"""The name of each kind in a journal, whatever the class is called."""
_KINDS: dict[str, Any] = {name: kind for kind, name in NAMES.items()}


def packed(facts: Sequence[Fact]) -> bytes:
    """The content of one leaf."""
    return _pack([(NAMES[type(fact)], *astuple(fact)) for fact in facts])


def unpacked(content: bytes) -> list[Fact]:
    """The facts of one leaf. Raises ValueError."""
    try:
        return [convert(fields, _KINDS[name]) for name, *fields in _unpack(content)]
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"no fact: {error}") from None


def headed(begun: float) -> bytes:
    """The content of the first leaf; `begun` is a time.time()."""
    return _pack(["begun", begun])


def begun_of(content: bytes) -> float:
    """What the first leaf says. Raises ValueError."""
    word, begun = _unpack(content)
    if word != "begun" or not isinstance(begun, float):
        raise ValueError("no first leaf")
    return begun


def read(book: Book) -> Iterator[tuple[int, Fact | float]]:
    """Each fact with the offset of its leaf; before them the time of the beginning. Raises UsageError, OSError."""
    is_first = True
    for at, content in book.leaves():
        try:
            found = [begun_of(content)] if is_first else unpacked(content)
        except ValueError:
            raise UsageError(f"{book.path} was not written by this version of pipe, at byte {at}") from None
        is_first = False
        yield from ((at, each) for each in found)


def _pack(rows: Any) -> bytes:
    import msgpack  # most runs have no journal

    return bytes(msgpack.packb(rows, unicode_errors="surrogateescape"))


def _unpack(content: bytes) -> Any:
    import msgpack

    return msgpack.unpackb(content, use_list=False, unicode_errors="surrogateescape")
