"""The executor of callables: one warm child a slot, called with task after task.

It is an edge: chunks in, outcomes out. What happens in between is the bench's. It never imports the person's module,
never waits, and forks once: at its construction, which must come before any ZeroMQ context.
"""

from __future__ import annotations

from time import monotonic

from pipeline.executor import callee
from pipeline.executor.backlog import ChunkInfo
from pipeline.executor.bench import CallScheduler, task_ranges
from pipeline.executor.crew import WarmPool
from pipeline.executor.limits import TaskLimits
from pipeline.house.usage import ProcessTreeUsage
from pipeline.words.errands import CancelTasks, QueryActivity, ReleaseQueued, TasksReleased
from pipeline.words.messages import Chunk, WorkerActivity
from pipeline.words.parts import Ranges, RecordFormat
from pipeline.words.ranges import RangeSet
from pipeline.words.station import NEVER, Address, Message

MAX_REPORTED_TASKS = 256
"""Running tasks that are told to who looks on."""


class CallExecutor:
    """The edge. `call` and `init` are MODULE:FUNCTION or FILE.py:FUNCTION; `init` may be empty.

    Raises UsageError at once for what is written wrong; what can't be imported or called is a Broken, later.
    """

    def __init__(self, call: str, init: str, slots: int, limits: TaskLimits | None = None) -> None:
        callee.validate_name(call, "--call")
        if init:
            callee.validate_name(init, "--init")
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
