"""One lane for each life of each worker: what it may be sent, what it holds, whether it is still there.

A lane knows from pulses, never from its own counting, what its worker holds. What a pulse has seen arrive and does not
name any more was given back or lost, and goes out again. Nothing here sends; the ventilator does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import ceil
from typing import Literal

from pipeline.ventilator.stock import Span, Stock, cut
from pipeline.ventilator.suspects import Suspects
from pipeline.ventilator.transit import Transit
from pipeline.words.messages import Pulse
from pipeline.words.parts import Recipe, Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.station import NEVER
from pipeline.words.structs import replace
from pipeline.words.tries import Tries

WORK = 0.05
"""Seconds of one slot's work that a chunk should be."""
FEWEST = 10
"""A chunk is no less than this part of WORK, however many are asked for: each costs an exchange."""
GROWTH = 4
"""A chunk grows at most so many times per measurement."""
CHUNK_SIZE = 512 << 10
"""Bytes that a chunk should not pass; a larger record travels whole."""
IN_FLIGHT = 8 << 20
"""Bytes on the way to a worker past which nothing is added; what it holds is for its credit and the window to bound."""
MOST_SPANS = 4096
"""Chunks in one worker's hands at most: each costs room in its pulses and time to go through."""
SUSPECT = 2.0
"""Seconds until a worker is lost that can't be reached."""


class Lane:
    """The ventilator's side of one worker."""

    def __init__(self, number: int, pulse: Pulse, peer: bytes, now: float) -> None:
        self.number, self.worker, self.peer = number, pulse.worker, peer
        self.at = ""
        """Where it is bound; empty until it is."""
        self.sequence, self.allowed, self.slots = 0, 0, pulse.slots
        self.heard, self.suspected = now, NEVER
        self.claims, self.finished = RangeSet(), RangeSet()
        """All that its worker says it holds; and what of it has ended."""
        self.out: dict[int, Span] = {}
        self.size = 0
        self.chunk = 1
        self.solo: Literal["", "draining", "alone"] = ""
        """Whether it waits to be given one suspect alone, or has it."""
        self._done, self._transit = pulse.done, Transit(now)

    def pulsed(self, pulse: Pulse, peer: bytes, now: float) -> None:
        """Take in what the worker says of itself, but for what it holds."""
        self.peer, self.heard, self.suspected = peer, now, NEVER
        here = pulse.lane == self.number
        self.allowed = pulse.allowed if here else max(0, pulse.allowed - pulse.seen)
        if here:
            self._transit.seen(pulse.seen, now)
        if pulse.done != self._done and pulse.pace:
            self.chunk = max(1, min(self.chunk * GROWTH, int(WORK / pulse.pace)))
            self._done = pulse.done

    def room(self) -> int:
        """How many chunks may be sent now."""
        if self.solo == "alone" and not self.out:
            self.solo = ""
        return 0 if self.solo else self.allowance()

    def allowance(self) -> int:
        """How many its worker would take."""
        if not self.at or self._transit.size >= IN_FLIGHT:
            return 0
        return max(0, min(self.allowed - self.sequence, MOST_SPANS - len(self.out)))

    def carry(self, span: Span, now: float) -> Span:
        """The span goes out on this lane as its next sequence."""
        self.sequence += 1
        self._transit.sent(self.sequence, len(span.body), now)
        sent = replace(span, lane=self.number, sequence=self.sequence, due=0.0, avoid="")
        self.hold(sent)
        return sent

    def hold(self, span: Span) -> None:
        """The span is this worker's from now on."""
        self.out[span.first] = span
        self.size += len(span.body)

    def settle(self, settled: RangeSet, recipe: Recipe) -> None:
        """Forget the records of what is settled."""
        self._keep(lambda span: settled.outside(span.first, span.end), recipe)

    def judge(self, pulse: Pulse, recipe: Recipe, tries: Tries) -> list[Span]:
        """What this worker was sent, has seen pass, and does not hold: to be sent again."""
        self.claims, self.finished = claimed(pulse, tries), RangeSet(pulse.finished)
        gone: list[Span] = []

        def held(span: Span) -> list[tuple[int, int]]:
            if (span.lane, span.sequence) > (pulse.lane, pulse.seen):
                return [(span.first, span.end)]
            if missing := self.claims.outside(span.first, span.end):
                gone.extend(cut(span, missing, recipe))
            return self.claims.inside(span.first, span.end)

        self._keep(held, recipe)
        return gone

    def retry(self, tried: Tried, recipe: Recipe, due: float) -> list[Span]:
        """What this worker has of an earlier try: to be sent again, with more tries, rather to another."""
        self.claims.remove(tried.low, tried.high)
        taken: list[Span] = []

        def rest(span: Span) -> list[tuple[int, int]]:
            stale = RangeSet([(tried.low, tried.high)] if span.tries < tried.tries else ())
            taken.extend(cut(span, stale.inside(span.first, span.end), recipe))
            return stale.outside(span.first, span.end)

        self._keep(rest, recipe)
        return [replace(span, tries=tried.tries, due=due, avoid=self.worker, lane=0, sequence=0) for span in taken]

    def unfinished(self) -> RangeSet:
        """What its worker was given and is not known to have ended."""
        held = RangeSet((span.first, span.end) for span in self.out.values())
        held.difference_update(self.finished)
        return held

    def _keep(self, rest_of: Callable[[Span], list[tuple[int, int]]], recipe: Recipe) -> None:
        for span in list(self.out.values()):
            rest = rest_of(span)
            if rest == [(span.first, span.end)]:
                continue
            del self.out[span.first]
            self.size -= len(span.body)
            for part in cut(span, rest, recipe):
                self.hold(part)

    def overdue(self, now: float) -> bool:
        """Whether the lane swallows what it is given while its worker's pulses come: it wants a new connection."""
        return self.at != "" and self._transit.is_overdue(self.heard, now)

    def rebind(self, number: int) -> None:
        """A new connection under a new number; what the old one carried is judged by the next pulse that knows it."""
        self.number, self.at, self.sequence, self.allowed = number, "", 0, 0
        self._transit.restart()

    def is_silent(self, now: float, liveness: float) -> bool:
        """Whether its worker counts as lost."""
        return now - self.heard > liveness or now - self.suspected > SUSPECT


def claimed(pulse: Pulse, tries: Tries) -> RangeSet:
    """What a worker says it holds, but for what it holds of an earlier try than the last that failed."""
    claims = RangeSet((*pulse.holding, *pulse.finished))
    theirs = Tries(pulse.tried)
    for run in tries.among(claims):
        claims.difference_update(theirs.fewer(run.low, run.high, run.tries))
    return claims


def share(lane: Lane, at_hand: int, credit: int, fixed: int | None) -> int:
    """How many tasks the next chunk takes: what the worker's pace asks for, at most its share of what is at hand."""
    return fixed or max(1, min(lane.chunk, max(lane.chunk // FEWEST, ceil(at_hand / max(1, credit)))))


class Lanes:
    """All lanes, by their workers; what one loses goes back to the stock, unless another turns out to hold it."""

    def __init__(self, stock: Stock) -> None:
        self._stock = stock
        self._lanes: dict[str, Lane] = {}
        self.suspects = Suspects()
        self.parked = 0.0
        """When the last worker left because the run is over, and what it had was put aside."""

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def __len__(self) -> int:
        return len(self._lanes)

    @property
    def size(self) -> int:
        """Bytes of all records that workers hold."""
        return sum(lane.size for lane in self._lanes.values())

    def of(self, worker: str) -> Lane | None:
        """This worker's lane, if it has one."""
        return self._lanes.get(worker)

    def add(self, lane: Lane) -> None:
        """A worker has a lane from now on."""
        self.suspects.returned(lane.worker)
        self._lanes[lane.worker] = lane

    def close(self, lane: Lane, due: float) -> None:
        """The worker is gone; what it held goes out again, but not before `due`."""
        del self._lanes[lane.worker]
        self.take_back(lane, [replace(span, due=due) for span in lane.out.values()])

    def suspect(self, lane: Lane) -> None:
        """Its worker is lost: one of those that it held may be why."""
        self.suspects.lost(lane.worker, lane.unfinished(), alone=lane.solo == "alone")

    def wake(self, before: float) -> None:
        """The sink goes on acking: the run is not over after all, for those that were put aside before then."""
        if self.parked <= before:
            self._stock.wake()

    def settle(self, settled: RangeSet) -> None:
        """Forget the records of what is settled."""
        self.suspects.forget(settled)
        for lane in self._lanes.values():
            lane.settle(settled, self._stock.recipe)

    def retry(self, tried: Tried, due: float) -> None:
        """These have failed and are to be sent again."""
        spans = [span for lane in self._lanes.values() for span in lane.retry(tried, self._stock.recipe, due)]
        for span in (*spans, *self._stock.retry(tried, due)):
            self._stock.put_back(span)

    def claimed(self) -> RangeSet:
        """All that any worker says it holds."""
        return RangeSet(part for lane in self._lanes.values() for part in lane.claims)

    def judge(self, lane: Lane, pulse: Pulse) -> None:
        """What a worker does not hold any more goes out again; what it does hold is not sent to others."""
        self.take_back(lane, lane.judge(pulse, self._stock.recipe, self._stock.tries))
        self.adopt(lane)

    def adopt(self, lane: Lane) -> None:
        """What this worker says it holds is not sent to others."""
        for span in self._stock.adopt(lane.claims):
            lane.hold(replace(span, lane=0, sequence=0))

    def take_back(self, lost_by: Lane, spans: list[Span]) -> None:
        """These go out again, unless another worker says that it holds them."""
        for span in spans:
            self._stock.put_back(span)
        for lane in self._lanes.values() if spans else ():
            if lane is not lost_by:
                self.adopt(lane)
