"""The journal of a run without a journal. A module of its own, so that such a run does not import the other."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.model.events import Committed, JournalEntry
from pipeline.model.journal_events import JournalEvent
from pipeline.model.state_machine import NEVER, Address, Message


class NullJournal:
    """Adapter of the JOURNAL port that commits each entry and stores nothing."""

    def __init__(self) -> None:
        self.deadline, self.is_complete = NEVER, False
        self.output_sizes: tuple[int, ...] = ()
        self._last_number: int | None = None

    def read_events(self) -> Iterator[JournalEvent]:
        """Yield nothing."""
        return iter(())

    def send(self, _to: Address, message: Message) -> None:
        """Take a JournalEntry."""
        if isinstance(message, JournalEntry):
            self._last_number = message.number
            self.deadline = 0.0

    def pollables(self) -> list[object]:
        """Return nothing to poll."""
        return []

    def receive(self) -> list[Message]:
        """Return Committed for the newest entry, once."""
        if self._last_number is None:
            return []
        answer, self._last_number, self.deadline = Committed("journal", self._last_number), None, NEVER
        return [answer]

    def close(self) -> None:
        """Do nothing: no file is open."""
