"""What the sink is told of the run: its name, its command, what has been read, and how much there is in all.

Each becomes a fact once, and is true when the journal has it. Where there is a journal, the marks of all records go
into it, and no result is taken of a task that nobody has told of: so each settled task can be known again when its
input is read another time. Knows nothing of results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.sink.ledger import Ledger
from pipeline.words.facts import Began, Commanded, Ended, Fact, Marked
from pipeline.words.messages import Pulse, Read, Run
from pipeline.words.station import Send


class Intake:
    """What is known of the run but its results; `marked` if marks are kept."""

    def __init__(self, ledger: Ledger, *, marked: bool) -> None:
        self._ledger, self._marked = ledger, marked
        self.reader = ""
        """Which life of the ventilator reads."""
        self.read = 0 if marked else -1
        """All records below have been marked for this reader; -1: nobody wants marks."""
        self._heard = self._recorded = 0
        """This reader has told of all below; what is below `_recorded` was marked by others before it."""
        self._former: set[str] = set()
        self._entered: deque[tuple[str, int]] = deque()
        self._refused = False

    def named(self, run: Run) -> list[Send]:
        """The first Run names the run."""
        if self._ledger.awaits(Began):
            return []
        return [self._ledger.enter(Began(run.run, run.fingerprint))]

    def ended(self, run: Run) -> list[Send]:
        """All is read, if it says so; one that has read on since says so again."""
        ledger = self._ledger
        if run.state != "ended" or (run.total, run.reason) == (ledger.total, ledger.reason) or ledger.awaits(Ended):
            return []
        return [ledger.enter(Ended(run.total, run.reason))]

    def heard(self, read: Read) -> list[Send]:
        """These were read, for the first time or again. What leaves a gap is said again, behind what fills it."""
        if not self._marked or read.run != self._ledger.run:
            return []
        if read.reader != self.reader and read.reader not in self._former and read.first == read.since:
            self._former.add(self.reader)
            self.reader, self.read, self._heard = read.reader, read.first, read.first
            self._recorded = self._ledger.read
        if read.reader != self.reader or read.first != self._heard:
            return []
        self._heard = read.first + read.count
        self._entered.append((read.reader, self._heard))
        return [self._ledger.enter(Marked(read.first, read.count, read.marks))]

    def learn(self, facts: Iterable[Fact]) -> None:
        """These are true now: of marks, the journal has those that were entered first, or had the same."""
        for _ in (fact for fact in facts if isinstance(fact, Marked)):
            reader, end = self._entered.popleft()
            if reader == self.reader:
                self.read = max(self.read, end)

    def joined(self, pulse: Pulse) -> list[Send]:
        """The first worker's command is the run's."""
        ledger = self._ledger
        if not ledger.run or pulse.run != ledger.run or ledger.digest or ledger.awaits(Commanded):
            return []
        return [ledger.enter(Commanded(pulse.digest, pulse.command))]

    def told_of(self, first: int, end: int) -> bool:
        """Whether the reader has told of all tasks below `end`, and those that were known before are the same still."""
        if not self._marked:
            return True
        return end <= self._heard and (first >= self._recorded or end <= self.read) and not self._refused

    def refuse(self) -> list[Send]:
        """It is another input: nothing that comes of it is wanted."""
        self._refused = True
        return []
