"""What is on the plate of one warm child: its batches, the running one first.

It finds the task that runs through the arenas, without the child's help, and takes off the plate what is not started,
not wanted, or was running when the child died. It never talks to the child.
"""

from __future__ import annotations

from pipeline.executor.backlog import TaskSlice
from pipeline.executor.batch import Batch, failed_result
from pipeline.words.errands import TasksFinished
from pipeline.words.parts import TaskFailure
from pipeline.words.ranges import RangeSet


class InFlightBatches:
    """The batches of one child."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self._timed_out: tuple[int, bytes] | None = None
        """The task that ran too long, with its record, until its child has ended."""

    def running_task(self) -> int:
        """The number of the task that runs, or would be next; -1 if there is none."""
        for batch in self.batches:
            at = batch.finished_count()
            if at < batch.count and batch.seconds is None:
                return batch.first + at
        return -1

    def reclaim_unstarted(self) -> list[TaskSlice]:
        """Stop the child behind its present task; the records of all that it will not start."""
        # halt, then look: the child publishes a task before it looks at the halt for the next one
        for batch in self.batches:
            batch.shared_batch.stop_after_current()
        rest, running = [], False
        for batch in self.batches:
            at = 0 if running else batch.finished_count() + 1
            running = running or at <= batch.count
            rest += batch.split_off(at)
        return rest

    def discard(self, ranges: RangeSet) -> bool:
        """Nobody wants to hear of these tasks; whether it had any of them."""
        for batch in self.batches:
            batch.discarded.update(ranges.intersection(batch.first, batch.first + batch.count))
        if self._timed_out and self._timed_out[0] in ranges:
            self._timed_out = None
        return any(len(batch.discarded) for batch in self.batches)

    def mark_timed_out(self, task: int) -> None:
        """This task, which runs, has run too long: whatever it still does, nobody hears of it but the verdict."""
        batch = next(batch for batch in self.batches if batch.first <= task < batch.first + batch.count)
        self._timed_out = task, batch.record(task - batch.first)
        batch.discarded.add(task, task + 1)

    def fail_running(self, wait_status: int) -> list[TasksFinished]:
        """The child died of wait status `status`: the verdict on the task that it ran, if anybody wants it."""
        task = self.running_task()
        for batch in self.batches:
            if batch.seconds is None and batch.first <= task < batch.first + batch.count:
                return batch.fail_task(task - batch.first, wait_status)
        return []

    def timeout_result(self, task_failure: TaskFailure, seconds: float) -> list[TasksFinished]:
        """The verdict on the task that was sentenced, if anybody wants it still."""
        return (
            [failed_result(task_failure, self._timed_out[1], seconds)]
            if self._timed_out and self._timed_out[0] == task_failure.task
            else []
        )

    def clear(self) -> list[TaskSlice]:
        """Take all off; the records of what was not told."""
        rest = [records for batch in self.batches for records in batch.split_off(batch.reported_count)]
        self.batches.clear()
        return rest
