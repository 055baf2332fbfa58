"""The way of a result to safety: output (or spill), then journal, then settled.

Results are written as they come, or in the order of their tasks; then those ahead of their turn wait in the spill,
where they count as settled as soon as the journal knows. An Ack can so never say more than what is safe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pipeline.sink.attempts import Attempts
from pipeline.sink.ledger import Ledger
from pipeline.words.errands import Fetch, Forget, Keep, Kept, Spilled, Write, Written
from pipeline.words.facts import Settled
from pipeline.words.messages import Result
from pipeline.words.notices import Full
from pipeline.words.ranges import RangeSet
from pipeline.words.results import cut_result
from pipeline.words.station import Port, Send


@dataclass(frozen=True, slots=True)
class _Sent:
    number: int
    low: int
    high: int
    failures: tuple[int, ...]


def failures(result: Result) -> tuple[int, ...]:
    """Which of its tasks did not end well."""
    return tuple(note.task for note in result.notes)


class Writing:
    """What is on its way to output, spill and journal."""

    def __init__(self, ledger: Ledger, attempts: Attempts, limit: int, kept: int = 0, *, keep_order: bool) -> None:
        self._ledger, self._attempts, self._limit, self._keep_order = ledger, attempts, limit, keep_order
        self._writes: deque[_Sent] = deque()
        self._keeps: deque[_Sent] = deque()
        self._number = 0
        self._fetching = self._flushing = False
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
        return not (self._writes or self._keeps or self._fetching)

    @property
    def is_complete(self) -> bool:
        """Whether all tasks of the run are settled, and written."""
        return self._ledger.is_complete and self.is_over

    def take(self, result: Result) -> list[Send]:
        """A result has come: what is new of it is written or kept, unless it failed and is tried again."""
        return [send for part in self._ledger.accept(result) for send in self._take(part)]

    def _take(self, part: Result) -> list[Send]:
        tried = self._attempts.again(part)
        if not tried:
            return self.place(part)
        final = RangeSet([(part.first, part.first + part.count)])
        final.difference_update((each.low, each.high) for each in tried)
        placed = [send for piece in cut_result(part, list(final)) for send in self.place(piece)]
        news = [each for each in tried if self._ledger.again(each)]
        return [*([self._ledger.enter(*news)] if news else []), *placed]

    def place(self, part: Result) -> list[Send]:
        """In its turn a result is written, ahead of it kept."""
        turn = self._ledger.turn  # below it, there are only those that had failed and are done once more
        if not self._keep_order or part.first < turn or (part.first == turn and not self._fetching):
            return [self._write(part, failures(part)), *self.advance()]
        end = part.first + part.count
        self._number += 1
        self._keeps.append(_Sent(self._number, part.first, end, failures(part)))
        self._kept += len(part.output) + len(part.errors)
        self._ledger.ahead.add(part.first, end)
        return [Send(Port.SPILL, Keep(self._number, part)), *self._fullness()]

    def _write(self, part: Result, failed: tuple[int, ...]) -> Send:
        self._number += 1
        end = part.first + part.count
        self._writes.append(_Sent(self._number, part.first, end, failed))
        if self._keep_order:
            self._ledger.turn = max(self._ledger.turn, end)
        return Send(Port.OUTPUT, Write(self._number, part))

    def advance(self) -> list[Send]:
        """Fetch what was ahead and whose turn has come; at an early end, also what stands behind a gap."""
        ahead = self._ledger.ahead
        if self._fetching or not len(ahead):
            return []
        if self._ledger.turn not in ahead:
            if not self._flushing:
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
        return [self._write(result, ()), *self.advance(), *self._fullness()]

    def _fullness(self) -> list[Send]:
        """The person is told, when it begins and when it is over, and what is waited for."""
        full = self._kept > self._limit
        if full == self.full:
            return []
        self.full = full
        return [Send(Port.TOLD, Full(self._ledger.turn, full))]

    def flush(self) -> list[Send]:
        """The run has ended early: what waits for a turn that never comes is written in the order of what is there."""
        self._flushing = True
        return self.advance()

    def safe(self, word: Written | Spilled) -> list[Send]:
        """Output or spill has it: now the journal."""
        spilled = isinstance(word, Spilled)
        if isinstance(word, Written):
            self._sizes = word.sizes
        sent = self._keeps if spilled else self._writes
        ranges, failed = RangeSet(), RangeSet()
        while sent and sent[0].number <= word.number:
            piece = sent.popleft()
            ranges.add(piece.low, piece.high)
            failed.update((task, task + 1) for task in piece.failures)
        if not ranges.tasks:
            return []
        return [self._ledger.enter(Settled(ranges.ranges(), failed.ranges(), spilled, self._sizes))]

    def forget(self) -> list[Send]:
        """What was fetched and is in the output for good need not be kept any more."""
        if not self._keep_order or self._forgotten >= self._ledger.written:
            return []
        self._forgotten = self._ledger.written
        return [Send(Port.SPILL, Forget(self._forgotten))]
