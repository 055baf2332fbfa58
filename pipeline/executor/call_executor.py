"""Executor adapter for callables: batches of tasks for a pool of warm processes.

Theory of operation: waiting tasks are cut into batches of about ten milliseconds of work, so that the slots end
together. Tasks after one that turns out long are requeued for other slots. When a process dies, only its
running task fails; a task that exceeds its time limit ends with its process.

With `--halt`, a batch that may contain the outcome that ends the run closes the gate of all processes there. The gate
opens again when that outcome is counted and the run goes on.

Invariants:
  - each task is reported, released or cancelled once;
  - the user's module is never imported in this process;
  - nothing waits, except `close`; the only fork is in the constructor, before any ZeroMQ context exists.
"""

from __future__ import annotations

import signal
from time import monotonic

from pipeline.executor import callable_loader
from pipeline.executor.limits import TaskLimits
from pipeline.executor.outcomes import OutcomeBuffer
from pipeline.executor.task_queue import ChunkInfo, TaskQueue, TaskSlice
from pipeline.executor.warm_pool import MAX_BATCHES, WarmPool, WarmSlot
from pipeline.model.events import CancelTasks, HaltLimit, QueryActivity, ReleaseQueued, TasksFinished, TasksReleased
from pipeline.model.messages import Chunk, Ranges, RecordFormat, WorkerActivity
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.system.resources import ProcessTreeUsage

MAX_BATCH_BYTES = 512 << 10  # of records; a larger record is a batch alone
MAX_BATCH_TASKS = 16384
MAX_GROWTH_FACTOR = 4  # tasks of a batch in relation to the largest before
TARGET_BATCH_SECONDS = 0.010  # less work would not be worth the exchange, more would make slots end at different times
MIN_BATCH_SECONDS = 0.005  # worth an exchange even when few tasks wait
MAX_REPORTED_TASKS = 256  # in a status report


class CallExecutor:
    """Calls `call` for each task, after `init` in each process. Both are MODULE:FUNCTION or FILE.py:FUNCTION.

    Raises UsageError for a malformed name; a callable that cannot be loaded is reported as ExecutorFailed.
    """

    def __init__(self, call: str, init: str, slots: int, limits: TaskLimits | None = None) -> None:
        callable_loader.validate_name(call, "--call")
        if init:
            callable_loader.validate_name(init, "--init")
        self._limits = limits or TaskLimits()
        self._pool = WarmPool(call, init, slots, self._limits.max_output_bytes)
        self._queue, self._batch_sizer = TaskQueue(), BatchSizer()
        self._outcomes = OutcomeBuffer()
        self._replies: list[Message] = []
        self._usage = ProcessTreeUsage()
        self._has_reported_failure = False
        self._halt_limit: float = NEVER
        self.deadline = self._pool.deadline

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an adapter has one port
        """Handle a message of the worker."""
        match message:
            case RecordFormat():
                self._queue.record_format = self._outcomes.record_format = message
                self._halt_limit = 1 if message.halt_event else NEVER
            case HaltLimit():
                # assign nothing yet: the reports that follow may lower it
                self._halt_limit, self.deadline = message.event_count, 0.0
            case Chunk():
                info = ChunkInfo(message.attempt, message.run, monotonic())
                self._queue.add(message.first, message.count, message.body, info)
                self._assign_batches(monotonic())
            case ReleaseQueued():
                self._release()
            case QueryActivity():
                running = [task for slot in self._pool.slots for task in slot.list_running(monotonic())]
                usage = self._usage.sample()
                self._replies.append(WorkerActivity("", *usage, tuple(running[:MAX_REPORTED_TASKS])))
            case CancelTasks():
                self._cancel(message.ranges)

    def pollables(self) -> list[object]:
        """Return the epoll of the fork server and all processes."""
        return [] if self._pool.is_closed else [self._pool.fileno()]

    def receive(self) -> list[Message]:
        """Poll the processes and return what is to be reported."""
        if self._pool.is_closed:
            return []
        deaths, now = self._pool.poll(), monotonic()
        if deaths is not None or now >= self.deadline:
            self._poll_slots(deaths or [], now)
        unknown_events = self._outcomes.event_count
        # a reply or a failure comes after all that has ended
        can_wait = not self._replies and not self._pool.failure
        reports = self._outcomes.take_due(now, self._queue.task_count if can_wait else 0)
        messages, self._replies = [*reports, *self._replies, *self._pool.take_loading_notice(now)], []
        if self._pool.failure and not self._has_reported_failure:
            self._has_reported_failure = True
            messages.append(self._pool.failure)
        self.deadline = min(self.deadline, self._outcomes.due_at)
        if unknown_events:
            self.deadline = 0.0  # the worker counts them, and may then allow more tasks
        return messages

    def close(self) -> None:
        """Kill all processes and wait for their end. Queued tasks are not reported."""
        self._pool.close()
        self.deadline = NEVER

    def _release(self) -> None:
        """Report finished tasks; give back queued ones, and what the running batches have not started."""
        released = RangeSet(self._queue.clear())
        for slot in self._pool.slots:
            self._report(slot.take_finished(monotonic()))
            for batch in slot.batches:
                batch.is_released = True
            released.update(task_ranges(slot.reclaim_unstarted()))
        self._replies.append(TasksReleased(released.ranges()))

    def _cancel(self, ranges: Ranges) -> None:
        """Remove these tasks; kill the processes that run any of them."""
        self._queue.discard(ranges)
        self._outcomes.discard(ranges)
        cancelled, now = RangeSet(ranges), monotonic()
        for slot in self._pool.slots:
            if slot.discard(cancelled):
                self._report(slot.take_finished(now))
                self._requeue(slot.reclaim_unstarted())
                if slot.running_task() in cancelled:
                    self._pool.stop_child(slot)

    def _poll_slots(self, deaths: list[tuple[WarmSlot, int]], now: float) -> None:
        for slot in self._pool.slots:
            self._collect(slot, now)
            self._enforce_timeout(slot, now)
        for slot, wait_status in deaths:
            self._on_child_death(slot, wait_status, now)
        self._assign_batches(now)

    def _assign_batches(self, now: float) -> None:
        """Give a batch to each slot that has none, then a second one while tasks are short."""
        slots = [] if self._pool.failure else self._pool.slots
        if self._halt_limit < NEVER:
            self._update_gate()
        depths = range(1, MAX_BATCHES + 1 if self._batch_sizer.has_short_tasks else 2)
        for depth, slot in ((depth, slot) for depth in depths for slot in slots):
            if self._queue.task_count and slot.can_accept(depth):
                batch_size = self._batch_sizer.batch_size(self._queue.task_count, len(slots))
                batch_size, closes_gate = self._limit_batch(slot, batch_size)
                records = self._queue.take(batch_size, MAX_BATCH_BYTES) if batch_size else None
                record_format = self._queue.record_format
                if records and not slot.send_batch(records, record_format, now, closes_gate=closes_gate):
                    self._requeue([records])
        checks = [slot.batches[0].check_at for slot in slots if slot.batches]
        if self._limits.has_timeout:
            checks += [slot.timeout_watch.deadline(self._limits, now) for slot in slots]
        self.deadline = min(self._pool.deadline, *checks, NEVER)

    def _update_gate(self) -> None:
        """Close the gate while the run may have ended; open it for slots whose outcomes are counted."""
        self._pool.halt_gate.set(0, is_closed=self._outcomes.event_count >= self._halt_limit)
        for slot in self._pool.slots:
            if not slot.batches:
                self._pool.halt_gate.set(slot.number + 1, is_closed=False)

    def _limit_batch(self, slot: WarmSlot, size: int) -> tuple[int, bool]:
        """Return the size of the slot's next batch, and whether an outcome in it has to close the gate."""
        if self._halt_limit == NEVER:
            return size, False
        if self._pool.halt_gate.is_closed or any(batch.closes_gate for batch in slot.batches):
            return 0, False
        batches = [batch for each in self._pool.slots for batch in each.batches]
        unknown_count = sum(batch.count - batch.reported_count for batch in batches if not batch.closes_gate)
        events_left = int(self._halt_limit) - self._outcomes.event_count - unknown_count
        harmless = events_left - sum(batch.closes_gate for batch in batches) - 1  # cannot end the run, whatever they do
        is_rare = self._queue.record_format.halt_event == "fail"  # then a large batch is worth its early end
        if size <= harmless or (harmless > 0 and not is_rare):
            return min(size, harmless), False
        return (0, False) if slot.batches or events_left <= 0 else (size if is_rare else 1, True)

    def _collect(self, slot: WarmSlot, now: float) -> None:
        """Settle the batches that the process has finished; check one that takes long."""
        while slot.batches and slot.batches[0].seconds is not None:
            self._on_batch_finished(slot, now)
        if slot.batches and now >= slot.batches[0].check_at:
            reports, rest = slot.check_progress(now)
            self._report(reports)
            self._requeue(rest)

    def _enforce_timeout(self, slot: WarmSlot, now: float) -> None:
        """Ask the process to end if its task runs too long; kill it after the grace period, or when it is idle."""
        watch, limits = slot.timeout_watch, self._limits
        if not limits.has_timeout or (slot.is_stopping and not watch.stopped_at):
            return
        signum = watch.due_signal(slot.running_task(), limits, now)
        if signum == signal.SIGTERM:
            self._requeue(slot.reclaim_unstarted())
            self._report(slot.take_finished(now))
            if slot.running_task() != watch.task:
                return  # it has just ended
            slot.mark_timed_out(limits, now)
        if signum:
            self._pool.stop_child(slot, signum)

    def _on_batch_finished(self, slot: WarmSlot, now: float) -> None:
        """Settle the first batch, which the process has finished or left early."""
        batch = slot.batches[0]
        self._report(slot.take_finished(now))
        self._batch_sizer.add_sample(batch.reported_count, batch.seconds or 0.0)
        rest = slot.finish_batch(now)
        if not batch.is_released:
            self._requeue(rest)
        elif rest:
            self._replies.append(TasksReleased(task_ranges(rest)))

    def _on_child_death(self, slot: WarmSlot, wait_status: int, now: float) -> None:
        """Settle the batches of a dead process and replace it."""
        slot.read_messages()
        self._collect(slot, now)
        self._report(slot.take_finished(now))
        failures, rest = slot.on_death(wait_status)
        for failure in failures:
            self._outcomes.add_report(failure)
        self._requeue(rest)
        self._pool.replace_child(slot, wait_status)

    def _report(self, reports: list[TasksFinished]) -> None:
        """Report tasks that ended by themselves; their run times are samples for the limits."""
        for report in reports:
            count = report.result.count
            self._limits.add_sample(report.seconds / count, count - len(report.result.failures))
            self._outcomes.add_report(report)

    def _requeue(self, slices: list[TaskSlice]) -> None:
        """Put tasks that were not started to the front of the queue."""
        for tasks in reversed(slices):
            self._queue.requeue(tasks)


def task_ranges(slices: list[TaskSlice]) -> Ranges:
    return tuple((tasks.first, tasks.first + tasks.count) for tasks in slices)


class BatchSizer:
    """Number of tasks in a batch, estimated from finished batches.

    It starts with a single task, trusts a slow sample at once and a fast one by half, and gives one slot no more than
    its share when few tasks wait. It reads no clock.
    """

    def __init__(self) -> None:
        self._seconds_per_task = 0.0
        self._max_tasks = 1

    def add_sample(self, task_count: int, seconds: float) -> None:
        """Record the run time of a batch."""
        if task_count:
            sample = max(seconds / task_count, 1e-8)
            self._seconds_per_task = max(sample, (self._seconds_per_task + sample) / 2)
            self._max_tasks = min(MAX_BATCH_TASKS, max(self._max_tasks, MAX_GROWTH_FACTOR * task_count))

    def batch_size(self, waiting_tasks: int, slots: int) -> int:
        """Return how many of the waiting tasks one of the slots should get now; at least 1."""
        share, seconds = -(-waiting_tasks // slots), self._seconds_per_task or TARGET_BATCH_SECONDS
        useful_share = max(share, int(MIN_BATCH_SECONDS / seconds))
        return max(1, min(self._max_tasks, int(TARGET_BATCH_SECONDS / seconds), useful_share))

    @property
    def has_short_tasks(self) -> bool:
        """Whether tasks are so short that a slot should not wait for its next batch."""
        return 0 < self._seconds_per_task < TARGET_BATCH_SECONDS
