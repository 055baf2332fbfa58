"""Results that a worker has sent and the sink has not answered for yet.

A result is kept until an Ack says that all of it is settled, and sent again only when the sink asks: the asking names
the pulse that spoke of it, and one older than the last sending is ignored. Knows no time-outs.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.messages import Again, Result
from pipeline.ranges import RangeSet
from pipeline.station import Port, Send


@dataclass(slots=True)
class _Kept:
    result: Result
    pulse: int
    since: float


class Unanswered:
    """Results by their first task."""

    def __init__(self) -> None:
        self._kept: dict[int, _Kept] = {}
        self.tasks = RangeSet()
        """All tasks of all results kept."""
        self.size = 0

    def keep(self, result: Result, pulse: int, now: float) -> None:
        """It has just been sent, after pulse number `pulse`."""
        self._kept[result.first] = _Kept(result, pulse, now)
        self.tasks.add(result.first, result.first + result.count)
        self.size += len(result.output) + len(result.errors)

    def settle(self, settled: RangeSet) -> None:
        """Forget what is answered in whole."""
        answered = [first for first, kept in self._kept.items() if settled.covers(first, first + kept.result.count)]
        for first in answered:
            result = self._kept.pop(first).result
            self.tasks.remove(first, first + result.count)
            self.size -= len(result.output) + len(result.errors)

    def asked(self, again: Again, pulse: int, now: float) -> list[Send]:
        """What to send again, for an asking that is newer than the last sending."""
        lost = RangeSet(again.ranges)
        sends = []
        for first, kept in self._kept.items():
            if kept.pulse < again.pulse and lost.inside(first, first + kept.result.count):
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
