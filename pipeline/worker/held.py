"""What a worker holds: tasks that are not finished, and results that are not answered.

The same task again runs nothing while it is held. When more is held than can run and nothing ends for a while, the
unstarted must not wait here.
"""

from __future__ import annotations

from pipeline.words.errands import Done, Release
from pipeline.words.messages import Chunk
from pipeline.words.parts import Ranges, Recipe, Retry, Tried
from pipeline.words.ranges import RangeSet
from pipeline.words.records import split
from pipeline.words.station import NEVER, Port, Send
from pipeline.words.structs import replace
from pipeline.words.tries import Tries
from pipeline.worker.unanswered import Unanswered

STUCK = 0.1
"""Seconds without a finished task after which the unstarted are given back."""


class Held:
    """A worker's hands, with `slots` tasks at a time in them."""

    def __init__(self, slots: int, now: float) -> None:
        self.unfinished = RangeSet()
        self.unanswered = Unanswered()
        self.tries = Tries()
        """Of those that it holds for another try."""
        self.stuck = False
        """Nothing has ended since the unstarted were given back."""
        self._slots, self._progress = slots, now

    @property
    def is_empty(self) -> bool:
        """Neither tasks nor results."""
        return not self.unfinished.tasks and not len(self.unanswered)

    @property
    def idle(self) -> int:
        """Slots with nothing to do."""
        return max(0, self._slots - self.unfinished.tasks)

    @property
    def deadline(self) -> float:
        """When it will have been stuck for long enough, if nothing ends until then."""
        return self._progress + STUCK if self.unfinished.tasks > self._slots and not self.stuck else NEVER

    def tick(self, now: float) -> list[Send]:
        """When stuck, ask for the unstarted back."""
        if now < self.deadline:
            return []
        self.stuck = True
        return [Send(Port.EXECUTOR, Release())]

    def stale(self, chunk: Chunk) -> Ranges:
        """What is unfinished of an earlier try than this chunk's: nobody wants it any more."""
        end = chunk.first + chunk.count
        older = RangeSet(self.tries.fewer(chunk.first, end, chunk.tries)) if chunk.tries else RangeSet()
        stale = tuple(part for low, high in older for part in self.unfinished.inside(low, high))
        self.unfinished.difference_update(stale)
        return stale

    def new(self, chunk: Chunk, recipe: Recipe, now: float) -> list[Chunk]:
        """The parts of a chunk that are not held already in this try; they are from now on. Ask for `stale` before."""
        if not self.unfinished.tasks:
            self._progress = now
        end = chunk.first + chunk.count
        have = RangeSet((*self.unfinished.inside(chunk.first, end), *self.unanswered.tasks.inside(chunk.first, end)))
        if chunk.tries:
            have.difference_update(self.tries.fewer(chunk.first, end, chunk.tries))
        new = have.outside(chunk.first, end)
        self.unfinished.update(new)
        for low, high in new:
            self.tries.set(low, high, chunk.tries)
        if not have.tasks:
            return [chunk]
        parts = []
        for low, high in new:
            _, rest = split(chunk.body, low - chunk.first, recipe)
            body, _ = split(rest, high - low, recipe)
            parts.append(replace(chunk, first=low, count=high - low, body=body))
        return parts

    def finish(self, done: Done, now: float) -> bool:
        """These tasks have ended; False if they were not wanted any more."""
        end = done.result.first + done.result.count
        if not self.unfinished.covers(done.result.first, end):
            return False
        self.unfinished.remove(done.result.first, end)
        self._progress, self.stuck = now, False
        return True

    def give_back(self, ranges: Ranges) -> None:
        """These are not held any more."""
        self.unfinished.difference_update(ranges)

    def settle(self, settled: RangeSet, retries: tuple[Retry, ...]) -> Ranges:
        """Forget what is answered, and what others have settled: that need not run on. The latter is returned."""
        self.unanswered.settle(settled, retries)
        elsewhere = self.elsewhere(settled)
        self.unfinished.difference_update(elsewhere)
        self.tries.forget(settled)
        return elsewhere

    def elsewhere(self, settled: RangeSet) -> Ranges:
        """What is still to be run here and settled already."""
        return tuple(part for low, high in self.unfinished for part in settled.inside(low, high))

    def tried(self) -> tuple[Tried, ...]:
        """All that it holds for another try."""
        if not len(self.tries):
            return ()
        return self.tries.among(RangeSet((*self.unfinished, *self.unanswered.tasks)))

    def clear(self) -> None:
        """Hold nothing."""
        self.unfinished = RangeSet()
        self.unanswered.clear()
        self.tries.clear()
