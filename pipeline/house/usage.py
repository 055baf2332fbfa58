"""What this process and all below it use of the machine: CPUs and memory, as the kernel's /proc tells it.

A look costs about 30 us a process, and only those below this one are looked at. What has ended counts with the
process that has reaped it. Pages that processes share count for each. It never fails: who is gone counts nothing.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress

SOON = 0.2
"""Seconds within which a second look sees the same: the kernel counts CPU time in hundredths of a second."""
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TIMES, _THREADS, _RSS = slice(11, 15), 17, 21
"""Where /proc/PID/stat has them, counted from the state on: user and system time, own and of the reaped; threads;
pages."""


class Usage:
    """Between one look and the next; the first look is about all since this was made."""

    def __init__(self) -> None:
        self._at, self._spent = time.monotonic(), sum(os.times()[:4])
        self._seen = 0.0, 0

    def look(self) -> tuple[float, int]:
        """CPUs in use since the last look, and the bytes of memory in use now."""
        now = time.monotonic()
        if now - self._at >= SOON or not self._seen[1]:
            spent, memory = _all_below(os.getpid())
            cpus = (spent - self._spent) / max(now - self._at, _TICK)
            self._at, self._spent = now, spent
            self._seen = max(0.0, cpus), memory
        return self._seen


def _all_below(root: int) -> tuple[float, int]:
    """Seconds of CPU time and bytes of memory of `root` and all below it."""
    ticks = pages = 0
    left = [str(root)]
    while left:
        pid = left.pop()
        with suppress(OSError, ValueError, IndexError):  # it has just ended
            fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(map(int, fields[_TIMES]))
            pages += int(fields[_RSS])
            threads = os.listdir(f"/proc/{pid}/task") if fields[_THREADS] != "1" else [pid]
            for thread in threads:  # each knows only those that it has started itself
                left += _text(f"/proc/{pid}/task/{thread}/children").split()
    return ticks * _TICK, pages * _PAGE


def _text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
