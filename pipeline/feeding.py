"""From the source to the lanes: what is read, what is sent next, and to whom.

Nothing is read past the window, no lane gets more than its worker has asked for, and what must go out again goes
before what was never sent. Knows tasks and lanes, and nothing of runs, acks or ends.
"""

from __future__ import annotations

from pipeline.errands import Records, Want
from pipeline.lanes import CHUNK_SIZE, Lane, Lanes, share
from pipeline.messages import Chunk, Recipe
from pipeline.ranges import RangeSet
from pipeline.station import Lane as LanePort
from pipeline.station import Port, Send
from pipeline.stock import Span, Stock, cut

MOST_RANGES = 4096
"""Settled ranges above the low-water mark past which nothing new is sent: each costs room in every Ack."""
BLOCK = 512 << 10
"""Bytes asked of the source at a time."""


class Feeding:
    """The ventilator's stock, and its way to the lanes."""

    def __init__(self, recipe: Recipe, window: int, chunk: int | None) -> None:
        self.stock = Stock(recipe)
        self.settled = RangeSet()
        self.full = False
        """The sink asks for nothing that was never sent."""
        self._window, self._chunk = window, chunk
        self._reading = False

    def read(self, records: Records, lanes: Lanes) -> list[Send]:
        """What a former life of this ventilator had settled, or a worker says it holds, is not sent.

        Nor is what lies below that fresh: it was sent before, and may be what order waits for.
        """
        self._reading = False
        span = Span(records.first, records.count, records.body)
        if span.first >= max(self.settled.end, lanes.claimed().end):
            self.stock.add(records)
            return []
        for part in cut(span, self.settled.outside(span.first, span.end), self.stock.recipe):
            self.stock.put_back(part)
        for lane in lanes:
            lanes.adopt(lane)
        return []

    def ended(self) -> None:
        """There is nothing more to read: as if it were being read for ever."""
        self._reading = True

    def settle(self, settled: RangeSet, lanes: Lanes) -> None:
        """The sink has these for good."""
        self.settled.update(settled)
        lanes.settle(self.settled)
        self.stock.settle(self.settled)

    def dispatch(self, run: str, lanes: Lanes, now: float) -> list[Send]:
        """A chunk to each lane in turn, as long as there is room and something to send; then read on."""
        sends: list[Send] = []
        hungry = [lane for lane in lanes if lane.room()]
        credit = sum(lane.room() for lane in hungry)
        while hungry:
            for lane in hungry:
                span = self._next(lane, credit)
                if span is None:
                    return sends + self._want(lanes)
                sent = lane.carry(span, now)
                credit -= 1
                word = Chunk(run, lane.number, sent.sequence, sent.first, sent.count, sent.body)
                sends.append(Send(LanePort(lane.number), word))
            hungry = [lane for lane in hungry if lane.room()]
        return sends + self._want(lanes)

    def _next(self, lane: Lane, credit: int) -> Span | None:
        fresh = not self.full and len(self.settled) < MOST_RANGES
        most = share(lane, self.stock.tasks, credit, self._chunk)
        return self.stock.take(most, CHUNK_SIZE, fresh=fresh)

    def _want(self, lanes: Lanes) -> list[Send]:
        """Read on when nothing fresh is left, but only within the window."""
        unsettled = self.stock.size + lanes.size
        if self._reading or self.stock.has_fresh or unsettled >= self._window:
            return []
        self._reading = True
        return [Send(Port.SOURCE, Want(BLOCK))]
