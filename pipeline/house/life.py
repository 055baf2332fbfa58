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

BACK_OFF = 0.5
"""Seconds before the first new start; doubled at each death in a row."""
LONGEST_PAUSE = 2.0
"""Seconds that a pause is at most: while nobody takes its place, a run stands still."""
TRIES = 20
"""Deaths in a row after which it is given up.

A task that takes its workers along is convicted only after it has done so alone, several times, and there may be
several such tasks: so many deaths are a run that goes on, and no reason to end it.
"""
LONG_LIFE = 30.0
"""Seconds of life after which a death is no longer in a row with the one before."""


class Life(Struct):
    """`due` is when to start it (NEVER: not planned), `deaths` how many there were in a row."""

    name: str
    restart: bool
    due: float = -NEVER
    living: bool = False
    since: float = 0.0
    deaths: int = 0

    @property
    def goes_on(self) -> bool:
        """Whether it lives, or will."""
        return self.living or self.due < NEVER

    def begin(self, now: float) -> None:
        """It is started."""
        self.due, self.living, self.since = NEVER, True, now

    def again(self, now: float) -> float:
        """It has died, and is started again in so many seconds; 0 if it has died too often."""
        self.deaths = 1 if now - self.since > LONG_LIFE else self.deaths + 1
        if self.deaths >= TRIES:
            return 0.0
        pause = min(BACK_OFF * 2.0 ** (self.deaths - 1), LONGEST_PAUSE)
        self.due = now + pause
        return pause


class Lives:
    """The lives of all posts, by name, in their starting order; all begin at once."""

    def __init__(self, restart: Mapping[str, bool]) -> None:
        self.by_name = {name: Life(name, again) for name, again in restart.items()}

    @property
    def go_on(self) -> bool:
        """Whether any lives, or will."""
        return any(life.goes_on for life in self.by_name.values())

    @property
    def due(self) -> float:
        """When the next is to start."""
        return min(life.due for life in self.by_name.values())

    def begin(self, now: float) -> list[str]:
        """The names of those that start now."""
        due = [life for life in self.by_name.values() if life.due <= now]
        for life in due:
            life.begin(now)
        return [life.name for life in due]

    def living(self) -> list[str]:
        """The names of those that live."""
        return [life.name for life in self.by_name.values() if life.living]

    def close(self, but: Life | None) -> None:
        """No more lives begin, but of this one."""
        for life in self.by_name.values():
            if life is not but:
                life.due, life.restart = NEVER, False
