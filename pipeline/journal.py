"""The journal: where the ledger will survive the sink's death. Its port is here from the first day.

So far there is the journal of a run that asked for none: every entry is at once as durable as was asked.
It promises nothing beyond the life of the sink, and never touches a disk.
"""

from __future__ import annotations

from pipeline.errands import Durable, Entry
from pipeline.station import NEVER, Address, Message


class NoJournal:
    """An edge that answers Entry with Durable and keeps nothing."""

    def __init__(self) -> None:
        """Nothing to open."""
        self.deadline = NEVER
        self._newest: int | None = None

    def send(self, _to: Address, message: Message) -> None:
        """Take an Entry."""
        if isinstance(message, Entry):
            self._newest = message.number
            self.deadline = 0.0

    def files(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """Durable, up to the newest entry, once."""
        if self._newest is None:
            return []
        answer, self._newest, self.deadline = Durable(self._newest), None, NEVER
        return [answer]

    def close(self) -> None:
        """Nothing to let go of."""
