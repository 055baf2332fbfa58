"""The children of an executor that run too long: they are asked to end, and killed when their grace is over.

A stopped child is over when nothing of its session is left, so that what it started has its grace, too. Nothing here
waits; whoever polls asks again.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.executor import sessions
from pipeline.executor.child import Child, kill
from pipeline.executor.limits import Limits
from pipeline.words.station import NEVER

LOOK = 0.05
"""Seconds between two looks at what is left of a stopped child that has ended itself."""


class Overtime:
    """Keeps to these limits. Times are as the caller's."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def check(self, children: list[Child], now: float) -> None:
        """Stop those that have run too long, kill those that were stopped for long enough."""
        limits = self._limits
        for child in children:
            if not child.stopped and not child.ended and now >= child.started + limits.seconds:
                child.stop(now, limits.seconds)
        if unwilling := [
            child for child in children if child.stopped and not child.killed and now >= child.stopped + limits.grace
        ]:
            kill(unwilling)

    def rests(self, child: Child, now: float) -> bool:
        """Whether something of an ended child is left that was asked to end, and has time to."""
        if not child.stopped or child.killed:
            return False
        if now >= child.look:
            child.look = now + LOOK if sessions.alive([child.pid]) else 0.0
        return now < child.look

    def deadline(self, running: Iterable[Child]) -> float:
        """When to check again those that have not ended, oldest first."""
        limits = self._limits
        due = NEVER
        for child in running if limits.timed else ():
            if not child.stopped:
                return min(due, child.started + limits.seconds)
            if not child.killed:
                due = min(due, child.stopped + limits.grace)
        return due
