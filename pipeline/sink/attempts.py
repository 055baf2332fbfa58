"""Who gets another try, and when: the sink's judgement of a task that did not end well.

A failure is final when the tries are used up, when the task has taken its executor along too often, or when the
ventilator itself has judged it. All others are retried, after a pause that doubles with each try. Draws no lots: the
jitter comes from the task's number.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from msgspec import Struct

from pipeline.words.facts import Fact, Settled
from pipeline.words.messages import Result
from pipeline.words.parts import Note, Ranges, Retry, Tried
from pipeline.words.station import VENTILATOR
from pipeline.words.tries import Tries

LONGEST_PAUSE = 3600.0
"""Seconds between two tries at most."""


class Retrying(Struct, frozen=True):
    """How often, and how soon: `retries` after the first try, `delay` seconds before the second."""

    retries: int = 0
    delay: float = 0.0
    crash_limit: int = 3

    def is_final(self, note: Note, result: Result) -> bool:
        """Whether this failure is the task's last word."""
        tries = result.tries + 1
        used_up = tries > self.retries or (note.kind == "lost" and tries >= self.crash_limit)
        return used_up or result.worker == VENTILATOR

    def pause(self, task: int, tries: int) -> float:
        """Seconds until the try number `tries` (from 0), half of it or more: tasks that failed together part."""
        lot = crc32(b"%d %d" % (task, tries)) / (1 << 32)
        return float(min(self.delay * 2 ** min(tries - 1, 30), LONGEST_PAUSE) * (0.5 + 0.5 * lot))


class Attempts:
    """The tasks that will be run again, as they may be told: they are in the journal."""

    def __init__(self, retrying: Retrying) -> None:
        self._retrying = retrying
        self._due: dict[int, tuple[int, float]] = {}

    def __len__(self) -> int:
        return len(self._due)

    def again(self, result: Result) -> list[Tried]:
        """Those of a result's tasks that failed and get another try."""
        if not result.notes:
            return []
        failed = {note.task for note in result.notes}
        final = {note.task for note in result.notes if self._retrying.is_final(note, result)}
        return [Tried(task, task + 1, result.tries + 1) for task in sorted(failed - final)]

    def learn(self, facts: Iterable[Fact], now: float) -> None:
        """These are true now."""
        for fact in facts:
            if isinstance(fact, Settled):
                self.settle(fact.ranges)
            elif isinstance(fact, Tried):
                self.wait(fact, now)

    def wait(self, tried: Tried, now: float) -> None:
        """It is known for good that these will be tried again."""
        for task in range(tried.low, tried.high):
            self._due[task] = tried.tries, now + self._retrying.pause(task, tried.tries)

    def settle(self, ranges: Ranges) -> None:
        """These are settled now."""
        for low, high in ranges if self._due else ():
            for task in [*self._due] if high - low > len(self._due) else range(low, high):
                if low <= task < high:
                    self._due.pop(task, None)

    def retries(self, tries: Tries, now: float, most: int) -> tuple[Retry, ...]:
        """The lowest of them, in at most so many runs of neighbours that wait as long."""
        runs: list[Retry] = []
        for task in tries.tasks() if self._due else ():
            if task not in self._due:
                continue
            number, due = self._due[task]
            wait = max(0.0, round(due - now, 3))
            last = runs[-1] if runs else None
            if last and (last.high, last.tries, last.wait) == (task, number, wait):
                runs[-1] = Retry(last.low, task + 1, number, wait)
            elif len(runs) == most:
                break
            else:
                runs.append(Retry(task, task + 1, number, wait))
        return tuple(runs)
