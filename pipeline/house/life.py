"""One post of a run over its lives: when the next one begins, and when it has died too often.

Deaths are in a row while lives are short; each one makes the pause before the next life longer, up to a bound. Pure: it
is told what time it is, starts nothing, and does not know what the process is for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from pipeline.words.station import NEVER

if TYPE_CHECKING:
    from collections.abc import Mapping

RESTART_BACKOFF_SECONDS = 0.5
"""Seconds before the first new start; doubled at each death in a row."""
MAX_BACKOFF_SECONDS = 2.0
"""Seconds that a pause is at most: while nobody takes its place, a run stands still."""
MAX_RESTARTS = 20
"""Deaths in a row after which it is given up.

A task that takes its workers along is convicted only after it has done so alone, several times, and there may be
several such tasks: so many deaths are a run that goes on, and no reason to end it.
"""
STABLE_AFTER_SECONDS = 30.0
"""Seconds of life after which a death is no longer in a row with the one before."""


class ManagedProcess(Struct):
    """`due` is when to start it (NEVER: not planned), `deaths` how many there were in a row."""

    name: str
    is_restartable: bool
    start_at: float = -NEVER
    is_running: bool = False
    started_at: float = 0.0
    consecutive_failures: int = 0

    @property
    def is_alive_or_due(self) -> bool:
        """Whether it lives, or will."""
        return self.is_running or self.start_at < NEVER

    def mark_started(self, now: float) -> None:
        """It is started."""
        self.start_at, self.is_running, self.started_at = NEVER, True, now

    def schedule_restart(self, now: float) -> float:
        """It has died, and is started again in so many seconds; 0 if it has died too often."""
        self.consecutive_failures = 1 if now - self.started_at > STABLE_AFTER_SECONDS else self.consecutive_failures + 1
        if self.consecutive_failures >= MAX_RESTARTS:
            return 0.0
        pause = min(RESTART_BACKOFF_SECONDS * 2.0 ** (self.consecutive_failures - 1), MAX_BACKOFF_SECONDS)
        self.start_at = now + pause
        return pause


class ProcessSet:
    """The lives of all posts, by name, in their starting order; all begin at once."""

    def __init__(self, restartable: Mapping[str, bool]) -> None:
        self.by_name = {name: ManagedProcess(name, again) for name, again in restartable.items()}

    @property
    def is_any_alive_or_due(self) -> bool:
        """Whether any lives, or will."""
        return any(life.is_alive_or_due for life in self.by_name.values())

    @property
    def next_start_at(self) -> float:
        """When the next is to start."""
        return min(life.start_at for life in self.by_name.values())

    def start_due(self, now: float) -> list[str]:
        """The names of those that start now."""
        due = [life for life in self.by_name.values() if life.start_at <= now]
        for life in due:
            life.mark_started(now)
        return [life.name for life in due]

    def running_names(self) -> list[str]:
        """The names of those that live."""
        return [life.name for life in self.by_name.values() if life.is_running]

    def disable_starts(self, except_for: ManagedProcess | None) -> None:
        """No more lives begin, but of this one."""
        for life in self.by_name.values():
            if life is not except_for:
                life.start_at, life.is_restartable = NEVER, False
