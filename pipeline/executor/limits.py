"""Limits of a task's run time and output size, and the tasks of warm processes that exceed the time limit.

Invariants:
  - a limit in percent is a multiple of the median run time of successful tasks here; before the first there is none;
  - the module reads no clock and signals no process: the executors do.
"""

from __future__ import annotations

import signal
from collections import deque
from itertools import repeat

from pipeline.model.messages import TaskFailure
from pipeline.model.option_values import Timeout
from pipeline.model.state_machine import NEVER

UNLIMITED_BYTES = 1 << 62
DEFAULT_GRACE_SECONDS = 5.0
MAX_SAMPLES = 101  # the latest run times, of which the median is taken
MIN_TIMEOUT_SECONDS = 0.1
"""Lower bound of a limit in percent. A shorter one would measure the machine, not the task."""
MIN_CHECK_SECONDS, MAX_CHECK_SECONDS = 0.01, 0.1  # between two checks of what a warm process runs

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class TaskLimits:
    """Limits of one executor. `timeout_seconds` is the current limit; `grace_seconds` separate SIGTERM from SIGKILL."""

    def __init__(
        self,
        timeout: Timeout | None = None,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        max_output_bytes: int | None = None,
    ) -> None:
        timeout = timeout or Timeout()
        self.grace_seconds = grace_seconds
        self.max_output_bytes = max_output_bytes or UNLIMITED_BYTES
        self.timeout_seconds = timeout.seconds or NEVER
        self.has_timeout = bool(timeout.seconds or timeout.median_factor)
        """Whether a time limit is set, even if it is not known yet."""
        self._timeout_factor = timeout.median_factor
        self._samples: deque[float] = deque(maxlen=MAX_SAMPLES)

    def add_sample(self, seconds: float, task_count: int = 1) -> None:
        """Record that tasks ended successfully after about so many seconds each."""
        if self._timeout_factor and task_count > 0:
            self._samples.extend(repeat(seconds, min(task_count, MAX_SAMPLES)))
            median = sorted(self._samples)[len(self._samples) // 2]
            self.timeout_seconds = max(MIN_TIMEOUT_SECONDS, self._timeout_factor * median)


class TimeoutWatch:
    """The running `task` of one warm process (-1: none), and when it exceeded its limit (`stopped_at`, 0: it has not).

    `is_killed` means that SIGKILL was due and nothing more can be done.
    """

    __slots__ = ("is_killed", "running_since", "stopped_at", "task", "timeout_seconds")

    def __init__(self) -> None:
        self.task, self.running_since = -1, 0.0
        self.stopped_at = self.timeout_seconds = 0.0
        self.is_killed = False

    def observe(self, task: int, now: float) -> None:
        """Record the running task. Its start is not known here, so its time counts from the first observation."""
        if task != self.task:
            self.task, self.running_since = task, now

    def due_signal(self, task: int, limits: TaskLimits, now: float) -> int:
        """Return the signal that is due while this task runs: SIGTERM, then SIGKILL once, or 0 for none."""
        if not self.stopped_at:
            self.observe(task, now)
            return signal.SIGTERM if task >= 0 and now >= self.running_since + limits.timeout_seconds else 0
        if self.is_killed or (task >= 0 and now < self.stopped_at + limits.grace_seconds):
            return 0
        self.is_killed = True
        return signal.SIGKILL

    def mark_stopped(self, limits: TaskLimits, now: float) -> None:
        """Record that the task was asked to end."""
        self.stopped_at, self.timeout_seconds = now, limits.timeout_seconds

    def timeout_failure(self, wait_status: int) -> TaskFailure:
        """Return the failure of the stopped task, whose process ended with this wait status."""
        code = signal.SIGKILL if wait_status & 0x7F == signal.SIGKILL else signal.SIGTERM
        return TaskFailure(self.task, "timeout", code, timeout_text(self.timeout_seconds), "", 0)

    def deadline(self, limits: TaskLimits, now: float) -> float:
        """Return when to call `due_signal` again."""
        if self.is_killed:
            return NEVER
        if self.stopped_at:
            return self.stopped_at + limits.grace_seconds
        if self.task < 0:
            return NEVER
        return now + min(MAX_CHECK_SECONDS, max(MIN_CHECK_SECONDS, limits.timeout_seconds / 8))


def timeout_text(seconds: float) -> str:
    return f"timed out after {round(seconds, 2):.10g} s"


def too_large_text(max_bytes: int) -> str:
    for unit, name in _UNITS:
        if max_bytes % unit == 0:
            return f"wrote more than {max_bytes // unit} {name}"
    return f"wrote more than {max_bytes} bytes"
