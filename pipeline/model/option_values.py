"""Values of options that state machines and executors compute with.

A module of its own: the parsers of these values are in `pipeline.config`, which sink and executor do not import.
"""

from __future__ import annotations

from math import ceil
from typing import Literal

from msgspec import Struct

HaltEvent = Literal["", "fail", "success", "done"]
"""The outcomes that `--halt` counts; empty: it counts none."""


def count_halt_events(event: HaltEvent, done_count: int, failed_count: int) -> int:
    """Return how many of `done_count` tasks, of which `failed_count` have failed, `--halt` counts."""
    return {"": 0, "fail": failed_count, "success": done_count - failed_count, "done": done_count}[event]


class HaltCondition(Struct, frozen=True):
    """When `--halt` ends a run: after `count` tasks, or `percent` of all tasks, with this outcome.

    Modes and events are those of GNU parallel: `soon` starts nothing more, `now` kills what runs.
    """

    mode: Literal["soon", "now"]
    event: Literal["fail", "success", "done"]
    count: int = 0
    percent: float = 0.0

    def events_left(self, done_count: int, failed_count: int, total: int) -> int:
        """Return how many more such outcomes end the run; -1 while that depends on the unknown total (-1)."""
        if not self.count and total < 0:
            return -1
        number = self.count or max(1, ceil(self.percent * total / 100))
        return max(0, number - count_halt_events(self.event, done_count, failed_count))

    def __str__(self) -> str:
        return f"{self.mode},{self.event}={self.count or f'{self.percent:g}%'}"


class Timeout(Struct, frozen=True):
    """How long a task may run: in seconds, or as a multiple of the median of the tasks that succeeded."""

    seconds: float = 0.0
    median_factor: float = 0.0

    def __bool__(self) -> bool:
        """Return whether there is a limit."""
        return self.seconds > 0 or self.median_factor > 0


UNLIMITED = Timeout()
