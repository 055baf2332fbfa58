"""CPUs, cgroups, limits; CPU and memory use of a process tree.

The kernel is asked at each call, and a missing answer is replaced by a usable one. Only raise_descriptor_limit and
disable_heap_trim change anything. A sample of a process tree costs about 30 us per process.
"""

from __future__ import annotations

import math
import os
import resource
import time
from contextlib import suppress

from pipeline.system.libc import call_libc

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""From malloc.h."""
CGROUP_FILE, CGROUP_MOUNT = "/proc/self/cgroup", "/sys/fs/cgroup"
MIN_SAMPLE_SECONDS = 0.2
"""A second sample within this time repeats the first: the kernel counts CPU time in hundredths of a second."""
_SECONDS_PER_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_TIME_FIELDS, _THREADS_FIELD, _RSS_FIELD = slice(11, 15), 17, 21
"""In /proc/PID/stat from the state on: user and system time, own and of reaped children; threads; resident pages."""


def usable_cpus(cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> int:
    """Return the CPUs that affinity and all cgroup quotas leave to this process, rounded up."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), cpu_quota(cgroup_file, cgroup_mount))))


def cpu_quota(cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> float:
    """Return the CPUs that all cgroups leave to this process; inf without a quota."""
    return min((_cgroup_cpu_quota(folder) for folder in cgroups("cpu", cgroup_file, cgroup_mount)), default=math.inf)


def cgroups(controller: str, cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> list[str]:
    """Return the directories of this process's cgroup and all above it that can limit `controller`, of v1 or v2."""
    directories = []
    for line in read_small_file(cgroup_file).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            names = path.strip("/").split("/")
            root = f"{cgroup_mount}/{controllers}"
            # in a container the lower ones may not exist
            directories += ["/".join([root, *names[:depth]]) for depth in range(len(names) + 1)]
    return directories


def _cgroup_cpu_quota(folder: str) -> float:
    """Return the CPUs that one cgroup allows: "quota period" in one file (v2) or two (v1); inf without a number."""
    v1 = f"{read_small_file(f'{folder}/cpu.cfs_quota_us')} {read_small_file(f'{folder}/cpu.cfs_period_us')}"
    with suppress(ValueError):
        quota, period = map(int, (read_small_file(f"{folder}/cpu.max") or v1).split())
        return quota / period if quota > 0 else math.inf
    return math.inf


def read_small_file(path: str) -> str:
    """Return the text of a file, empty if it cannot be read."""
    with suppress(OSError), open(path, encoding="utf-8", errors="replace") as file:
        return file.read()
    return ""


def raise_descriptor_limit() -> int:
    """Raise the limit of open files to the hard limit, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    return soft


def disable_heap_trim() -> None:
    """Make glibc keep freed memory, at most what was in use at once.

    By default it maps large blocks again each time and trims its heap: a page fault for each page, and a fifth of all
    CPU time when chunks flow. Another libc without mallopt is left as it is.
    """
    with suppress(AttributeError):
        call_libc("mallopt", M_MMAP_THRESHOLD, 32 << 20)
        call_libc("mallopt", M_TRIM_THRESHOLD, 256 << 20)


class ProcessTreeUsage:
    """CPU and memory use of this process and all below it; the first sample covers the time since construction.

    A process that has ended counts with the process that reaped it. Shared pages count for each process.
    """

    def __init__(self) -> None:
        self._sampled_at, self._cpu_seconds = time.monotonic(), sum(os.times()[:4])
        self._last_sample = 0.0, 0

    def sample(self) -> tuple[float, int]:
        """Return the CPUs in use since the last sample, and the bytes of memory in use now."""
        now = time.monotonic()
        if now - self._sampled_at >= MIN_SAMPLE_SECONDS or not self._last_sample[1]:
            cpu_seconds, memory = _measure_tree(os.getpid())
            cpus = (cpu_seconds - self._cpu_seconds) / max(now - self._sampled_at, _SECONDS_PER_TICK)
            self._sampled_at, self._cpu_seconds = now, cpu_seconds
            self._last_sample = max(0.0, cpus), memory
        return self._last_sample


def _measure_tree(root_pid: int) -> tuple[float, int]:
    """Return seconds of CPU time and bytes of memory of a process and all below it."""
    ticks = pages = 0
    pids = [str(root_pid)]
    while pids:
        pid = pids.pop()
        with suppress(OSError, ValueError, IndexError):  # it has just ended
            fields = _read_text(f"/proc/{pid}/stat").rpartition(")")[2].split()
            ticks += sum(map(int, fields[_TIME_FIELDS]))
            pages += int(fields[_RSS_FIELD])
            threads = os.listdir(f"/proc/{pid}/task") if fields[_THREADS_FIELD] != "1" else [pid]
            for thread in threads:  # each lists only the children that it has started itself
                pids += _read_text(f"/proc/{pid}/task/{thread}/children").split()
    return ticks * _SECONDS_PER_TICK, pages * _PAGE_BYTES


def _read_text(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()
