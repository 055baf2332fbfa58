"""From the source to the lanes: what is read, what is sent next, and to whom.

Nothing is read past the window, no lane gets more than its worker has asked for, and what must go out again goes
before what was never sent, once it is due. Suspects go singly, or alone. Knows tasks and lanes, and nothing of
runs, acks or ends.
"""

from __future__ import annotations

from pipeline.ventilator.judged import Judged, too_large
from pipeline.ventilator.lanes import CHUNK_SIZE, Lane, Lanes, share
from pipeline.ventilator.quarantine import Quarantine
from pipeline.ventilator.stock import Span, Stock, cut
from pipeline.ventilator.suspects import ALONE, SINGLE
from pipeline.words.errands import Forget, Records, Want
from pipeline.words.messages import Chunk
from pipeline.words.parts import Recipe, Retry, Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.station import Lane as LanePort
from pipeline.words.station import Port, Send

MOST_RANGES = 4096
"""Settled ranges and retries past which nothing new is sent: each costs room in every Ack."""
BLOCK = 512 << 10
"""Bytes asked of the source at a time."""
AHEAD = BLOCK // 2
"""Bytes that should be at hand."""
PREFERRED = 2.0
"""Seconds for which another try waits for another worker, where there is one."""


class Feeding:
    """The ventilator's stock, and its way to the lanes. Tasks of more than `most` bytes are not sent."""

    def __init__(self, recipe: Recipe, window: int, chunk: int | None, most: int | None, crash_limit: int) -> None:
        self.stock, self.settled, self.judged = Stock(recipe), RangeSet(), Judged()
        self.full = False
        """The sink asks for nothing that was never sent."""
        self._quarantine = Quarantine(self.stock, self.judged, crash_limit)
        self._window, self._chunk, self._most = window, chunk, most
        self._reading, self._forgotten, self._end, self._needed = False, 0, 0, 0

    def read(self, records: Records, lanes: Lanes, needed: int = 0) -> list[Send]:
        """What a former life of this ventilator had settled, or a worker says it holds, is not sent.

        Nor is what lies below that fresh: it was sent before, and may be what order waits for. All records below
        `needed` will be read, even past the window.
        """
        self._reading, self._end, self._needed = False, records.first + records.count, needed
        span = Span(records.first, records.count, records.body)
        large = too_large(span, self._most, self.stock.recipe) if self._most else []
        if not large and span.first >= max(self.settled.end, lanes.claimed().end, self.stock.tries.end):
            self.stock.add(records)
            return []
        rest = RangeSet(self.settled.outside(span.first, span.end))
        for task, size in large:
            if task in rest:
                rest.remove(task, task + 1)
                self.judged.large(cut(span, [(task, task + 1)], self.stock.recipe)[0], size, self.stock.recipe)
        self.stock.again(span, rest)
        for lane in lanes:
            lanes.adopt(lane)
        return []

    def repeat(self, run: str) -> list[Send]:
        """What the sink has not settled of the tasks that were judged here, and what the source need not keep."""
        low, sends = self.settled.low_water(), self.judged.say(run)
        if low > self._forgotten:
            self._forgotten = low
            sends.append(Send(Port.SOURCE, Forget(low)))
        return sends

    def ended(self) -> None:
        """There is nothing more to read: as if it were being read for ever."""
        self._reading = True

    def settle(self, settled: RangeSet, lanes: Lanes) -> None:
        """The sink has these for good."""
        self.settled.update(settled)
        lanes.settle(self.settled)
        self.stock.settle(self.settled)
        self.stock.tries.forget(self.settled)
        self.judged.settle(self.settled)

    def retry(self, retries: tuple[Retry, ...], lanes: Lanes, now: float) -> None:
        """The sink wants these run again."""
        for each in retries:
            for low, high in self.stock.tries.fewer(each.low, each.high, each.tries):
                self.stock.tries.set(low, high, each.tries)
                lanes.retry(Tried(low, high, each.tries), now + each.wait)

    def dispatch(self, run: str, lanes: Lanes, now: float) -> list[Send]:
        """A chunk to each lane in turn, as long as there is room and something to send; then read on."""
        alone = self._quarantine.next(lanes, now)
        sends = [self._carry(run, *alone, now)] if alone else []
        sends += self.judged.news(run)
        hungry = [lane for lane in lanes if lane.room()]
        credit = sum(lane.room() for lane in hungry)
        idle: set[str] = set()
        while hungry:
            for lane in hungry:
                span = self._next(lane, lanes, credit, now)
                if span:
                    credit -= 1
                    sends.append(self._carry(run, lane, span, now))
                else:
                    idle.add(lane.worker)
            hungry = [lane for lane in hungry if lane.room() and lane.worker not in idle]
        return sends + self._want(lanes)

    def _carry(self, run: str, lane: Lane, span: Span, now: float) -> Send:
        out = lane.carry(span, now)
        return Send(
            LanePort(out.lane),
            Chunk(run, out.lane, out.sequence, out.first, out.count, out.body, out.tries),
        )

    def _next(self, lane: Lane, lanes: Lanes, credit: int, now: float) -> Span | None:
        """What this lane gets next."""
        suspects = lanes.suspects

        def fits(span: Span) -> bool:
            avoided = span.avoid == lane.worker and len(lanes) > 1 and now < span.due + PREFERRED
            return span.due <= now and not avoided and suspects.level(span.first) < ALONE

        most = share(lane, self.stock.tasks, credit, self._chunk)
        if back := self.stock.next_back(fits):
            most = min(most, suspects.stretch(back.first, back.end) - back.first)
            return self.stock.take_back(back, 1 if suspects.level(back.first) >= SINGLE else most)
        if self.full or len(self.settled) + len(self.stock.tries) >= MOST_RANGES:
            return None
        fresh = self.stock.take_fresh(most, CHUNK_SIZE)
        if not (fresh and self.stock.tries.among([(fresh.first, fresh.end)])):
            return fresh
        self.stock.again(fresh, [(fresh.first, fresh.end)])  # sent by a former life of this ventilator, and failed
        return self._next(lane, lanes, credit, now)

    def read_on(self, lanes: Lanes) -> list[Send]:
        """The run ends soon: read on to what workers hold, of which the sink must be told."""
        return self._want(lanes) if max(lanes.claimed().end, self._needed) > self._end else []

    def _want(self, lanes: Lanes) -> list[Send]:
        """Read on when little is left, but only within the window: so of a short input the end is soon known."""
        has_enough = self.stock.size >= AHEAD or self.stock.size + lanes.size >= self._window
        if self._reading or (has_enough and self._end >= self._needed):
            return []
        self._reading = True
        return [Send(Port.SOURCE, Want(BLOCK))]
