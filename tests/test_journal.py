"""The journal of a run that asked for none."""

from __future__ import annotations

from pipeline.errands import Durable, Entry
from pipeline.journal import NoJournal
from pipeline.station import NEVER, Port


def test_every_entry_is_at_once_as_durable_as_asked() -> None:
    journal = NoJournal()
    assert journal.receive() == []
    for number in (1, 2):
        journal.send(Port.JOURNAL, Entry(number, "run", "print", ((0, 1),), spilled=False, failed=0, total=-1))
    assert journal.deadline == 0.0
    assert journal.receive() == [Durable(2)]
    assert journal.receive() == []
    assert journal.deadline == NEVER
    assert journal.files() == []
    journal.close()
