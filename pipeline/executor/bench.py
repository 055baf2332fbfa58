"""The bench of the executor of callables: its slots at work, and what waits for them.

It cuts the backlog into batches of about ten milliseconds, so that the slots end together; what lies behind a task
that turns out long goes back to the backlog for others. A child that dies convicts the one task that it ran; a task
that runs too long takes its child along. It knows no words but what it says, and never waits.
"""

from __future__ import annotations

import signal

from pipeline.executor.backlog import TaskQueue, TaskSlice
from pipeline.executor.callslot import MAX_BATCHES, WarmSlot
from pipeline.executor.crew import WarmPool
from pipeline.executor.limits import TaskLimits
from pipeline.executor.pace import BatchSizer
from pipeline.words.errands import TasksFinished, TasksReleased
from pipeline.words.parts import Ranges
from pipeline.words.station import NEVER, Message

MAX_BATCH_BYTES = 512 << 10
"""Bytes of records in a batch at most; a larger record travels alone."""


class CallScheduler:
    """The crew at work. `said` is what has happened and was not told yet; `deadline` is when to go round again."""

    def __init__(self, pool: WarmPool, limits: TaskLimits) -> None:
        self.queue = TaskQueue()
        self.events: list[Message] = []
        self.deadline = pool.deadline
        self._pool, self._limits, self._batch_sizer = pool, limits, BatchSizer()

    def poll_slots(self, deaths: list[tuple[WarmSlot, int]], now: float) -> None:
        """See to each slot, and to those whose children have died, with the wait status."""
        for slot in self._pool.slots:
            self._collect(slot, now)
            self._enforce_timeout(slot, now)
        for slot, status in deaths:
            self._on_child_death(slot, status, now)
        self.assign_batches(now)

    def assign_batches(self, now: float) -> None:
        """Give each slot a batch that has none, then one more while tasks are short."""
        slots = [] if self._pool.failure else self._pool.slots
        depths = range(1, MAX_BATCHES + 1 if self._batch_sizer.has_short_tasks else 2)
        for depth, slot in ((depth, slot) for depth in depths for slot in slots):
            if self.queue.task_count and slot.can_accept(depth):
                records = self.queue.take(
                    self._batch_sizer.batch_size(self.queue.task_count, len(slots)), MAX_BATCH_BYTES
                )
                if records and not slot.send_batch(records, self.queue.record_format, now):
                    self.requeue([records])
        looks = [slot.batches[0].check_at for slot in slots if slot.batches]
        watches = [slot.timeout_watch.deadline(self._limits, now) for slot in slots] if self._limits.has_timeout else []
        self.deadline = min(self._pool.deadline, *looks, *watches, NEVER)

    def report(self, finished_tasks: list[TasksFinished]) -> None:
        """Say what has ended by itself, and learn from it."""
        for done in finished_tasks:
            self._limits.add_sample(done.seconds / done.result.count, done.result.count - len(done.result.failures))
        self.events += finished_tasks

    def requeue(self, slices: list[TaskSlice]) -> None:
        """These were not started; they are next."""
        for bite in reversed(slices):
            self.queue.requeue(bite)

    def _collect(self, slot: WarmSlot, now: float) -> None:
        """Take what the slot's child is through with, and look at what takes long."""
        while slot.batches and slot.batches[0].seconds is not None:
            self._on_batch_finished(slot, now)
        if slot.batches and now >= slot.batches[0].check_at:
            dones, rest = slot.check_progress(now)
            self.report(dones)
            self.requeue(rest)

    def _enforce_timeout(self, slot: WarmSlot, now: float) -> None:
        """End the slot's child if its task runs too long: ask first; kill it after the grace, or when it is idle."""
        watch, limits = slot.timeout_watch, self._limits
        if not limits.has_timeout or (slot.is_stopping and not watch.stopped_at):
            return
        signum = watch.due_signal(slot.in_flight.running_task(), limits, now)
        if signum == signal.SIGTERM:
            self.requeue(slot.in_flight.reclaim_unstarted())
            self.report(slot.take_finished(now))
            if slot.in_flight.running_task() != watch.task:
                return  # it has just ended
            watch.mark_stopped(limits, now)
            slot.in_flight.mark_timed_out(watch.task)
        if signum:
            self._pool.stop_child(slot, signum)

    def _on_batch_finished(self, slot: WarmSlot, now: float) -> None:
        """The child is through with its first batch, or was halted."""
        batch = slot.batches[0]
        self.report(slot.take_finished(now))
        self._batch_sizer.add_sample(batch.reported_count, batch.seconds or 0.0)
        rest = slot.finish_batch(now)
        if not batch.is_released:
            self.requeue(rest)
        elif rest:
            self.events.append(TasksReleased(task_ranges(rest)))

    def _on_child_death(self, slot: WarmSlot, wait_status: int, now: float) -> None:
        """A child is dead: settle its batches, and put another in its place."""
        slot.read_messages()
        self._collect(slot, now)
        self.report(slot.take_finished(now))
        verdicts, rest = slot.on_death(wait_status)
        self.events += verdicts
        self.requeue(rest)
        self._pool.replace_child(slot, wait_status)


def task_ranges(slices: list[TaskSlice]) -> Ranges:
    """The numbers of these records."""
    return tuple((records.first, records.first + records.count) for records in slices)
