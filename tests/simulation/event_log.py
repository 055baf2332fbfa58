"""What one simulated line has done: the last words of its story, its figures, and the error that tells of both.

Only writes down. What must be so is promises.py's, what ought to be small is mutants.py's.
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
    """The story and the figures of one line."""

    def __init__(self) -> None:
        self.events: deque[tuple[float, str, Send | str]] = deque(maxlen=60)
        self.sent_counts: dict[str, int] = {}
        """How many words of each kind were said on the wire."""
        self.executions: dict[int, int] = {}
        """How often each task was begun."""
        self.warning_count = 0
        """How often a person was told that somebody is missing."""
        self.busy_seconds = 0.0
        """Seconds that slots have worked."""
        self.line_latency = 0.0
        """Seconds until it was shown, of all lines."""
        self.write_latency = 0.0
        """Seconds until it was written, of all tasks."""

    def record(self, now: float, source: str, event: Send | str) -> None:
        """Something happened."""
        self.events.append((now, source, event))

    def count_sent(self, message: Message) -> None:
        """A word went on the wire."""
        kind = type(message).__name__
        self.sent_counts[kind] = self.sent_counts.get(kind, 0) + 1

    def on_notice(self, notice: Message) -> None:
        """A person was told this."""
        self.warning_count += isinstance(notice, Waiting) and notice.active and notice.kind != "spill"

    def format_events(self) -> list[str]:
        """The last words, to read."""
        return [f"{when:.3f} {who} {what}"[:1000] for when, who, what in self.events]
