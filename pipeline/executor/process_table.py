"""Running task processes of one executor: epoll, output, exit, timeouts.

The children of an executor that run too long: they are asked to end, and killed when their grace is over.

A stopped child is over when nothing of its session is left, so that what it started has its grace, too. Nothing here
waits; whoever polls asks again.

The processes of one executor: those that run, and those that have ended but are not over.

Each added child comes back once as an outcome, unless it is dropped; each is reaped, and only these are. A short task
wakes us once, at its end: what it writes waits in its pipes until then. Nothing here waits, except `close` for those
that it has killed.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import islice

from pipeline.executor import task_process
from pipeline.executor.limits import TaskLimits
from pipeline.executor.outcomes import TaskOutcome
from pipeline.executor.task_process import READ_BYTES, TaskProcess, kill_processes
from pipeline.model.messages import PartialOutput, Ranges, RunningTask
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import NEVER
from pipeline.system.processes import reap_orphans

SESSION_CHECK_SECONDS = 0.05
"""Seconds between two looks at what is left of a stopped child that has ended itself."""


class TimeoutEnforcer:
    """Keeps to these limits. Times are as the caller's."""

    def __init__(self, limits: TaskLimits) -> None:
        self._limits = limits

    def enforce(self, processes: list[TaskProcess], now: float) -> None:
        """Stop those that have run too long, kill those that were stopped for long enough."""
        limits = self._limits
        for child in processes:
            if not child.stopped_at and not child.ended_at and now >= child.started_at + limits.timeout_seconds:
                child.terminate(now, limits.timeout_seconds)
        if unwilling := [
            child
            for child in processes
            if child.stopped_at and not child.is_killed and now >= child.stopped_at + limits.grace_seconds
        ]:
            kill_processes(unwilling)

    def is_in_grace(self, process: TaskProcess, now: float) -> bool:
        """Whether something of an ended child is left that was asked to end, and has time to."""
        if not process.stopped_at or process.is_killed:
            return False
        if now >= process.check_at:
            process.check_at = now + SESSION_CHECK_SECONDS if task_process.list_alive_pids([process.pid]) else 0.0
        return now < process.check_at

    def deadline(self, processes: Iterable[TaskProcess]) -> float:
        """When to check again those that have not ended, oldest first."""
        limits = self._limits
        due = NEVER
        for child in processes if limits.has_timeout else ():
            if not child.stopped_at:
                return min(due, child.started_at + limits.timeout_seconds)
            if not child.is_killed:
                due = min(due, child.stopped_at + limits.grace_seconds)
        return due


READ_DELAY_SECONDS = 0.003
"""Seconds for which only the end of a process wakes us; after that, what it writes does, too. None, when the task
before it wrote more than a pipe holds: it would only be kept waiting."""
MAX_REPORTED_TASKS = 256
"""Running tasks that are told to who looks on."""
PIPE_LINGER_SECONDS = 0.1
"""Seconds that the pipes of an ended process may stay open."""


class ProcessTable:
    """The processes of an executor, in slots numbered from 1. Times are those of time.monotonic()."""

    def __init__(self, slots: int, limits: TaskLimits) -> None:
        self._limits, self._timeout_enforcer = limits, TimeoutEnforcer(limits)
        self._free_slots = list(range(1, slots + 1))
        self._pids: set[int] = set()
        self._exit_poll, self._output_reader = select.epoll(), OutputReader()
        self._running: dict[int, TaskProcess] = {}
        self._ended: list[TaskProcess] = []

    @property
    def running_count(self) -> int:
        """How many have not ended."""
        return len(self._running)

    @property
    def free_slot(self) -> int:
        """The lowest slot that is free, which the next child takes; 0 if there is none."""
        return self._free_slots[0] if self._free_slots else 0

    @property
    def deadline(self) -> float:
        """When to listen even if nothing is ready."""
        late = self._timeout_enforcer.deadline(self._running.values())
        # one that was stopped is looked at again and again; the others are over soon
        ended = [max(child.ended_at + PIPE_LINGER_SECONDS, child.check_at) for child in self._ended]
        return min(self._output_reader.deadline, late, *ended)

    def pollables(self) -> list[object]:
        """Two file descriptors: one is ready when any process has ended, the other when there is something to read."""
        return [self._exit_poll.fileno(), self._output_reader.poll.fileno()]

    def add(self, process: TaskProcess) -> None:
        """One more runs, from now on, in the lowest free slot."""
        heappop(self._free_slots)
        process.started_at, process.max_output_bytes = time.monotonic(), self._limits.max_output_bytes
        self._pids.add(process.pid)
        self._exit_poll.register(process.pidfd, select.EPOLLIN)
        self._running[process.pidfd] = process
        self._output_reader.add(process)

    def collect_exits(self, now: float) -> None:
        """See who has ended. Follow it with `listen`."""
        for fd, _ in self._exit_poll.poll(0) if self._running else ():
            child = self._running.pop(fd)
            self._exit_poll.unregister(fd)
            child.close_fd(fd)
            child.ended_at = now
            heappush(self._free_slots, child.assignment.slot)
            self._ended.append(child)

    def read_output(self, now: float) -> list[TaskOutcome]:
        """Read what can be read; the outcomes of those that are over, or have lingered long enough."""
        self._output_reader.read(now)
        self._timeout_enforcer.enforce([*self._running.values(), *self._ended] if self._limits.has_timeout else [], now)
        outcomes: list[TaskOutcome] = []
        left: list[TaskProcess] = []
        for child in self._ended:
            if (
                not child.is_finished and now < child.ended_at + PIPE_LINGER_SECONDS
            ) or self._timeout_enforcer.is_in_grace(child, now):
                left.append(child)
            elif (outcome := self._reap(child)) is not None:
                outcomes.append(outcome)
        if len(left) < len(self._ended):
            reap_orphans(self._pids)
        self._ended = left
        return outcomes

    def take_lines(self) -> list[PartialOutput]:
        """Whole lines that have come out of those that run and whose lines are wanted. Follows `listen`."""
        return self._output_reader.take_lines()

    def list_running(self, now: float) -> tuple[RunningTask, ...]:
        """What runs, for a person who looks on."""
        return tuple(child.describe_running(now) for child in islice(self._running.values(), MAX_REPORTED_TASKS))

    def discard(self, ranges: Ranges) -> None:
        """Kill those that run these tasks; nobody wants their outcomes, and only their ends are waited for."""
        gone = RangeSet(ranges)
        dropped = [child for child in (*self._running.values(), *self._ended) if child.task in gone]
        kill_processes(dropped)
        for child in dropped:
            child.is_discarded = True
            self._output_reader.remove(child)

    def close(self) -> None:
        """Kill all, reap them, and let go of everything. May be called twice."""
        children = [*self._running.values(), *self._ended]
        kill_processes(children)
        for child in children:
            self._reap(child)
            if child.pidfd in self._running:
                child.close_fd(child.pidfd)
        self._running.clear()
        self._ended.clear()
        self._exit_poll.close()
        self._output_reader.close()

    def _reap(self, process: TaskProcess) -> TaskOutcome | None:
        """Reap a child; what its pipes still hold is not its own. None if it was dropped."""
        self._output_reader.remove(process)
        outcome = process.reap()
        self._pids.discard(process.pid)
        if process.is_discarded:
            return None
        self._output_reader.adjust_delay(len(outcome.output))
        if outcome.failure is None:
            self._limits.add_sample(outcome.seconds)
        return outcome


class OutputReader:
    """What the children write, as it comes: of the young only when they have ended."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self._by_fd: dict[int, TaskProcess] = {}
        self._delayed: list[TaskProcess] = []
        self._with_new_lines: list[TaskProcess] = []
        """Those whose lines are wanted and that have just written something."""
        self._read_delay = READ_DELAY_SECONDS

    @property
    def deadline(self) -> float:
        """When the oldest of the young is young no more."""
        return self._delayed[0].started_at + self._read_delay if self._delayed else NEVER

    def add(self, process: TaskProcess) -> None:
        """One more, which is young, unless its lines are wanted as they come."""
        if process.line_buffer:
            self._register(process)
        else:
            self._delayed.append(process)

    def adjust_delay(self, output_bytes: int) -> None:
        """A child has written so many bytes."""
        self._read_delay = READ_DELAY_SECONDS if output_bytes < READ_BYTES else 0.0

    def read(self, now: float) -> None:
        """Read what can be read."""
        old = [child for child in self._delayed if child.ended_at or now >= child.started_at + self._read_delay]
        for child in old:
            self._delayed.remove(child)
            self._register(child)
        for fd, events in self.poll.poll(0) if self._by_fd else ():
            child = self._by_fd[fd]
            if (
                child.line_buffer and fd == child.stdout_fd and not child.ended_at
            ):  # who has ended is told of at once, whole
                self._with_new_lines.append(child)
            if child.read(fd, is_last=bool(events & select.EPOLLHUP)):
                self._unregister(fd, child)

    def take_lines(self) -> list[PartialOutput]:
        """Whole lines of those that have just been read."""
        live, self._with_new_lines = self._with_new_lines, []
        return [said for child in live if child.line_buffer for said in child.line_buffer.take_lines()]

    def remove(self, process: TaskProcess) -> None:
        """Hear it no more."""
        for fd in process.open_pipes():
            self._unregister(fd, process)

    def close(self) -> None:
        """Let go of everything."""
        self._delayed.clear()
        self.poll.close()

    def _register(self, process: TaskProcess) -> None:
        for fd in process.open_pipes():
            self.poll.register(fd, select.EPOLLIN)
            self._by_fd[fd] = process

    def _unregister(self, fd: int, process: TaskProcess) -> None:
        """Close a pipe.

        To close it is not enough: a process that is just being spawned holds it too until its exec is through, and
        epoll would go on reporting it, under a number that may be another's by then.
        """
        if self._by_fd.pop(fd, None) is not None:
            self.poll.unregister(fd)
        process.close_fd(fd)
