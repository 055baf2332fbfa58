"""A batch: consecutive tasks in an arena, given to one warm child, and what has been told of them.

It promises that each of its tasks is told at most once, that nobody hears of the unwanted, and that what was neither
told nor unwanted can be cut off and given to others. Indexes count from its first task. It never talks to the child.
"""

from __future__ import annotations

import signal
import struct
import time
from itertools import pairwise

from pipeline.executor.arena import Arena
from pipeline.executor.backlog import Bite
from pipeline.executor.outcomes import tail_of
from pipeline.words.accounts import Account, packed
from pipeline.words.errands import Done
from pipeline.words.messages import Result
from pipeline.words.parts import Note, NoteKind, Recipe
from pipeline.words.ranges import RangeSet
from pipeline.words.records import end_of
from pipeline.words.station import NEVER
from pipeline.words.structs import replace

NOTHING = struct.pack("<I", 0)
MOST_NOTES = 256
"""Notes in a Done at most, so that its header stays small."""


class Batch:
    """One batch. `count` is its tasks without those cut off; `seconds` its run time once the child is through."""

    def __init__(self, arena: Arena, records: Bite, recipe: Recipe, call: str = "", slot: int = 1) -> None:
        self.arena = arena
        self.count = records.count
        self.look = NEVER
        self.seen: int | None = None
        """The task that ran at the last look, if there was one."""
        self.seconds: float | None = None
        self.cost = 0.0, 0  # seconds of CPU, and bytes of memory, where they are wanted
        self._call, self._slot = call, slot
        self.released = False
        """What is not run of it after all is to be given back, not put back."""
        self.unwanted = RangeSet()
        self.failures: dict[int, tuple[NoteKind, str, str]] = {}
        """What happened, in a line, and its traceback, for each failed task that has not been told."""
        self._records, self._recipe = records, recipe
        self._place = 0, 0
        """A task's index and where its record starts in the body."""
        self._started = NEVER
        self._told = 0
        self._counted = 0.0
        arena.load(records.count, records.body)

    def start(self, now: float, look: float) -> None:
        """It is the batch's turn, if it has not been so for long; to be looked at if it still runs at `look`."""
        if self._started == NEVER:
            self._started, self.look = now, look

    @property
    def first(self) -> int:
        """The number of its first task."""
        return self._records.first

    @property
    def told(self) -> int:
        """How many of its tasks are told, or passed over as unwanted."""
        return self._told

    def reached(self) -> int:
        """How many of its tasks have ended: the index of the one that runs, or would be next."""
        return min(self.arena.finished(), self.count)

    def tell(self, high: int, now: float) -> list[Done]:
        """What is new of the tasks up to `high`, which has been reached: each run of wanted neighbours once."""
        low = self._told
        if low >= high or (self._recipe.collect_metrics and self.seconds is None):
            return []
        passed = max(self._counted, now - self._started) if self.seconds is None else self.seconds
        spent = max(0.0, passed - self._counted)
        self._told, self._counted = high, passed
        wanted = self.unwanted.outside(self.first + low, self.first + high)
        parts = [part for start, stop in wanted for part in self._parts(start - self.first, stop - self.first)]
        return [self._done(start, stop, spent / len(parts), now) for start, stop in parts]

    def convict(self, at: int, status: int) -> list[Done]:
        """The child died of wait status `status` while task `at` ran: the verdict on it, if anybody wants it."""
        task = self.first + at
        self._told = at + 1
        now, record = time.monotonic(), self.record(at)
        account = self._account(record, max(0.0, now - self._started), 0, now)
        return [] if task in self.unwanted else [failure(verdict(task, status), record, accounts=account)]

    def command(self, at: int) -> bytes:
        """Task `at` as a call, for a person."""
        return f"{self._call}({self.record(at).decode(errors='backslashreplace')!r})".encode(errors="replace")

    def _account(self, record: bytes, seconds: float, errors: int, now: float) -> bytes:
        """Of its only task, if the sink wants one."""
        if not self._recipe.collect_metrics:
            return b""
        began, queued = time.time() - (now - self._started), max(0.0, self._started - self._records.lot.since)
        return packed(Account(began, queued, seconds, *self.cost, self._slot, errors, self.command(0), record))

    def record(self, at: int) -> bytes:
        """The record of task `at`, without its terminator. Quick when asked in the order of tasks."""
        body, recipe = self._records.body, self._recipe
        if recipe.block:
            return body
        index, start = self._place if at >= self._place[0] else (0, 0)
        start = end_of(body, at - index, recipe, start)
        self._place = at, start
        return body[start : end_of(body, 1, recipe, start) - 1]

    def cut(self, at: int) -> list[Bite]:
        """Take the tasks from index `at` on out of the batch; the records of those that are wanted."""
        rest: list[Bite] = []
        if at < self.count:
            body, recipe = self._records.body, self._recipe
            number, start = self.first + at, end_of(body, at, recipe)
            for low, high in self.unwanted.outside(number, self.first + self.count):
                start = end_of(body, low - number, recipe, start)
                number, end = high, end_of(body, high - low, recipe, start)
                rest.append(Bite(low, high - low, body[start:end], self._records.lot))
                start = end
            self.count = at
        return rest

    def _parts(self, low: int, high: int) -> list[tuple[int, int]]:
        """The tasks `low` to `high`, cut where a Done would have too many notes."""
        failed = sorted(at for at in self.failures if low <= at < high)
        return list(pairwise([low, *failed[MOST_NOTES::MOST_NOTES], high]))

    def _done(self, low: int, high: int, seconds: float, now: float) -> Done:
        """The Done of the finished tasks `low` to `high`."""
        notes, stories, records = [], [], []
        for at in sorted(at for at in self.failures if low <= at < high):
            kind, line, told = self.failures.pop(at)
            story, record = _plain(told), self.record(at)
            code = int(kind == "exception")
            notes.append(Note(self.first + at, kind, code, _plain(line).decode(), tail_of(story), len(record)))
            stories.append(story)
            records.append(record)
        output, ends = self.arena.outputs(low, high)
        errors, found = b"".join(stories), b"".join(records)
        account = self._account(self.record(low), seconds, len(errors), now) if high == low + 1 else b""
        first, count = self.first + low, high - low
        return Done(Result("", "", first, count, output, ends, errors, tuple(notes), 0, found, account), seconds)


def failure(note: Note, record: bytes, seconds: float = 0.0, accounts: bytes = b"") -> Done:
    """The Done of a task that ended with its child."""
    notes = (replace(note, size=len(record)),)
    return Done(Result("", "", note.task, 1, b"", NOTHING, b"", notes, 0, record, accounts), seconds)


def verdict(task: int, status: int) -> Note:
    """What a child's wait status says about the task that it ran."""
    number, code = status & 0x7F, status >> 8
    if not number:
        return Note(task, "lost", code, f"exited with {code}", "", 0)
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    return Note(task, "signal", number, f"killed by {name}", "", 0)


def _plain(text: str) -> bytes:
    """The text in bytes that any decoder takes: a lone surrogate is spelled out."""
    return text.encode("utf-8", "backslashreplace")
