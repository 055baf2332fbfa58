"""A run's past, as its journal tells it: for the sink that comes back, and for a person who looks.

It reads and never writes, so it may look at the journal of a run that goes on. Memory goes with the ranges of settled
tasks, never with their number. For a person tasks are numbered from 1, and ranges name the first and the last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from msgspec import Struct, field
from msgspec.structs import asdict

from pipeline.journal import entries
from pipeline.journal.book import RecordLog
from pipeline.journal.recheck import Recorded
from pipeline.words import checksums
from pipeline.words.errors import UsageError
from pipeline.words.facts import (
    ChecksumsRecorded,
    InputEnded,
    JournalEvent,
    RunStarted,
    SinkSuspended,
    TasksReopened,
    TasksSettled,
)
from pipeline.words.ranges import RangeSet


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
    book = RecordLog(fd, path, entries.JOURNAL_MAGIC)
    try:
        yield from entries.read_events(book)
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
    return {"fact": entries.NAMES[type(event)], **told}
