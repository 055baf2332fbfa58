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
from pipeline.journal.book import Book
from pipeline.journal.recheck import Recorded
from pipeline.words import checksums
from pipeline.words.errors import UsageError
from pipeline.words.facts import Began, Ended, Fact, Left, Marked, Reopened, Settled
from pipeline.words.ranges import RangeSet


class Summary(Struct, frozen=True):
    """A run in short. `begun` is a time.time(), 0 if unknown; `settled` and `failed` count tasks; `total` may be -1.

    Of the settled, `ahead` are not in the output yet, since their turn has not come.
    """

    run: str
    begun: float
    settled: int
    failed: int
    total: int
    left_in_order: bool
    ahead: int = 0


class Past(Struct):
    """What the facts come to that were taken in so far."""

    begun: float = 0.0
    run: str = ""
    total: int = -1
    left: bool = False
    sizes: tuple[int, ...] = ()
    settled: RangeSet = field(default_factory=RangeSet)
    failed: RangeSet = field(default_factory=RangeSet)
    ahead: RangeSet = field(default_factory=RangeSet)
    recorded: Recorded = field(default_factory=Recorded)

    def take(self, fact: Fact | float) -> None:
        """One more."""
        self.left = isinstance(fact, Left)
        match fact:
            case float():
                self.begun = fact
            case Began():
                self.run = fact.run
            case Settled():
                self.settled.update(fact.ranges)
                self.failed.update(fact.failures)
                (self.ahead.update if fact.spilled else self.ahead.difference_update)(fact.ranges)
                self.sizes = fact.sizes or self.sizes
            case Reopened():
                self.settled.difference_update(fact.ranges)
                self.failed.difference_update(fact.ranges)
            case Marked():
                self.recorded.add(fact)
            case Ended():
                self.total = -1 if fact.reason else fact.total  # what broke off may be whole by now
                if not fact.reason:
                    self.recorded.cut(fact.total)


def peek(path: str) -> Summary | None:
    """The run whose journal is at `path`; None if there is none, or no run in it. Raises UsageError."""
    past = Past()
    for _, fact in _facts(path):
        past.take(fact)
    if not past.run:
        return None
    return Summary(past.run, past.begun, past.settled.tasks, past.failed.tasks, past.total, past.left, past.ahead.tasks)


def lines(path: str) -> Iterator[str]:
    """The journal at `path` as JSON, a line for each fact. Raises UsageError."""
    import json

    if not os.path.exists(path):
        raise UsageError(f"cannot read {path}: No such file or directory")
    for at, fact in _facts(path):
        yield json.dumps({"at": at, **_told(fact)})


def _facts(path: str) -> Iterator[tuple[int, Fact | float]]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    book = Book(fd, path, entries.MAGIC)
    try:
        yield from entries.read(book)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    finally:
        book.close()


def _told(fact: Fact | float) -> dict[str, Any]:
    if isinstance(fact, float):
        from datetime import UTC, datetime

        return {"fact": "journal", "begun": datetime.fromtimestamp(fact, UTC).isoformat()}
    told: dict[str, Any] = asdict(fact)
    for name in told.keys() & {"ranges", "failures"}:
        told[name] = [[low + 1, high] for low, high in told[name]]
    for name in told.keys() & {"first", "low"}:
        told[name] += 1
    if isinstance(fact, Marked):
        each = checksums.each(fact.first, fact.count, fact.marks)
        told["marks"] = [[end, f"{crc:08x}"] for end, crc in each]
    return {"fact": entries.NAMES[type(fact)].lower(), **told}
