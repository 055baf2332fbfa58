"""The children of an executor that run too long: they are asked to end, and killed when their grace is over.

A stopped child is over when nothing of its session is left, so that what it started has its grace, too. Nothing here
waits; whoever polls asks again.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.executor import sessions
from pipeline.executor.child import TaskProcess, kill_processes
from pipeline.executor.limits import TaskLimits
from pipeline.words.station import NEVER

SESSION_CHECK_SECONDS = 0.05
"""Seconds between two looks at what is left of a stopped child that has ended itself."""


class TimeoutEnforcer:
    """Keeps to these limits. Times are as the caller's."""

    def __init__(self, limits: TaskLimits) -> None:
        self._limits = limits

    def enforce(self, processes: list[TaskProcess], now: float) -> None:
        """Stop those that have run too long, kill those that were stopped for long enough."""
        limits = self._limits
        for child in processes:
            if not child.stopped_at and not child.ended_at and now >= child.started_at + limits.timeout_seconds:
                child.terminate(now, limits.timeout_seconds)
        if unwilling := [
            child
            for child in processes
            if child.stopped_at and not child.is_killed and now >= child.stopped_at + limits.grace_seconds
        ]:
            kill_processes(unwilling)

    def is_in_grace(self, process: TaskProcess, now: float) -> bool:
        """Whether something of an ended child is left that was asked to end, and has time to."""
        if not process.stopped_at or process.is_killed:
            return False
        if now >= process.check_at:
            process.check_at = now + SESSION_CHECK_SECONDS if sessions.list_alive_pids([process.pid]) else 0.0
        return now < process.check_at

    def deadline(self, processes: Iterable[TaskProcess]) -> float:
        """When to check again those that have not ended, oldest first."""
        limits = self._limits
        due = NEVER
        for child in processes if limits.has_timeout else ():
            if not child.stopped_at:
                return min(due, child.started_at + limits.timeout_seconds)
            if not child.is_killed:
                due = min(due, child.stopped_at + limits.grace_seconds)
        return due
