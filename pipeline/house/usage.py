"""What this process and all below it use of the machine: CPUs and memory, as the kernel's /proc tells it.

A look costs about 30 us a process, and only those below this one are looked at. What has ended counts with the
process that has reaped it. Pages that processes share count for each. It never fails: who is gone counts nothing.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

MIN_SAMPLE_SECONDS = 0.2
"""Seconds within which a second look sees the same: the kernel counts CPU time in hundredths of a second."""
_SECONDS_PER_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TIME_FIELDS, _THREADS_FIELD, _RSS_FIELD = slice(11, 15), 17, 21
"""Where /proc/PID/stat has them, counted from the state on: user and system time, own and of the reaped; threads;
pages."""


class ProcessTreeUsage:
    """Between one look and the next; the first look is about all since this was made."""

    def __init__(self) -> None:
        self._sampled_at, self._cpu_seconds = time.monotonic(), sum(os.times()[:4])
        self._last_sample = 0.0, 0

    def sample(self) -> tuple[float, int]:
        """CPUs in use since the last look, and the bytes of memory in use now."""
        now = time.monotonic()
        if now - self._sampled_at >= MIN_SAMPLE_SECONDS or not self._last_sample[1]:
            spent, memory = _measure_tree(os.getpid())
            cpus = (spent - self._cpu_seconds) / max(now - self._sampled_at, _SECONDS_PER_TICK)
            self._sampled_at, self._cpu_seconds = now, spent
            self._last_sample = max(0.0, cpus), memory
        return self._last_sample


def _measure_tree(root_pid: int) -> tuple[float, int]:
    """Seconds of CPU time and bytes of memory of `root` and all below it."""
    ticks = pages = 0
    left = [str(root_pid)]
    while left:
        pid = left.pop()
        with suppress(OSError, ValueError, IndexError):  # it has just ended
            fields = _read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(map(int, fields[_TIME_FIELDS]))
            pages += int(fields[_RSS_FIELD])
            threads = os.listdir(f"/proc/{pid}/task") if fields[_THREADS_FIELD] != "1" else [pid]
            for thread in threads:  # each knows only those that it has started itself
                left += _read_text(f"/proc/{pid}/task/{thread}/children").split()
    return ticks * _SECONDS_PER_TICK, pages * _PAGE_BYTES


def _read_text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
