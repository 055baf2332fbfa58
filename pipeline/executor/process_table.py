"""Processes of one executor: running, and ended but not settled yet.

Theory of operation: two epolls, one for ends and one for output. A short task wakes the executor once, at its end;
its output waits in the pipes until then. A task that exceeds its time limit gets SIGTERM, and SIGKILL after its grace
period; it is over only when no process of its session is left, so that what it started has the grace period, too.

Invariants:
  - each process added is returned once as an outcome, unless it is discarded;
  - each is reaped, and no other process is, except orphans of ended tasks;
  - nothing waits, except `close` for the processes that it has killed.
"""

from __future__ import annotations

import select
import time
from heapq import heappop, heappush
from itertools import islice

from pipeline.executor.background import BackgroundProcesses
from pipeline.executor.limits import TaskLimits
from pipeline.executor.outcomes import TaskOutcome
from pipeline.executor.task_process import READ_BYTES, TaskProcess, kill_processes, list_alive_pids
from pipeline.model.events import BackgroundEnded
from pipeline.model.messages import PartialOutput, Ranges, RunningTask
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import NEVER
from pipeline.system.processes import reap_orphans

READ_DELAY_SECONDS = 0.003
"""Age below which only the end of a process wakes the executor. It is 0 while tasks write more than a pipe holds:
waiting would only block them."""
PIPE_LINGER_SECONDS = 0.1  # for which the pipes of an ended process may stay open
SESSION_CHECK_SECONDS = 0.05  # between two checks of what is left of a stopped task that has ended itself
MAX_REPORTED_TASKS = 256  # in a status report


class ProcessTable:
    """The processes of an executor, in slots numbered from 1. Times are those of time.monotonic()."""

    def __init__(self, slots: int, limits: TaskLimits) -> None:
        self._limits, self._background = limits, BackgroundProcesses()
        self._free_slots = list(range(1, slots + 1))
        self._pids: set[int] = set()
        self._exit_poll, self._output_reader = select.epoll(), OutputReader()
        self._running: dict[int, TaskProcess] = {}  # by pidfd, oldest first
        self._ended: list[TaskProcess] = []

    @property
    def running_count(self) -> int:
        return len(self._running)

    @property
    def ended_count(self) -> int:
        """Number of processes that have ended and whose outcome is not known yet."""
        return len(self._ended)

    @property
    def free_slot(self) -> int:
        """The lowest free slot, which the next process gets; 0 if there is none."""
        return self._free_slots[0] if self._free_slots else 0

    @property
    def deadline(self) -> float:
        """When to call `read_output` even if nothing is ready."""
        # a stopped process is checked repeatedly; the others are over soon
        ended = [max(process.ended_at + PIPE_LINGER_SECONDS, process.check_at) for process in self._ended]
        return min(self._output_reader.deadline, self._timeout_deadline(), *ended)

    def pollables(self) -> list[object]:
        """Return two file descriptors: one is ready when a process has ended, the other when output can be read."""
        return [self._exit_poll.fileno(), self._output_reader.poll.fileno()]

    def add(self, process: TaskProcess) -> None:
        """Add a process that starts now in the lowest free slot."""
        heappop(self._free_slots)
        process.started_at, process.max_output_bytes = time.monotonic(), self._limits.max_output_bytes
        self._pids.add(process.pid)
        self._exit_poll.register(process.pidfd, select.EPOLLIN)
        self._running[process.pidfd] = process
        self._output_reader.add(process)

    def collect_exits(self, now: float) -> None:
        """Free the slots of processes that have ended. Call `read_output` afterwards."""
        for fd, _ in self._exit_poll.poll(0) if self._running else ():
            process = self._running.pop(fd)
            self._exit_poll.unregister(fd)
            process.close_fd(fd)
            process.ended_at = now
            heappush(self._free_slots, process.assignment.slot)
            self._ended.append(process)

    def read_output(self, now: float) -> list[TaskOutcome]:
        """Read what can be read; return the outcomes of tasks that are over."""
        self._output_reader.read(now)
        if self._limits.has_timeout:
            self._enforce_timeouts(now)
        outcomes: list[TaskOutcome] = []
        unsettled: list[TaskProcess] = []
        for process in self._ended:
            may_write = not process.is_finished and now < process.ended_at + PIPE_LINGER_SECONDS
            if may_write or _is_in_grace(process, now):
                unsettled.append(process)
            elif (outcome := self._reap(process)) is not None:
                outcomes.append(outcome)
        if len(unsettled) < len(self._ended):
            reap_orphans(self._pids)
        self._ended = unsettled
        return outcomes

    def take_lines(self) -> list[PartialOutput]:
        """Return new whole lines of running tasks whose output is streamed. Call it after `read_output`."""
        return self._output_reader.take_lines()

    def list_running(self, now: float) -> tuple[RunningTask, ...]:
        """Return the running tasks for status displays."""
        return tuple(process.describe_running(now) for process in islice(self._running.values(), MAX_REPORTED_TASKS))

    def discard(self, ranges: Ranges) -> None:
        """Kill the processes of these tasks; their outcomes are not reported."""
        tasks = RangeSet(ranges)
        discarded = [process for process in (*self._running.values(), *self._ended) if process.task in tasks]
        kill_processes(discarded)
        for process in discarded:
            process.is_discarded = True
            self._output_reader.remove(process)

    def end_background(self, *, keep: bool) -> BackgroundEnded | None:
        """At the end of the run, kill all processes, and what ended tasks have left; return the number of the latter.

        Only for a process whose children are all from here.
        """
        processes = [*self._running.values(), *self._ended]
        kill_processes(processes)
        for process in processes:
            self._background.on_task_end(process.task, process.pid, is_killed=True, has_failed=True)
        return self._background.end(self._pids, keep=keep)

    def close(self) -> None:
        """Kill and reap all processes. May be called twice."""
        processes = [*self._running.values(), *self._ended]
        kill_processes(processes)
        for process in processes:
            self._reap(process)
            if process.pidfd in self._running:
                process.close_fd(process.pidfd)
        self._running.clear()
        self._ended.clear()
        self._exit_poll.close()
        self._output_reader.close()

    def _reap(self, process: TaskProcess) -> TaskOutcome | None:
        """Reap a process and return its outcome, or None if it was discarded."""
        self._output_reader.remove(process)  # the rest in the pipes was written by background processes
        outcome = process.reap()
        self._pids.discard(process.pid)
        has_failed = process.is_discarded or outcome.failure is not None
        self._background.on_task_end(process.task, process.pid, is_killed=process.is_killed, has_failed=has_failed)
        if process.is_discarded:
            return None
        self._output_reader.adjust_delay(sum(outcome.large_sizes) or len(outcome.output))
        if outcome.failure is None:
            self._limits.add_sample(outcome.seconds)
        return outcome

    def _enforce_timeouts(self, now: float) -> None:
        """Ask tasks that have run too long to end; kill those whose grace period is over."""
        limits, processes = self._limits, [*self._running.values(), *self._ended]
        for process in processes:
            if not process.stopped_at and not process.ended_at and now >= process.started_at + limits.timeout_seconds:
                process.terminate(now, limits.timeout_seconds)
        stopped = [process for process in processes if process.stopped_at and not process.is_killed]
        if overdue := [process for process in stopped if now >= process.stopped_at + limits.grace_seconds]:
            kill_processes(overdue)

    def _timeout_deadline(self) -> float:
        due, limits = NEVER, self._limits
        for process in self._running.values() if limits.has_timeout else ():
            if not process.stopped_at:
                return min(due, process.started_at + limits.timeout_seconds)  # younger processes are due later
            if not process.is_killed:
                due = min(due, process.stopped_at + limits.grace_seconds)
        return due


def _is_in_grace(process: TaskProcess, now: float) -> bool:
    """Return whether a stopped and ended task has processes left that may still end by themselves."""
    if not process.stopped_at or process.is_killed:
        return False
    if now >= process.check_at:
        process.check_at = now + SESSION_CHECK_SECONDS if list_alive_pids([process.pid]) else 0.0
    return now < process.check_at


class OutputReader:
    """Reads the pipes of processes. A young process is read only at its end, unless its output is streamed."""

    def __init__(self) -> None:
        self.poll = select.epoll()
        self._by_fd: dict[int, TaskProcess] = {}
        self._delayed: list[TaskProcess] = []
        self._with_new_lines: list[TaskProcess] = []
        self._read_delay = READ_DELAY_SECONDS

    @property
    def deadline(self) -> float:
        """When to start reading the oldest young process."""
        return self._delayed[0].started_at + self._read_delay if self._delayed else NEVER

    def add(self, process: TaskProcess) -> None:
        if process.line_buffer:
            self._register(process)
        else:
            self._delayed.append(process)

    def adjust_delay(self, output_bytes: int) -> None:
        """Adapt the delay to the output size of the last task."""
        self._read_delay = READ_DELAY_SECONDS if output_bytes < READ_BYTES else 0.0

    def read(self, now: float) -> None:
        """Read what can be read."""
        due = [process for process in self._delayed if process.ended_at or now >= process.started_at + self._read_delay]
        for process in due:
            self._delayed.remove(process)
            self._register(process)
        for fd, events in self.poll.poll(0) if self._by_fd else ():
            process = self._by_fd[fd]
            # the output of an ended process is reported as a whole, at once
            if process.line_buffer and fd == process.stdout_fd and not process.ended_at:
                self._with_new_lines.append(process)
            if process.read(fd, is_last=bool(events & select.EPOLLHUP)):
                self._unregister(fd, process)

    def take_lines(self) -> list[PartialOutput]:
        """Return whole lines of the processes that were read last."""
        processes, self._with_new_lines = self._with_new_lines, []
        return [part for process in processes if process.line_buffer for part in process.line_buffer.take_lines()]

    def remove(self, process: TaskProcess) -> None:
        """Close the pipes of a process."""
        for fd in process.open_pipes():
            self._unregister(fd, process)

    def close(self) -> None:
        self._delayed.clear()
        self.poll.close()

    def _register(self, process: TaskProcess) -> None:
        for fd in process.open_pipes():
            self.poll.register(fd, select.EPOLLIN)
            self._by_fd[fd] = process

    def _unregister(self, fd: int, process: TaskProcess) -> None:
        # Closing is not enough: a process that is being spawned holds a copy of the pipe until its exec, and epoll
        # would still report the pipe, under a number that may belong to another file by then.
        if self._by_fd.pop(fd, None) is not None:
            self.poll.unregister(fd)
        process.close_fd(fd)
