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

from pipeline.journal.book import RecordLog
from pipeline.words.errors import UsageError
from pipeline.words.facts import (
    ChecksumsRecorded,
    CommandFixed,
    InputEnded,
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksReopened,
    TasksSettled,
)
from pipeline.words.parts import AttemptRange

JOURNAL_MAGIC = b"pipe journal\x02"

NAMES: dict[type, str] = {
    RunStarted: "run-started",
    CommandFixed: "command-fixed",
    ChecksumsRecorded: "checksums-recorded",
    TasksSettled: "tasks-settled",
    AttemptRange: "tasks-failed",
    TasksReopened: "tasks-reopened",
    InputEnded: "input-ended",
    RunStopped: "run-stopped",
    SinkSuspended: "sink-suspended",
}
"""The name of each kind in a journal, whatever the class is called."""
_EVENT_TYPES: dict[str, Any] = {name: kind for kind, name in NAMES.items()}


def encode_events(events: Sequence[JournalEvent]) -> bytes:
    """The content of one leaf."""
    return _pack([(NAMES[type(fact)], *astuple(fact)) for fact in events])


def decode_events(content: bytes) -> list[JournalEvent]:
    """The facts of one leaf. Raises ValueError."""
    try:
        return [convert(fields, _EVENT_TYPES[name]) for name, *fields in _unpack(content)]
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"no fact: {error}") from None


def encode_header(started_at: float) -> bytes:
    """The content of the first leaf; `begun` is a time.time()."""
    return _pack(["begun", started_at])


def decode_header(content: bytes) -> float:
    """What the first leaf says. Raises ValueError."""
    word, begun = _unpack(content)
    if word != "begun" or not isinstance(begun, float):
        raise ValueError("no first leaf")
    return begun


def read_events(log: RecordLog) -> Iterator[tuple[int, JournalEvent | float]]:
    """Each fact with the offset of its leaf; before them the time of the beginning. Raises UsageError, OSError."""
    is_first = True
    for at, content in log.iter_records():
        try:
            found = [decode_header(content)] if is_first else decode_events(content)
        except ValueError:
            raise UsageError(f"{log.path} was not written by this version of pipe, at byte {at}") from None
        is_first = False
        yield from ((at, each) for each in found)


def _pack(rows: Any) -> bytes:
    import msgpack  # most runs have no journal

    return bytes(msgpack.packb(rows, unicode_errors="surrogateescape"))


def _unpack(content: bytes) -> Any:
    import msgpack

    return msgpack.unpackb(content, use_list=False, unicode_errors="surrogateescape")
