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
MEMBERSHIP, MOUNT = "/proc/self/cgroup", "/sys/fs/cgroup"
"""Where the kernel says which cgroups a process is in, and where they are."""


def usable_cpus(membership: str = MEMBERSHIP, mount: str = MOUNT) -> int:
    """CPUs that affinity and all cgroup quotas above leave to this process; a part of one counts as one."""
    return max(1, math.ceil(min(len(os.sched_getaffinity(0)), cpu_quota(membership, mount))))


def cpu_quota(membership: str = MEMBERSHIP, mount: str = MOUNT) -> float:
    """CPUs that all cgroups above leave to this process; inf without a quota."""
    return min((_quota(folder) for folder in cgroups("cpu", membership, mount)), default=math.inf)


def cgroups(controller: str, membership: str = MEMBERSHIP, mount: str = MOUNT) -> list[str]:
    """The folders of this process's cgroup and all above it that can have limits of `controller`, of v1 or v2."""
    folders = []
    for line in small_file(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "" or controller in controllers.split(","):
            folders += _up(f"{mount}/{controllers}", path)
    return folders


def _up(root: str, path: str) -> list[str]:
    """A cgroup's folder and all above it, up to `root`. In a container the lower ones may not be there."""
    names = path.strip("/").split("/")
    return ["/".join([root, *names[:depth]]) for depth in range(len(names) + 1)]


def _quota(folder: str) -> float:
    """CPUs that one cgroup allows. v2 says "quota period" in one file, v1 in two; no number, or -1, is no limit."""
    v1 = f"{small_file(f'{folder}/cpu.cfs_quota_us')} {small_file(f'{folder}/cpu.cfs_period_us')}"
    with suppress(ValueError):
        quota, period = map(int, (small_file(f"{folder}/cpu.max") or v1).split())
        return quota / period if quota > 0 else math.inf
    return math.inf


def small_file(path: str) -> str:
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


def keep_heap() -> None:
    """Let glibc keep the memory that chunks come and go in; a libc without mallopt has its own ways.

    It maps blocks anew each time that are larger than a threshold, and trims its heap: a fault a page, and a fifth of
    all CPU when chunks flow. What is kept is at most what was in use at once.
    """
    import ctypes  # costs start-up time

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 256 << 20)
