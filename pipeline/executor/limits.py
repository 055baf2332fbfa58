"""How long a task may run and how much it may write, and who has passed that.

A limit in seconds is as it was set; one in percent is a multiple of the median run time of the tasks that ended well
here, and there is none before the first of them. It asks no clock and ends nobody: executors do.
"""

from __future__ import annotations

import signal
from collections import deque
from itertools import repeat

from pipeline.model.messages import TaskFailure
from pipeline.model.option_values import Timeout
from pipeline.model.state_machine import NEVER

MAX_OUTPUT_BYTES = (1 << 32) - (4 << 20)
"""Bytes a task may write, so that the ends in a Result can say it, also behind its neighbours."""
DEFAULT_GRACE_SECONDS = 5.0
MAX_SAMPLES = 101
"""Run times that the median is of: the latest."""
MIN_TIMEOUT_SECONDS = 0.1
"""Seconds that a limit in percent is at least: less would be about the machine, not about the task."""
MIN_CHECK_SECONDS, MAX_CHECK_SECONDS = 0.01, 0.1
"""Seconds between two looks at what a warm child runs."""

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class TaskLimits:
    """`seconds` that a task may run now (NEVER: no limit), `grace` between SIGTERM and SIGKILL, bytes of `output`."""

    def __init__(
        self,
        timeout: Timeout | None = None,
        grace_seconds: float = DEFAULT_GRACE_SECONDS,
        max_output_bytes: int | None = None,
    ) -> None:
        timeout = timeout or Timeout()
        self.grace_seconds = grace_seconds
        self.max_output_bytes = min(max_output_bytes or MAX_OUTPUT_BYTES, MAX_OUTPUT_BYTES)
        self.timeout_seconds = timeout.seconds or NEVER
        self.has_timeout = bool(timeout.seconds or timeout.median_factor)
        """Whether there is a limit, or will be."""
        self._timeout_factor = timeout.median_factor
        self._samples: deque[float] = deque(maxlen=MAX_SAMPLES)

    def add_sample(self, seconds: float, task_count: int = 1) -> None:
        """So many tasks have ended well, each after about so many seconds."""
        if self._timeout_factor and task_count > 0:
            self._samples.extend(repeat(seconds, min(task_count, MAX_SAMPLES)))
            self.timeout_seconds = max(
                MIN_TIMEOUT_SECONDS, self._timeout_factor * sorted(self._samples)[len(self._samples) // 2]
            )


class TimeoutWatch:
    """What one warm child runs: `task` (-1: nothing) since `since`; `stopped` is when its time was over, or 0.

    `killed` says that nothing more can be done.
    """

    __slots__ = ("is_killed", "timeout_seconds", "running_since", "stopped_at", "task")

    def __init__(self) -> None:
        self.task, self.running_since = -1, 0.0
        self.stopped_at = self.timeout_seconds = 0.0
        self.is_killed = False

    def observe(self, task: int, now: float) -> None:
        """This is what runs now; nobody knows since when, so it counts from the first sight."""
        if task != self.task:
            self.task, self.running_since = task, now

    def due_signal(self, task: int, limits: TaskLimits, now: float) -> int:
        """The signal that the child should get now, with this task running: SIGTERM, SIGKILL once, or 0 for none."""
        if not self.stopped_at:
            self.observe(task, now)
            return signal.SIGTERM if task >= 0 and now >= self.running_since + limits.timeout_seconds else 0
        if self.is_killed or (task >= 0 and now < self.stopped_at + limits.grace_seconds):
            return 0
        self.is_killed = True
        return signal.SIGKILL

    def mark_stopped(self, limits: TaskLimits, now: float) -> None:
        """The task was asked to end."""
        self.stopped_at, self.timeout_seconds = now, limits.timeout_seconds

    def timeout_failure(self, wait_status: int) -> TaskFailure:
        """What is said of the task that was stopped, and whose child ended with this wait status."""
        code = signal.SIGKILL if wait_status & 0x7F == signal.SIGKILL else signal.SIGTERM
        return TaskFailure(self.task, "timeout", code, timeout_text(self.timeout_seconds), "", 0)

    def deadline(self, limits: TaskLimits, now: float) -> float:
        """When to look again."""
        if self.is_killed:
            return NEVER
        if self.stopped_at:
            return self.stopped_at + limits.grace_seconds
        return (
            now + min(MAX_CHECK_SECONDS, max(MIN_CHECK_SECONDS, limits.timeout_seconds / 8))
            if self.task >= 0
            else NEVER
        )


def timeout_text(seconds: float) -> str:
    """What is said of a task that has passed this limit."""
    return f"timed out after {round(seconds, 2):.10g} s"


def too_large_text(max_bytes: int) -> str:
    """What is said of a task that has written more than this many bytes."""
    for unit, name in _UNITS:
        if max_bytes % unit == 0:
            return f"wrote more than {max_bytes // unit} {name}"
    return f"wrote more than {max_bytes} bytes"
