"""Executor adapter for callables: batching and scheduling over the pool.

How many tasks make a batch: about ten milliseconds of work, as far as has been measured.

Less would be eaten up by the exchange, more would let one slot end long after the others. It starts with a single
task, trusts a slow measurement at once and a fast one by halves, and never gives one slot more than its share while
little waits. It asks no clock.

The bench of the executor of callables: its slots at work, and what waits for them.

It cuts the backlog into batches of about ten milliseconds, so that the slots end together; what lies behind a task
that turns out long goes back to the backlog for others. A child that dies convicts the one task that it ran; a task
that runs too long takes its child along. It knows no words but what it says, and never waits.

The executor of callables: one warm child a slot, called with task after task.

It is an edge: chunks in, outcomes out. What happens in between is the bench's. It never imports the person's module,
never waits, and forks once: at its construction, which must come before any ZeroMQ context.
"""

from __future__ import annotations

import signal
from time import monotonic

from pipeline.executor import callable_loader
from pipeline.executor.limits import TaskLimits
from pipeline.executor.task_queue import ChunkInfo, TaskQueue, TaskSlice
from pipeline.executor.warm_pool import MAX_BATCHES, WarmPool, WarmSlot
from pipeline.model.events import CancelTasks, QueryActivity, ReleaseQueued, TasksFinished, TasksReleased
from pipeline.model.messages import Chunk, Ranges, RecordFormat, WorkerActivity
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.system.resources import ProcessTreeUsage

MAX_BATCH_TASKS = 16384
"""Tasks in a batch at most."""
MAX_GROWTH_FACTOR = 4
"""A batch has at most this many times the tasks of the largest before."""
TARGET_BATCH_SECONDS = 0.010
"""Seconds of work in a batch."""
MIN_BATCH_SECONDS = 0.005
"""Seconds of work worth an exchange, however little waits."""


class BatchSizer:
    """What batches have taught so far."""

    def __init__(self) -> None:
        self._seconds_per_task = 0.0
        self._max_tasks = 1

    def add_sample(self, task_count: int, seconds: float) -> None:
        """A batch of so many tasks has run for so long."""
        if task_count:
            each = max(seconds / task_count, 1e-8)
            self._seconds_per_task = max(each, (self._seconds_per_task + each) / 2)
            self._max_tasks = min(MAX_BATCH_TASKS, max(self._max_tasks, MAX_GROWTH_FACTOR * task_count))

    def batch_size(self, waiting_tasks: int, slots: int) -> int:
        """How many of `waiting` tasks one of `slots` slots should get now; at least 1."""
        share, each = -(-waiting_tasks // slots), self._seconds_per_task or TARGET_BATCH_SECONDS
        return max(1, min(self._max_tasks, int(TARGET_BATCH_SECONDS / each), max(share, int(MIN_BATCH_SECONDS / each))))

    @property
    def has_short_tasks(self) -> bool:
        """Whether tasks are known to be so short that a slot should not wait for its next batch."""
        return 0 < self._seconds_per_task < TARGET_BATCH_SECONDS


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


MAX_REPORTED_TASKS = 256
"""Running tasks that are told to who looks on."""


class CallExecutor:
    """The edge. `call` and `init` are MODULE:FUNCTION or FILE.py:FUNCTION; `init` may be empty.

    Raises UsageError at once for what is written wrong; what can't be imported or called is a Broken, later.
    """

    def __init__(self, call: str, init: str, slots: int, limits: TaskLimits | None = None) -> None:
        callable_loader.validate_name(call, "--call")
        if init:
            callable_loader.validate_name(init, "--init")
        limits = limits or TaskLimits()
        self._pool, self._has_reported_failure = WarmPool(call, init, slots, limits.max_output_bytes), False
        self._scheduler = CallScheduler(self._pool, limits)
        self._usage = ProcessTreeUsage()
        self.deadline = self._scheduler.deadline

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge serves one port
        """Take a Recipe, Chunk, Release or Cancel."""
        match message:
            case RecordFormat():
                self._scheduler.queue.record_format = message
            case Chunk():
                lot = ChunkInfo(message.attempt, message.run, monotonic())
                self._scheduler.queue.add(message.first, message.count, message.body, lot)
                self._scheduler.assign_batches(monotonic())
            case ReleaseQueued():
                self._release()
            case QueryActivity():
                doing = [each for slot in self._pool.slots for each in slot.list_running(monotonic())]
                self._scheduler.events.append(
                    WorkerActivity("", *self._usage.sample(), tuple(doing[:MAX_REPORTED_TASKS]))
                )
            case CancelTasks():
                self._cancel(message.ranges)
        self.deadline = self._scheduler.deadline

    def pollables(self) -> list[object]:
        """One epoll for the nursery and all children."""
        return [] if self._pool.is_closed else [self._pool.fileno()]

    def receive(self) -> list[Message]:
        """What has happened: Done, Returned, Broken."""
        if self._pool.is_closed:
            return []
        deaths, now = self._pool.poll(), monotonic()
        if deaths is not None or now >= self.deadline:
            self._scheduler.poll_slots(deaths or [], now)
            self.deadline = self._scheduler.deadline
        said = [*self._scheduler.events, *self._pool.take_loading_notice(now)]
        self._scheduler.events.clear()
        if self._pool.failure and not self._has_reported_failure:
            self._has_reported_failure = True
            return [*said, self._pool.failure]
        return said

    def close(self) -> None:
        """Kill all children and wait until they and the nursery are gone. Nothing of the backlog is told."""
        self._pool.close()
        self.deadline = NEVER

    def _release(self) -> None:
        """Give back what waits, and what running batches have not started."""
        gone = RangeSet(self._scheduler.queue.clear())
        for slot in self._pool.slots:
            for batch in slot.batches:
                batch.is_released = True
            gone.update(task_ranges(slot.in_flight.reclaim_unstarted()))
        self._scheduler.events.append(TasksReleased(gone.ranges()))

    def _cancel(self, ranges: Ranges) -> None:
        """Forget these tasks; a child that runs one is killed and replaced."""
        self._scheduler.queue.discard(ranges)
        unwanted, now = RangeSet(ranges), monotonic()
        for slot in self._pool.slots:
            if slot.in_flight.discard(unwanted):
                self._scheduler.report(slot.take_finished(now))
                self._scheduler.requeue(slot.in_flight.reclaim_unstarted())
                if slot.in_flight.running_task() in unwanted:
                    self._pool.stop_child(slot)
