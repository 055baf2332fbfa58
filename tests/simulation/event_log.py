"""The last events and the figures of one run, and the exceptions that report them.

Invariants are checked in invariants.py; mutants.py compares the figures.
"""

from __future__ import annotations

from collections import deque

from pipeline.model.events import Waiting
from pipeline.model.state_machine import Message, Send


class Violation(AssertionError):
    """A broken promise, or a run that hangs."""


class Crash(Exception):
    """An exception of a state machine or of the simulator itself. No mutant may count as noticed by it."""


class EventLog:
    """The last events and the figures of one run."""

    def __init__(self) -> None:
        self.events: deque[tuple[float, str, Send | str]] = deque(maxlen=60)
        self.sent_counts: dict[str, int] = {}
        """Sent messages by kind."""
        self.executions: dict[int, int] = {}
        """Starts of each task."""
        self.ended: set[int] = set()
        """Tasks that ended for good in a worker that was not told to kill what runs."""
        self.warning_count = 0
        """Warnings about missing peers."""
        self.busy_seconds = 0.0
        """Seconds in which slots were busy."""
        self.line_latency = 0.0
        """Sum of the seconds until each line was shown."""
        self.write_latency = 0.0
        """Sum of the seconds until each task was written."""

    def record(self, now: float, source: str, event: Send | str) -> None:
        self.events.append((now, source, event))

    def count_sent(self, message: Message) -> None:
        kind = type(message).__name__
        self.sent_counts[kind] = self.sent_counts.get(kind, 0) + 1

    def on_notice(self, notice: Message) -> None:
        self.warning_count += isinstance(notice, Waiting) and notice.active and notice.kind != "spill"

    def format_events(self) -> list[str]:
        """Return the last events as lines."""
        return [f"{when:.3f} {source} {event}"[:1000] for when, source, event in self.events]
