"""The memory of a process and all below it, while it runs: PSS of all together, RSS of each over time.

PSS shares what several processes map among them, so their sum is what the machine really gives. Sampling costs some
CPU, so a run that is watched is not one that is timed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import subprocess

EVERY = 0.05
"""Seconds between two looks."""


@dataclass
class Watched:
    """What was seen. Sizes are bytes; `resident` is (seconds since the start, RSS) of each process by its pid."""

    peak: int = 0
    resident: dict[int, list[tuple[float, int]]] = field(default_factory=dict)

    def growth(self) -> list[str]:
        """Each process that lived two seconds: its RSS after the first second, at half-time, at the end, at most."""
        lines = []
        for pid, seen in self.resident.items():
            late = [size for at, size in seen if at >= 1] if seen[-1][0] - seen[0][0] > 2 else []  # noqa: PLR2004
            if late:
                first, half, end = (f"{size / 1e6:6.1f}" for size in (late[0], late[len(late) // 2], late[-1]))
                lines.append(
                    f"pid {pid:>7}: MB after 1 s {first}, midway {half}, at the end {end}, most {max(late) / 1e6:6.1f}"
                )
        return lines


def watched(process: subprocess.Popen[bytes]) -> Watched:
    """Watch it until it ends."""
    seen, start, top = Watched(), time.monotonic(), psutil.Process(process.pid)
    while process.poll() is None:
        try:
            family = [top, *top.children(recursive=True)]
        except psutil.Error:
            family = []
        sizes = [size for each in family if (size := _look(each, time.monotonic() - start, seen))]
        seen.peak = max(seen.peak, sum(sizes))
        time.sleep(EVERY)
    return seen


def _look(process: psutil.Process, at: float, seen: Watched) -> int:
    """Return the PSS of one process, 0 when it has ended; add its RSS to `seen`."""
    try:
        sizes = process.memory_full_info()
    except psutil.Error:
        return 0
    seen.resident.setdefault(process.pid, []).append((at, sizes.rss))
    return int(sizes.pss)
