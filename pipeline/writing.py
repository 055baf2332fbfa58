"""The way of a result to safety: output (or spill), then journal, then settled.

Results are written as they come, or in the order of their tasks; then those ahead of their turn wait in the spill,
where they count as settled as soon as the journal knows. An Ack can so never say more than what is safe.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pipeline.errands import Fetch, Keep, Kept, Spilled, Write, Written
from pipeline.ledger import Ledger
from pipeline.messages import Result
from pipeline.notices import Full
from pipeline.ranges import RangeSet
from pipeline.station import Port, Send


@dataclass(frozen=True, slots=True)
class _Sent:
    number: int
    low: int
    high: int
    failed: int


def failures(result: Result) -> int:
    """How many of its tasks did not end well."""
    return len({note.task for note in result.notes})


class Writing:
    """What is on its way to output, spill and journal."""

    def __init__(self, ledger: Ledger, limit: int, *, keep_order: bool) -> None:
        self._ledger, self._limit, self._keep_order = ledger, limit, keep_order
        self._writes: deque[_Sent] = deque()
        self._keeps: deque[_Sent] = deque()
        self._number = 0
        self._fetching = self._flushing = False
        self._kept = 0
        self.full = False
        """More than `limit` bytes are in the spill: nothing should be sent that was never sent."""

    @property
    def is_over(self) -> bool:
        """Whether nothing is on its way, and nothing waits for its turn."""
        return not (self._writes or self._keeps or len(self._ledger.ahead))

    @property
    def is_complete(self) -> bool:
        """Whether all tasks of the run are settled, and written."""
        return self._ledger.is_complete and self.is_over

    def take(self, result: Result) -> list[Send]:
        """A result has come: what is new of it is written, or kept."""
        return [send for part in self._ledger.accept(result) for send in self.place(part)]

    def place(self, part: Result) -> list[Send]:
        """In its turn a result is written, ahead of it kept."""
        if not self._keep_order or (part.first == self._ledger.turn and not self._fetching):
            return [self._write(part, failures(part)), *self._advance()]
        end = part.first + part.count
        self._number += 1
        self._keeps.append(_Sent(self._number, part.first, end, failures(part)))
        self._kept += len(part.output) + len(part.errors)
        self._ledger.ahead.add(part.first, end)
        return [Send(Port.SPILL, Keep(self._number, part)), *self._fullness()]

    def _write(self, part: Result, failed: int) -> Send:
        self._number += 1
        end = part.first + part.count
        self._writes.append(_Sent(self._number, part.first, end, failed))
        if self._keep_order:
            self._ledger.turn = end
        return Send(Port.OUTPUT, Write(self._number, part))

    def _advance(self) -> list[Send]:
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
        return [self._write(result, 0), *self._advance(), *self._fullness()]

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
        return self._advance()

    def safe(self, word: Written | Spilled) -> list[Send]:
        """Output or spill has it: now the journal."""
        spilled = isinstance(word, Spilled)
        sent = self._keeps if spilled else self._writes
        ranges, failed = RangeSet(), 0
        while sent and sent[0].number <= word.number:
            piece = sent.popleft()
            ranges.add(piece.low, piece.high)
            failed += piece.failed
        if not ranges.tasks:
            return []
        return [Send(Port.JOURNAL, self._ledger.entry(ranges.ranges(), failed, spilled=spilled))]
