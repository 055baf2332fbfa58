"""Values of options that state machines and executors compute with.

A module of its own: the parsers of these values are in `pipeline.config`, which sink and executor do not import.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class HaltCondition(Struct, frozen=True):
    """When `--halt` ends a run: after `count` tasks, or `percent` of all tasks, with this outcome.

    Modes and events are those of GNU parallel: `soon` starts nothing more, `now` kills what runs.
    """

    mode: Literal["soon", "now"]
    event: Literal["fail", "success", "done"]
    count: int = 0
    percent: float = 0.0

    def is_met(self, done_count: int, failed_count: int, total: int) -> bool:
        """Return whether the run is to end. A percentage is never met while the total is unknown (-1)."""
        number = {"fail": failed_count, "success": done_count - failed_count, "done": done_count}[self.event]
        if self.count:
            return number >= self.count
        return total > 0 and number > 0 and 100 * number >= self.percent * total

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
