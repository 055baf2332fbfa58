"""What is on the plate of one warm child: its batches, the running one first.

It finds the task that runs through the arenas, without the child's help, and takes off the plate what is not started,
not wanted, or was running when the child died. It never talks to the child.
"""

from __future__ import annotations

from pipeline.executor.backlog import Bite
from pipeline.executor.batch import Batch, failure
from pipeline.words.errands import Done
from pipeline.words.parts import Note
from pipeline.words.ranges import RangeSet


class Plate:
    """The batches of one child."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._late: tuple[int, bytes] | None = None
        """The task that ran too long, with its record, until its child has ended."""

    def running(self) -> int:
        """The number of the task that runs, or would be next; -1 if there is none."""
        for batch in self.batches:
            at = batch.reached()
            if at < batch.count and batch.seconds is None:
                return batch.first + at
        return -1

    def take_back(self) -> list[Bite]:
        """Stop the child behind its present task; the records of all that it will not start."""
        # halt, then look: the child publishes a task before it looks at the halt for the next one
        for batch in self.batches:
            batch.arena.halt()
        rest, running = [], False
        for batch in self.batches:
            at = 0 if running else batch.reached() + 1
            running = running or at <= batch.count
            rest += batch.cut(at)
        return rest

    def unwant(self, ranges: RangeSet) -> bool:
        """Nobody wants to hear of these tasks; whether it had any of them."""
        for batch in self.batches:
            batch.unwanted.update(ranges.inside(batch.first, batch.first + batch.count))
        if self._late and self._late[0] in ranges:
            self._late = None
        return any(len(batch.unwanted) for batch in self.batches)

    def sentence(self, task: int) -> None:
        """This task, which runs, has run too long: whatever it still does, nobody hears of it but the verdict."""
        batch = next(batch for batch in self.batches if batch.first <= task < batch.first + batch.count)
        self._late = task, batch.record(task - batch.first)
        batch.unwanted.add(task, task + 1)

    def convict(self, status: int) -> list[Done]:
        """The child died of wait status `status`: the verdict on the task that it ran, if anybody wants it."""
        task = self.running()
        for batch in self.batches:
            if batch.seconds is None and batch.first <= task < batch.first + batch.count:
                return batch.convict(task - batch.first, status)
        return []

    def execute(self, note: Note, seconds: float) -> list[Done]:
        """The verdict on the task that was sentenced, if anybody wants it still."""
        return [failure(note, self._late[1], seconds)] if self._late and self._late[0] == note.task else []

    def clear(self) -> list[Bite]:
        """Take all off; the records of what was not told."""
        rest = [records for batch in self.batches for records in batch.cut(batch.told)]
        self.batches.clear()
        return rest
