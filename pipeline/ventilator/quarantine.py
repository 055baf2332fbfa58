"""Suspects alone: one task at a time goes to a worker that has nothing else, and the guilty go to nobody.

A worker is drained for it: it gets nothing more until it has nothing left, then the suspect, and others only when that
has ended. So nobody else is lost with it, and only it can be convicted.
"""

from __future__ import annotations

from pipeline.ventilator.judged import LocalFailures
from pipeline.ventilator.lanes import LaneTable, WorkerLane
from pipeline.ventilator.stock import RecordRange, TaskStore, slice_records
from pipeline.ventilator.suspects import ISOLATION_LOSSES
from pipeline.words.ranges import RangeSet


class SuspectIsolation:
    """Who waits to be sent alone; `limit` workers lost with it alone convict a task."""

    def __init__(self, task_store: TaskStore, local_failures: LocalFailures, crash_limit: int) -> None:
        self._task_store, self._local_failures, self._crash_limit = task_store, local_failures, crash_limit

    def select_isolated(self, lanes: LaneTable, now: float) -> tuple[WorkerLane, RecordRange] | None:
        """The suspect that goes out now, and to whom."""
        suspects, stock = lanes.suspects, self._task_store
        drained = next((lane for lane in lanes if lane.isolation == "draining"), None)
        if not (len(suspects) or drained):
            return None
        self._fail_poisoned(suspects.poison_tasks(self._crash_limit))
        span = stock.next_requeued(lambda span: span.due <= now and suspects.loss_count(span.first) >= ISOLATION_LOSSES)
        if span is None:
            if drained:
                drained.isolation = ""
            return None
        if not len(lanes) or any(lane.isolation == "alone" and not lane.free_credit() for lane in lanes):
            return None
        lane = drained or min(lanes, key=lambda lane: len(lane.assigned_ranges))
        lane.isolation = "draining"
        if lane.assigned_ranges or not lane.allowance():
            return None
        lane.isolation = "alone"
        return lane, stock.take_requeued(span, 1)

    def _fail_poisoned(self, tasks: list[int]) -> None:
        """These are sent no more; the ventilator says their final records itself."""
        stock = self._task_store
        for task in tasks:
            span = stock.next_requeued(lambda span, task=task: span.first <= task < span.end)  # type: ignore[misc]
            if span is None:
                continue
            whole = stock.take_requeued(span, span.count)
            for part in slice_records(
                whole, RangeSet([(task, task + 1)]).gaps(whole.first, whole.end), stock.record_format
            ):
                stock.requeue(part)
            self._local_failures.fail_poisoned(
                slice_records(whole, [(task, task + 1)], stock.record_format)[0], self._crash_limit, stock.record_format
            )
