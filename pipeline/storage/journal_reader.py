"""Decoding of journals: for a sink that resumes a run, for `--resume`, and for `pipe journal`.

- A journal is only read here, so that of an active run can be read too.
- Events of one record become true together. Text that is not valid Unicode is preserved: msgspec cannot encode it,
  so msgpack does, and msgspec checks the types.
- When the input is read again, the records of settled tasks must not have changed. A group of records without settled
  tasks may have changed, and its checksum is recorded again.
- Memory use depends on the ranges of settled tasks, not on their number, and is 4 bytes for each group of records.
- For the user, tasks are numbered from 1, and ranges include the last task.
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
"""The name of each event in a journal; renaming a class does not change it."""
_EVENT_TYPES: dict[str, Any] = {name: kind for kind, name in NAMES.items()}


def encode_events(events: Sequence[JournalEvent]) -> bytes:
    """Encode the events of one record."""
    return _pack([(NAMES[type(event)], *astuple(event)) for event in events])


def decode_events(content: bytes) -> list[JournalEvent]:
    """Decode the events of one record. Raises ValueError, also for events of a newer version."""
    try:
        return [convert(fields, _EVENT_TYPES[name]) for name, *fields in _unpack(content)]
    except (KeyError, TypeError, ValidationError) as error:
        raise ValueError(f"not a journal event: {error}") from None


def encode_header(started_at: float) -> bytes:
    """Encode the first record; `started_at` is a time.time()."""
    return _pack(["started", started_at])


def decode_header(content: bytes) -> float:
    """Decode the first record. Raises ValueError."""
    name, started_at = _unpack(content)
    if name != "started" or not isinstance(started_at, float):
        raise ValueError("not a journal header")
    return float(started_at)


def read_events(log: RecordLog) -> Iterator[tuple[int, JournalEvent | float]]:
    """Yield the time of the start, then each event, each with the offset of its record. Raises UsageError, OSError."""
    is_first = True
    for offset, content in log.iter_records():
        try:
            events = [decode_header(content)] if is_first else decode_events(content)
        except ValueError:
            hint = "use the version of pipe that wrote it, or --restart to discard the run"
            raise UsageError(f"{log.path} was not written by this version of pipe (byte {offset})", hint) from None
        is_first = False
        yield from ((offset, event) for event in events)


def _pack(rows: Any) -> bytes:
    import msgpack  # most runs have no journal

    return bytes(msgpack.packb(rows, unicode_errors="surrogateescape"))


def _unpack(content: bytes) -> Any:
    import msgpack

    return msgpack.unpackb(content, use_list=False, unicode_errors="surrogateescape")


class RecordedChecksums:
    """Checksums in the journal: of each group of records, and of the parts that were read of the last group."""

    def __init__(self) -> None:
        self.end = 0
        """All records below have been read."""
        self._groups = array("I")
        self._parts: dict[int, int] = {}

    def get(self, end: int) -> int:
        """Return the checksum of the records before `end`; 0 if there is none."""
        index = checksums.boundary_count(end) - 1
        is_group = checksums.last_boundary(end) == end and 0 <= index < len(self._groups)
        return self._groups[index] if is_group else self._parts.get(end, 0)

    def add(self, event: ChecksumsRecorded) -> None:
        """Store these checksums in place of earlier ones."""
        for end, crc in checksums.iterate(event.first, event.count, event.checksums):
            if checksums.last_boundary(end) < end:
                if end <= self.end:  # the group has changed: its other parts are outdated
                    self._parts.clear()
                self._parts[end] = crc
                continue
            index = checksums.boundary_count(end) - 1
            self._groups.extend([0] * (index + 1 - len(self._groups)))
            self._groups[index] = crc
            if end >= self.end:
                self._parts.clear()
        self.end = max(self.end, event.first + event.count)

    def cut(self, total: int) -> None:
        """Drop the checksums of records after `total`: the input has become shorter."""
        if total < self.end:
            self.end = checksums.last_boundary(total)
            del self._groups[checksums.boundary_count(total) :]
            self._parts.clear()


def sift(
    event: ChecksumsRecorded, recorded: RecordedChecksums, settled: RangeSet
) -> tuple[list[ChecksumsRecorded], InputChanged | None]:
    """Return the checksums to be recorded, and the first group that differs although it holds settled tasks.

    A part of a group that only one reading has a checksum for cannot be compared, and is taken as equal.
    """
    if event.first >= recorded.end:
        return [event], None
    changed: list[ChecksumsRecorded] = []
    low = event.first
    for end, crc in checksums.iterate(event.first, event.count, event.checksums):
        known = recorded.get(end)
        is_new = end > recorded.end or (end == recorded.end and not known)
        if is_new or (crc and known and crc != known):
            group = checksums.last_boundary(end - 1)
            if not is_new and settled.intersection(group, end):
                return changed, InputChanged(group, end)
            changed.append(ChecksumsRecorded(low, end - low, crc.to_bytes(4, "little")))
        low = end
    return changed, None


class RunSummary(Struct, frozen=True):
    """Summary of a run. `started_at` is a time.time(), 0 if unknown; the others count tasks; `total` may be -1.

    Of the `settled` tasks, `spilled` are not in the output yet: their turn has not come.
    """

    run: str
    started_at: float
    settled: int
    failed: int
    total: int
    is_suspended: bool
    spilled: int = 0


class JournalState(Struct):
    """State of a run after the events applied so far."""

    started_at: float = 0.0
    run: str = ""
    total: int = -1
    is_suspended: bool = False
    output_sizes: tuple[int, ...] = ()
    settled: RangeSet = field(default_factory=RangeSet)
    failed: RangeSet = field(default_factory=RangeSet)
    spilled: RangeSet = field(default_factory=RangeSet)
    recorded: RecordedChecksums = field(default_factory=RecordedChecksums)

    @property
    def is_complete(self) -> bool:
        """Whether all tasks are settled and in the output."""
        return 0 <= self.total <= self.settled.task_count and not self.spilled.task_count

    def apply(self, event: JournalEvent | float) -> None:
        """Apply one event, or the time of the start."""
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
                self.output_sizes = without_failed(self.output_sizes)
            case ChecksumsRecorded():
                self.recorded.add(event)
            case InputEnded():
                self.total = -1 if event.reason else event.total  # an input that broke off may be complete by now
                if not event.reason:
                    self.recorded.cut(event.total)


def without_failed(output_sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes when failed tasks run again, and the file of failed tasks, the second one, starts empty."""
    return (output_sizes[0], 0, *output_sizes[2:]) if output_sizes[1:] else output_sizes


def read_summary(path: str) -> RunSummary | None:
    """Summarize the run in the journal at `path`; None if there is no file, or no run in it. Raises UsageError."""
    state = JournalState()
    for _, event in _read_file(path):
        state.apply(event)
    if not state.run:
        return None
    return RunSummary(
        state.run,
        state.started_at,
        state.settled.task_count,
        state.failed.task_count,
        state.total,
        state.is_suspended,
        state.spilled.task_count,
    )


def to_json_lines(path: str) -> Iterator[str]:
    """Yield the journal at `path` as JSON, one line per event. Raises UsageError."""
    import json

    if not os.path.exists(path):
        raise UsageError(f"cannot read {path}: No such file or directory")
    for offset, event in _read_file(path):
        yield json.dumps({"at": offset, **_to_json(event)})


def _read_file(path: str) -> Iterator[tuple[int, JournalEvent | float]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    log = RecordLog(fd, path, JOURNAL_MAGIC)
    try:
        yield from read_events(log)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    finally:
        log.close()


def _to_json(event: JournalEvent | float) -> dict[str, Any]:
    if isinstance(event, float):
        from datetime import UTC, datetime

        return {"event": "journal", "started_at": datetime.fromtimestamp(event, UTC).isoformat()}
    fields: dict[str, Any] = asdict(event)
    for name in fields.keys() & {"ranges", "failures"}:
        fields[name] = [[low + 1, high] for low, high in fields[name]]
    for name in fields.keys() & {"first", "low"}:
        fields[name] += 1
    if isinstance(event, ChecksumsRecorded):
        checks = checksums.iterate(event.first, event.count, event.checksums)
        fields["checksums"] = [[end, f"{crc:08x}"] for end, crc in checks]
    return {"event": NAMES[type(event)], **fields}
