"""Results that a worker has sent and the sink has not answered for yet.

A result is kept until an Ack says of all its tasks that they are settled or to be tried again, and sent again only when
the sink asks: the asking names the pulse that spoke of it, and one older than the last sending is ignored. Knows no
time-outs.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.words.messages import Result
from pipeline.words.parts import Again, Retry
from pipeline.words.ranges import RangeSet
from pipeline.words.station import Port, Send

OVERHEAD = 2048
"""Bytes that a result counts beside its contents: so many small ones cost memory, too, and room in every pulse."""


class _Kept(Struct, gc=False):
    result: Result
    pulse: int
    since: float

    @property
    def end(self) -> int:
        return self.result.first + self.result.count

    @property
    def size(self) -> int:
        return OVERHEAD + len(self.result.output) + len(self.result.errors) + len(self.result.records)


class Unanswered:
    """Results by their first task and its tries."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], _Kept] = {}
        self.tasks = RangeSet()
        """All tasks of all results kept."""
        self.size = 0

    def keep(self, result: Result, pulse: int, now: float) -> None:
        """It has just been sent, after pulse number `pulse`."""
        kept = self._kept[result.first, result.tries] = _Kept(result, pulse, now)
        self.tasks.add(result.first, kept.end)
        self.size += kept.size

    def settle(self, settled: RangeSet, retries: tuple[Retry, ...] = ()) -> None:
        """Forget what is answered in whole."""
        answers: dict[int, RangeSet] = {}
        for tries in {tries for _, tries in self._kept} if retries else ():
            again = ((retry.low, retry.high) for retry in retries if retry.tries > tries)
            answers[tries] = RangeSet((*settled, *again))
        answered = [
            key for key, kept in self._kept.items() if answers.get(key[1], settled).covers(kept.result.first, kept.end)
        ]
        for key in answered:
            kept = self._kept.pop(key)
            self.tasks.remove(kept.result.first, kept.end)
            self.size -= kept.size
        if answered and any(tries for _, tries in (*answered, *self._kept)):  # a task may be in two tries at once
            self.tasks.update((kept.result.first, kept.end) for kept in self._kept.values())

    def asked(self, again: Again, pulse: int, now: float) -> list[Send]:
        """What to send again, for an asking that is newer than the last sending."""
        lost = RangeSet(again.ranges)
        sends = []
        for kept in self._kept.values():
            if kept.pulse < again.pulse and lost.inside(kept.result.first, kept.end):
                kept.pulse, kept.since = pulse, now
                sends.append(Send(Port.RESULTS, kept.result))
        return sends

    def oldest(self) -> float | None:
        """When the longest unanswered one was sent."""
        return min((kept.since for kept in self._kept.values()), default=None)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
        self.tasks = RangeSet()
        self.size = 0

    def __len__(self) -> int:
        return len(self._kept)
