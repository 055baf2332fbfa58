"""Decodes journals; run summary for --resume; detects changed input.

Facts as the bytes that a journal keeps, and back.

The facts of one leaf become true together. Text that is no Unicode comes back as it was: msgspec can't write it, so
msgpack does, and msgspec only checks the types. What a newer `pipe` has written raises ValueError here; the journal
says where that was.

The checksums of an input, and whether it is still the same when it is read again.

Records whose task is settled must be as they were. A group of records without settled tasks may have changed, and is
recorded again. Memory: 4 bytes for each group.

A run's past, as its journal tells it: for the sink that comes back, and for a person who looks.

It reads and never writes, so it may look at the journal of a run that goes on. Memory goes with the ranges of settled
tasks, never with their number. For a person tasks are numbered from 1, and ranges name the first and the last.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct, ValidationError, convert, field
from msgspec.structs import asdict, astuple

from pipeline.model import checksums
from pipeline.model.errors import UsageError
from pipeline.model.events import InputChanged
from pipeline.model.journal_events import (
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
from pipeline.model.messages import AttemptRange
from pipeline.model.ranges import RangeSet
from pipeline.storage.record_log import RecordLog

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


class Recorded:
    """The checksums on record: of each group, and of the part of the last group that was read."""

    def __init__(self) -> None:
        self.end = 0
        """All records below have been read."""
        self._groups = array("I")
        self._parts: dict[int, int] = {}

    def at(self, number: int) -> int:
        """The checksum that ends there; 0 if there is none."""
        at = checksums.index(number) - 1
        is_group = checksums.floor(number) == number and 0 <= at < len(self._groups)
        return self._groups[at] if is_group else self._parts.get(number, 0)

    def add(self, fact: ChecksumsRecorded) -> None:
        """These are on record now, in place of those that were."""
        for number, crc in checksums.each(fact.first, fact.count, fact.checksums):
            if checksums.floor(number) < number:
                if number <= self.end:  # the group has changed: its other parts are outdated
                    self._parts.clear()
                self._parts[number] = crc
                continue
            at = checksums.index(number) - 1
            self._groups.extend([0] * (at + 1 - len(self._groups)))
            self._groups[at] = crc
            if number >= self.end:
                self._parts.clear()
        self.end = max(self.end, fact.first + fact.count)

    def cut(self, total: int) -> None:
        """The input has become shorter: it has `total` records."""
        if total < self.end:
            self.end = checksums.floor(total)
            del self._groups[checksums.index(total) :]
            self._parts.clear()


def sift(
    fact: ChecksumsRecorded, recorded: Recorded, settled: RangeSet
) -> tuple[list[ChecksumsRecorded], InputChanged | None]:
    """What of these checksums is to be recorded; and the first group that differs though it holds settled tasks.

    What can't be compared, since only one reading was cut there, is taken for the same: it is a part of a group.
    """
    if fact.first >= recorded.end:
        return [fact], None
    news: list[ChecksumsRecorded] = []
    low = fact.first
    for number, crc in checksums.each(fact.first, fact.count, fact.checksums):
        was = recorded.at(number)
        is_new = number > recorded.end or (number == recorded.end and not was)
        if is_new or (crc and was and crc != was):
            group = checksums.floor(number - 1)
            if not is_new and settled.intersection(group, number):
                return news, InputChanged(group, number)
            news.append(ChecksumsRecorded(low, number - low, crc.to_bytes(4, "little")))
        low = number
    return news, None


class RunSummary(Struct, frozen=True):
    """A run in short. `begun` is a time.time(), 0 if unknown; `settled` and `failed` count tasks; `total` may be -1.

    Of the settled, `ahead` are not in the output yet, since their turn has not come.
    """

    run: str
    started_at: float
    settled: int
    failed: int
    total: int
    is_suspended: bool
    spilled: int = 0


class JournalState(Struct):
    """What the facts come to that were taken in so far."""

    started_at: float = 0.0
    run: str = ""
    total: int = -1
    is_suspended: bool = False
    output_sizes: tuple[int, ...] = ()
    settled: RangeSet = field(default_factory=RangeSet)
    failed: RangeSet = field(default_factory=RangeSet)
    spilled: RangeSet = field(default_factory=RangeSet)
    recorded: Recorded = field(default_factory=Recorded)

    def apply(self, event: JournalEvent | float) -> None:
        """One more."""
        self.is_suspended = isinstance(event, SinkSuspended)
        match event:
            case float():
                self.started_at = event
            case RunStarted():
                self.run = event.run
            case TasksSettled():
                self.settled.update(event.ranges)
                self.failed.update(event.failures)
                (self.spilled.update if event.is_spilled else self.spilled.difference_update)(event.ranges)
                self.output_sizes = event.sizes or self.output_sizes
            case TasksReopened():
                self.settled.difference_update(event.ranges)
                self.failed.difference_update(event.ranges)
            case ChecksumsRecorded():
                self.recorded.add(event)
            case InputEnded():
                self.total = -1 if event.reason else event.total  # what broke off may be whole by now
                if not event.reason:
                    self.recorded.cut(event.total)


def read_summary(path: str) -> RunSummary | None:
    """The run whose journal is at `path`; None if there is none, or no run in it. Raises UsageError."""
    past = JournalState()
    for _, fact in _read_file(path):
        past.apply(fact)
    if not past.run:
        return None
    return RunSummary(
        past.run,
        past.started_at,
        past.settled.task_count,
        past.failed.task_count,
        past.total,
        past.is_suspended,
        past.spilled.task_count,
    )


def to_json_lines(path: str) -> Iterator[str]:
    """The journal at `path` as JSON, a line for each fact. Raises UsageError."""
    import json

    if not os.path.exists(path):
        raise UsageError(f"cannot read {path}: No such file or directory")
    for at, fact in _read_file(path):
        yield json.dumps({"at": at, **_to_json(fact)})


def _read_file(path: str) -> Iterator[tuple[int, JournalEvent | float]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    book = RecordLog(fd, path, JOURNAL_MAGIC)
    try:
        yield from read_events(book)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    finally:
        book.close()


def _to_json(event: JournalEvent | float) -> dict[str, Any]:
    if isinstance(event, float):
        from datetime import UTC, datetime

        return {"fact": "journal", "begun": datetime.fromtimestamp(event, UTC).isoformat()}
    told: dict[str, Any] = asdict(event)
    for name in told.keys() & {"ranges", "failures"}:
        told[name] = [[low + 1, high] for low, high in told[name]]
    for name in told.keys() & {"first", "low"}:
        told[name] += 1
    if isinstance(event, ChecksumsRecorded):
        each = checksums.each(event.first, event.count, event.checksums)
        told["checksums"] = [[end, f"{crc:08x}"] for end, crc in each]
    return {"fact": NAMES[type(event)], **told}
