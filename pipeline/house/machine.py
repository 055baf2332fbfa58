"""The machine: how many CPUs this process may use, how many files it may open, how much memory a process takes.

Asks the kernel at each call, and promises a usable answer where the kernel gives none. Changes nothing but the
soft limit it is asked to raise.
"""

from __future__ import annotations

import math
import os
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
