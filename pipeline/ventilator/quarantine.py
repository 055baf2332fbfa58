"""Suspects alone: one task at a time goes to a worker that has nothing else, and the guilty go to nobody.

A worker is drained for it: it gets nothing more until it has nothing left, then the suspect, and others only when that
has ended. So nobody else is lost with it, and only it can be convicted.
"""

from __future__ import annotations

from pipeline.ventilator.judged import Judged
from pipeline.ventilator.lanes import Lane, Lanes
from pipeline.ventilator.stock import Span, Stock, cut
from pipeline.ventilator.suspects import ALONE
from pipeline.words.ranges import RangeSet


class Quarantine:
    """Who waits to be sent alone; `limit` workers lost with it alone convict a task."""

    def __init__(self, stock: Stock, judged: Judged, limit: int) -> None:
        self._stock, self._judged, self._limit = stock, judged, limit

    def next(self, lanes: Lanes, now: float) -> tuple[Lane, Span] | None:
        """The suspect that goes out now, and to whom."""
        suspects, stock = lanes.suspects, self._stock
        drained = next((lane for lane in lanes if lane.solo == "draining"), None)
        if not (len(suspects) or drained):
            return None
        self._convict(suspects.convicted(self._limit))
        span = stock.next_back(lambda span: span.due <= now and suspects.level(span.first) >= ALONE)
        if span is None:
            if drained:
                drained.solo = ""
            return None
        if not len(lanes) or any(lane.solo == "alone" and not lane.room() for lane in lanes):
            return None
        lane = drained or min(lanes, key=lambda lane: len(lane.out))
        lane.solo = "draining"
        if lane.out or not lane.allowance():
            return None
        lane.solo = "alone"
        return lane, stock.take_back(span, 1)

    def _convict(self, tasks: list[int]) -> None:
        """These are sent no more; the ventilator says their final records itself."""
        stock = self._stock
        for task in tasks:
            span = stock.next_back(lambda span, task=task: span.first <= task < span.end)  # type: ignore[misc]
            if span is None:
                continue
            whole = stock.take_back(span, span.count)
            for part in cut(whole, RangeSet([(task, task + 1)]).outside(whole.first, whole.end), stock.recipe):
                stock.put_back(part)
            self._judged.poison(cut(whole, [(task, task + 1)], stock.recipe)[0], self._limit, stock.recipe)
