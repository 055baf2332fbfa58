"""What the sink is told of the run: its name, its command, what has been read, and how much there is in all.

Each becomes a fact once, and is true when the journal has it. Where there is a journal, the checksums of all records
go into it, and no result is taken of a task that no checksum covers: so each settled task can be known again when its
input is read another time. Knows nothing of results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.sink.ledger import Ledger
from pipeline.words import checksums
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
        self._latest: Marked | None = None
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
        ended = Ended(run.total, run.reason)
        if run.reason or run.total >= ledger.read:
            return [ledger.enter(ended)]
        if self._heard < run.total:
            return []
        self._recorded = checksums.floor(run.total)  # the input has become shorter: this Fact shortens the record
        return [ledger.enter(ended, *self._marked_again())]

    def _marked_again(self) -> list[Fact]:
        """The last records, of which the checksum could not be compared with a record of more."""
        if self._latest is None:
            return []
        self._entered.append((self.reader, self._heard))
        return [self._latest]

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
        self._latest = Marked(read.first, read.count, read.marks)
        return [self._ledger.enter(self._latest)]

    def learn(self, facts: Iterable[Fact]) -> None:
        """These are true now: of checksums, the journal has those that were entered first, or had the same.

        A part of a group can't be compared with a record of more of it.
        """
        for _ in (fact for fact in facts if isinstance(fact, Marked)):
            reader, end = self._entered.popleft()
            if reader == self.reader:
                self.read = max(self.read, end if end >= self._recorded else checksums.floor(end))

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
