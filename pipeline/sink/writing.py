"""The way of a result to safety: output (or spill), then journal, then settled.

Results are written as they come, or in the order of their tasks; then those ahead of their turn wait in the spill,
where they count as settled as soon as the journal knows. An Ack can so never say more than what is safe.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.sink.attempts import Attempts
from pipeline.sink.ledger import Ledger
from pipeline.sink.live import Live
from pipeline.sink.underway import Underway
from pipeline.words.errands import Committed, Fetch, Forget, Keep, Kept, Write
from pipeline.words.facts import Settled
from pipeline.words.messages import Result
from pipeline.words.notices import Waiting
from pipeline.words.parts import Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.results import cut_result
from pipeline.words.station import Port, Send


class Limits(Struct, frozen=True):
    """How many bytes may wait for their turn, whether there are turns, and whether each try is written down."""

    spill: int = 10 << 30
    keep_order: bool = False
    log: bool = False


class Writing:
    """What is on its way to output, spill and journal."""

    def __init__(self, ledger: Ledger, attempts: Attempts, live: Live, limits: Limits, kept: int = 0) -> None:
        self._ledger, self._attempts, self._live = ledger, attempts, live
        self._limit, self._keep_order, self._log = limits.spill, limits.keep_order, limits.log
        self.underway = Underway()
        self._fetching = self.flushing = False
        self._kept, self._sizes, self._forgotten = kept, ledger.sizes, ledger.written
        self.full = False
        """More than `limit` bytes are in the spill: nothing should be sent that was never sent."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is on its way, and nothing waits for its turn."""
        return self.is_still and not len(self._ledger.ahead)

    @property
    def is_still(self) -> bool:
        """Whether nothing is on its way."""
        return not (self.underway or self._fetching)

    @property
    def is_complete(self) -> bool:
        """Whether all tasks of the run are settled, and written."""
        return self._ledger.is_complete and self.is_over

    def take(self, result: Result) -> list[Send]:
        """A result has come: what is new of it is written or kept, unless it failed and is tried again."""
        sends = [send for part in self._ledger.accept(result) for send in self._take(part)]
        return [*sends, *self._live.turned()]

    def _take(self, part: Result) -> list[Send]:
        tried = self._attempts.again(part)
        if not tried:
            return self.place(part)
        final = RangeSet([(part.first, part.first + part.count)])
        final.difference_update((each.low, each.high) for each in tried)
        told = self._log_of(part, tried) if self._log else self._tell(tried)
        return [*told, *(send for piece in cut_result(part, list(final)) for send in self.place(piece))]

    def _tell(self, tried: list[Tried]) -> list[Send]:
        news = [each for each in tried if self._ledger.again(each)]
        return [self._ledger.enter(*news)] if news else []

    def _log_of(self, part: Result, tried: list[Tried]) -> list[Send]:
        """Each try that failed has its row before it is known for good, so that no row is missing or there twice."""
        sends = []
        for each in tried:
            if not self._ledger.is_news(each):
                self._ledger.again(each)
                continue
            (piece,) = cut_result(part, [(each.low, each.high)])
            sends.append(Send(Port.OUTPUT, Write(self.underway.write(piece, each), piece, tried=True)))
        return sends

    def place(self, part: Result) -> list[Send]:
        """In its turn a result is written, ahead of it kept."""
        turn = self._ledger.turn  # below it, there are only those that had failed and are done once more
        if not self._keep_order or part.first < turn or (part.first == turn and not self._fetching):
            return [self._write(part), *self.advance()]
        self._kept += len(part.output) + len(part.errors)
        self._ledger.ahead.add(part.first, part.first + part.count)
        return [Send(Port.SPILL, Keep(self.underway.keep(part), part)), *self._fullness()]

    def _write(self, part: Result, *, known: bool = False) -> Send:
        if self._keep_order:
            self._ledger.turn = max(self._ledger.turn, part.first + part.count)
        return Send(Port.OUTPUT, Write(self.underway.write(part, known=known), part, shown=self._live.shown(part)))

    def advance(self) -> list[Send]:
        """Fetch what was ahead and whose turn has come; at an early end, also what stands behind a gap."""
        ahead = self._ledger.ahead
        if self._fetching or not len(ahead):
            return []
        if self._ledger.turn not in ahead:
            if not self.flushing:
                return []
            self._ledger.turn = ahead.ranges()[0][0]
        self._fetching = True
        return [Send(Port.SPILL, Fetch(self._ledger.turn))]

    def fetched(self, kept: Kept) -> list[Send]:
        """The spill has given back a result whose turn has come. Its failures were counted when it was kept."""
        result = kept.result
        self._fetching = False
        self._kept -= len(result.output) + len(result.errors)
        self._ledger.ahead.remove(result.first, result.first + result.count)
        return [self._write(result, known=True), *self.advance(), *self._fullness(), *self._live.turned()]

    def _fullness(self) -> list[Send]:
        """The person is told, when it begins and when it is over, and what is waited for."""
        full = self._kept > self._limit
        if full == self.full:
            return []
        self.full = full
        return [Send(Port.TOLD, Waiting("spill", f"task {self._ledger.turn + 1:,}", full))]

    def flush(self) -> list[Send]:
        """The run has ended early: what waits for a turn that never comes is written in the order of what is there."""
        self.flushing = True
        return self.advance()

    def safe(self, word: Committed) -> list[Send]:
        """Output or spill has it: now the journal."""
        if word.store == "output":
            self._sizes = word.sizes
        safe = self.underway.safe(word)
        news = [each for each in safe.tried if self._ledger.again(each)]
        if not safe.ranges.tasks and not news:
            return []
        settled = Settled(safe.ranges.ranges(), safe.failures.ranges(), word.store == "spill", self._sizes)
        return [self._ledger.enter(settled, *news)]

    def forget(self) -> list[Send]:
        """What was fetched and is in the output for good need not be kept any more."""
        if not self._keep_order or self._forgotten >= self._ledger.written:
            return []
        self._forgotten = self._ledger.written
        return [Send(Port.SPILL, Forget(self._forgotten))]
