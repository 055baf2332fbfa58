"""What is settled, what is on its way to be, and whose turn it is: the fold of the run's facts.

Each task is accepted once: the first result of it that is final, of whichever worker and try. It is *pending* until
output (or spill) and journal have answered, then *settled*, for good. A fact is applied when the journal has it,
and so a ledger made of what a journal holds is the one that was before. Results are counted, not held, here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from pipeline.words import checksums
from pipeline.words.errands import Entry
from pipeline.words.facts import Began, Commanded, Ended, Fact, Killed, Left, Marked, Reopened, Settled
from pipeline.words.messages import Result
from pipeline.words.parts import Ranges, Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.results import cut_result
from pipeline.words.station import Port, Send
from pipeline.words.tries import Tries


class Ledger:
    """Each task once."""

    def __init__(self, facts: Iterable[Fact] = ()) -> None:
        self.run = self.fingerprint = self.digest = self.command = ""
        self.failed, self.total, self.reason = 0, -1, ""
        self.read = self.written = 0
        """All records below `read` have been marked. Where order is asked for, all below `written` is in the output."""
        self.settled, self.pending, self.tries = RangeSet(), RangeSet(), Tries()
        self.ahead, self.failures = RangeSet(), RangeSet()
        """In the spill, since their turn has not come; what had failed before this life."""
        self.sizes: tuple[int, ...] = ()
        self.killed: Killed | None = None
        self._entries: deque[Entry] = deque()
        self._number = 0
        written = RangeSet()
        for fact in facts:
            self.apply(fact)
            if isinstance(fact, Settled):
                (self.ahead if fact.spilled else written).update(fact.ranges)
                self.failures.update(fact.failures)
            elif isinstance(fact, Reopened):
                self.failures.difference_update(fact.ranges)
        if self.reason:  # an input that broke off may be whole by now
            self.total, self.reason = -1, ""
        self.ahead.difference_update(written)
        self.turn = self.written = written.low_water()

    def accept(self, result: Result) -> list[Result]:
        """The parts of a result that are new; they are pending now."""
        end = result.first + result.count
        known = RangeSet((*self.settled.inside(result.first, end), *self.pending.inside(result.first, end)))
        new = known.outside(result.first, end)
        self.pending.update(new)
        return cut_result(result, new) if new else []

    def again(self, tried: Tried) -> bool:
        """These have failed, and will be run again; False if that was known already."""
        self.pending.remove(tried.low, tried.high)
        news = self.is_news(tried)
        self.tries.set(tried.low, tried.high, tried.tries)
        return news

    def is_news(self, tried: Tried) -> bool:
        """Whether it was not known that they have failed so often."""
        return bool(self.tries.fewer(tried.low, tried.high, tried.tries))

    def missing(self, finished: Ranges, tried: Iterable[Tried] = ()) -> Ranges:
        """What of these is neither settled nor on its way. What has failed since is not waited for."""
        missing = RangeSet(finished)
        for known in (self.settled, self.pending):
            missing.difference_update([part for low, high in missing for part in known.inside(low, high)])
        if len(self.tries):
            theirs = Tries(tried)
            for task in [task for task in self.tries.tasks() if task in missing]:
                if theirs.of(task) < self.tries.of(task):
                    missing.remove(task, task + 1)
        return missing.ranges()

    def enter(self, *facts: Fact) -> Send:
        """The next entry for the journal: all of these at once."""
        self._number += 1
        entry = Entry(self._number, facts)
        self._entries.append(entry)
        return Send(Port.JOURNAL, entry)

    def awaits(self, kind: type) -> bool:
        """Whether a fact of this kind is on its way to the journal."""
        return any(isinstance(fact, kind) for entry in self._entries for fact in entry.facts)

    def durable(self, number: int) -> list[Fact]:
        """The journal has these entries: their facts are true from now on. All that are news."""
        news: list[Fact] = []
        while self._entries and self._entries[0].number <= number:
            news += self._entries.popleft().facts
        for fact in news:
            self.apply(fact)
        return news

    def apply(self, fact: Fact) -> None:
        """It is true."""
        match fact:
            case Settled():
                self._settle(fact)
            case Marked(first, count):
                self.read = max(self.read, first + count)
            case Tried(low, high, tries):
                self.tries.set(low, high, tries)
            case Reopened(ranges):
                self.settled.difference_update(ranges)
                self.ahead.difference_update(ranges)
                self.failed -= sum(high - low for low, high in ranges)
            case Killed() | Left():
                self.killed = fact if isinstance(fact, Killed) else None
            case _:
                self._learn(fact)

    def _learn(self, fact: Began | Commanded | Ended) -> None:
        match fact:
            case Began(run, fingerprint):
                self.run, self.fingerprint = run, fingerprint
            case Commanded(digest, command):
                self.digest, self.command = digest, command
            case Ended(total, reason):
                self.total, self.reason = total, reason
                self.read = checksums.floor(total) if total < self.read and not reason else self.read

    def _settle(self, fact: Settled) -> None:
        self.settled.update(fact.ranges)
        self.pending.difference_update(fact.ranges)
        self.tries.forget(fact.ranges)
        self.failed += sum(high - low for low, high in fact.failures)
        self.sizes = fact.sizes
        if not fact.spilled:
            self.written = max([self.written, *(high for _, high in fact.ranges)])

    @property
    def is_complete(self) -> bool:
        """All is settled, and journaled, the total included."""
        return self.total >= 0 and not self._entries and self.settled.covers(0, self.total) and not len(self.ahead)
