"""CPUs, cgroups, limits, CPU and memory usage.

The machine: how many CPUs this process may use, how many files it may open, how much memory a process takes.

Asks the kernel at each call, and promises a usable answer where the kernel gives none. Changes nothing but the
soft limit it is asked to raise.

What this process and all below it use of the machine: CPUs and memory, as the kernel's /proc tells it.

A look costs about 30 us a process, and only those below this one are looked at. What has ended counts with the
process that has reaped it. Pages that processes share count for each. It never fails: who is gone counts nothing.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From malloc.h."""
CGROUP_FILE, CGROUP_MOUNT = "/proc/self/cgroup", "/sys/fs/cgroup"
"""Where the kernel says which cgroups a process is in, and where they are."""


def usable_cpus(cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> int:
    """CPUs that affinity and all cgroup quotas above leave to this process; a part of one counts as one."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), cpu_quota(cgroup_file, cgroup_mount))))


def cpu_quota(cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> float:
    """CPUs that all cgroups above leave to this process; inf without a quota."""
    return min((_cgroup_cpu_quota(folder) for folder in cgroups("cpu", cgroup_file, cgroup_mount)), default=math.inf)


def cgroups(controller: str, cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> list[str]:
    """The folders of this process's cgroup and all above it that can have limits of `controller`, of v1 or v2."""
    folders = []
    for line in read_small_file(cgroup_file).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            folders += _ancestor_folders(f"{cgroup_mount}/{controllers}", path)
    return folders


def _ancestor_folders(root: str, path: str) -> list[str]:
    """A cgroup's folder and all above it, up to `root`. In a container the lower ones may not be there."""
    names = path.strip("/").split("/")
    return ["/".join([root, *names[:depth]]) for depth in range(len(names) + 1)]


def _cgroup_cpu_quota(folder: str) -> float:
    """CPUs that one cgroup allows. v2 says "quota period" in one file, v1 in two; no number, or -1, is no limit."""
    v1 = f"{read_small_file(f'{folder}/cpu.cfs_quota_us')} {read_small_file(f'{folder}/cpu.cfs_period_us')}"
    with suppress(ValueError):
        quota, period = map(int, (read_small_file(f"{folder}/cpu.max") or v1).split())
        return quota / period if quota > 0 else math.inf
    return math.inf


def read_small_file(path: str) -> str:
    """A small file's text, empty if it is not there."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def raise_descriptor_limit() -> int:
    """Allow this process as many open files as it may allow itself, and say how many."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def disable_heap_trim() -> None:
    """Let glibc keep the memory that chunks come and go in; a libc without mallopt has its own ways.

    It maps blocks anew each time that are larger than a threshold, and trims its heap: a fault a page, and a fifth of
    all CPU when chunks flow. What is kept is at most what was in use at once.
    """
    import ctypes  # costs start-up time

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 256 << 20)


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
