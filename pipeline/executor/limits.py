"""How long a task may run and how much it may write, and who has passed that.

A limit in seconds is as it was set; one in percent is a multiple of the median run time of the tasks that ended well
here, and there is none before the first of them. It asks no clock and ends nobody: executors do.
"""

from __future__ import annotations

import signal
from collections import deque
from itertools import repeat

from pipeline.words.kinds import Timeout
from pipeline.words.parts import Note
from pipeline.words.station import NEVER

MOST_OUTPUT = (1 << 32) - (4 << 20)
"""Bytes a task may write, so that the ends in a Result can say it, also behind its neighbours."""
GRACE = 5.0
SAMPLE = 101
"""Run times that the median is of: the latest."""
LEAST = 0.1
"""Seconds that a limit in percent is at least: less would be about the machine, not about the task."""
FINEST, COARSEST = 0.01, 0.1
"""Seconds between two looks at what a warm child runs."""

_UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Limits:
    """`seconds` that a task may run now (NEVER: no limit), `grace` between SIGTERM and SIGKILL, bytes of `output`."""

    def __init__(self, timeout: Timeout | None = None, grace: float = GRACE, output: int | None = None) -> None:
        timeout = timeout or Timeout()
        self.grace = grace
        self.output = min(output or MOST_OUTPUT, MOST_OUTPUT)
        self.seconds = timeout.seconds or NEVER
        self.timed = bool(timeout.seconds or timeout.times)
        """Whether there is a limit, or will be."""
        self._times = timeout.times
        self._sample: deque[float] = deque(maxlen=SAMPLE)

    def learn(self, seconds: float, tasks: int = 1) -> None:
        """So many tasks have ended well, each after about so many seconds."""
        if self._times and tasks > 0:
            self._sample.extend(repeat(seconds, min(tasks, SAMPLE)))
            self.seconds = max(LEAST, self._times * sorted(self._sample)[len(self._sample) // 2])


class Watch:
    """What one warm child runs: `task` (-1: nothing) since `since`; `stopped` is when its time was over, or 0.

    `killed` says that nothing more can be done.
    """

    __slots__ = ("killed", "limit", "since", "stopped", "task")

    def __init__(self) -> None:
        self.task, self.since = -1, 0.0
        self.stopped = self.limit = 0.0
        self.killed = False

    def see(self, task: int, now: float) -> None:
        """This is what runs now; nobody knows since when, so it counts from the first sight."""
        if task != self.task:
            self.task, self.since = task, now

    def wants(self, task: int, limits: Limits, now: float) -> int:
        """The signal that the child should get now, with this task running: SIGTERM, SIGKILL once, or 0 for none."""
        if not self.stopped:
            self.see(task, now)
            return signal.SIGTERM if task >= 0 and now >= self.since + limits.seconds else 0
        if self.killed or (task >= 0 and now < self.stopped + limits.grace):
            return 0
        self.killed = True
        return signal.SIGKILL

    def stop(self, limits: Limits, now: float) -> None:
        """The task was asked to end."""
        self.stopped, self.limit = now, limits.seconds

    def verdict(self, status: int) -> Note:
        """What is said of the task that was stopped, and whose child ended with this wait status."""
        code = signal.SIGKILL if status & 0x7F == signal.SIGKILL else signal.SIGTERM
        return Note(self.task, "timeout", code, too_long(self.limit), "", 0)

    def deadline(self, limits: Limits, now: float) -> float:
        """When to look again."""
        if self.killed:
            return NEVER
        if self.stopped:
            return self.stopped + limits.grace
        return now + min(COARSEST, max(FINEST, limits.seconds / 8)) if self.task >= 0 else NEVER


def too_long(seconds: float) -> str:
    """What is said of a task that has passed this limit."""
    return f"timed out after {round(seconds, 2):.10g} s"


def too_large(size: int) -> str:
    """What is said of a task that has written more than this many bytes."""
    for unit, name in _UNITS:
        if size % unit == 0:
            return f"wrote more than {size // unit} {name}"
    return f"wrote more than {size} bytes"
