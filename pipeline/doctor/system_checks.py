"""Checks of kernel, cgroups, CPUs, memory and limits, for a run with a number of concurrent tasks.

Invariants:
  - figures are those of this process, which its tasks inherit;
  - a limit is compared with what real runs were measured to need, rounded up;
  - a result that is not `ok` says in which case something fails, and what to do;
  - nothing is changed. Paths are parameters, so that a test can simulate any machine.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Literal

from msgspec import Struct

from pipeline.system.resources import CGROUP_FILE, CGROUP_MOUNT, cgroups, cpu_quota, read_small_file

CheckState = Literal["ok", "warn", "bad"]
GIB, MIB = 1 << 30, 1 << 20
FILES_PER_STATION, FILES_PER_SLOT, FILES_PER_WORKER = 64, 5, 8
"""Open files of a station; of a worker for each of its slots; of the ventilator for each worker."""
STATION_PROCESSES, STATION_MEMORY_BYTES, WARM_PROCESS_MEMORY_BYTES = 8, 256 * MIB, 32 * MIB
"""Needs of all stations of a run together, and of a warm process of --call."""
UNLIMITED = 1 << 60
"""Cgroups v1 have a number like this where there is no limit."""


class CheckResult(Struct, frozen=True):
    """`warn`: something fails in the case that `detail` names; `bad`: it cannot work. An `ok` result has no `fix`."""

    name: str
    state: CheckState
    detail: str
    fix: str = ""


def format_bytes(amount: float) -> str:
    """Return a size in GiB or MiB."""
    return f"{amount / GIB:,.1f} GiB" if amount >= GIB else f"{amount / MIB:,.0f} MiB"


def check_kernel(syscalls: Mapping[str, Callable[[], int]] | None = None) -> CheckResult:
    """Check the system calls that every run needs. Each returns a descriptor, or raises OSError."""
    required = syscalls or {
        "pidfd_open": lambda: os.pidfd_open(os.getpid()),
        "memfd_create": lambda: os.memfd_create("try"),
    }
    missing = []
    for name, call in required.items():
        try:
            os.close(call())
        except OSError:
            missing.append(name)
    if not missing:
        return CheckResult("kernel", "ok", f"{os.uname().sysname} {os.uname().release} has all that is needed")
    detail = f"{' and '.join(missing)} not available: no task can be started"
    return CheckResult("kernel", "bad", detail, "use Linux 5.4 or newer, and a sandbox that allows these calls")


def check_cpus(cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT, cpu_count: int = 0) -> CheckResult:
    """Check how many CPUs are usable, and whether a quota stops processes so long that a worker seems lost."""
    total, allowed = cpu_count or os.cpu_count() or 1, len(os.sched_getaffinity(0))
    quota = cpu_quota(cgroup_file, cgroup_mount)
    if quota < 1:
        detail = (
            f"a cgroup allows {quota:.2g} of a CPU: stations are paused most of the time, and workers may seem lost"
        )
        fix = "raise cpu.max (CPUQuota= of a unit, --cpus of a container), or use --heartbeat-timeout 60"
        return CheckResult("CPUs", "warn", detail, fix)
    usable = math.ceil(min(allowed, quota))
    reason = ""
    if quota < allowed:
        reason = f" (a cgroup allows {quota:g})"
    elif allowed < total:
        reason = " (CPU affinity of this process)"
    return CheckResult("CPUs", "ok", f"{usable} of {total} are usable{reason}: --jobs defaults to {usable}")


def check_memory(
    jobs: int, cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT, meminfo: str = "/proc/meminfo"
) -> CheckResult:
    """Check whether there is memory for the stations and `jobs` warm processes."""
    free, source = float(_read_labeled_number(meminfo, "MemAvailable:") * 1024) or math.inf, "free on this machine"
    for folder in cgroups("memory", cgroup_file, cgroup_mount):
        limit = min(_read_number(f"{folder}/memory.max"), _read_number(f"{folder}/memory.limit_in_bytes"))
        used = min(_read_number(f"{folder}/memory.current"), _read_number(f"{folder}/memory.usage_in_bytes"))
        stat_file = f"{folder}/memory.stat"
        cache = _read_labeled_number(stat_file, "inactive_file") or _read_labeled_number(
            stat_file, "total_inactive_file"
        )
        if limit < UNLIMITED and limit - used + cache < free:
            free, source = limit - used + cache, f"free of the {format_bytes(limit)} that {folder} allows"
    if free == math.inf:
        return CheckResult("memory", "ok", "no limit known")
    detail = f"{format_bytes(free)} {source}"
    if free >= STATION_MEMORY_BYTES + jobs * WARM_PROCESS_MEMORY_BYTES:
        return CheckResult("memory", "ok", detail)
    detail += f"; pipe needs about {format_bytes(STATION_MEMORY_BYTES)}, and {format_bytes(WARM_PROCESS_MEMORY_BYTES)}"
    detail += f" for each of {jobs:,} processes of --call: the kernel may kill the largest"
    return CheckResult("memory", "warn", detail, "use fewer --jobs and a smaller --window, or add memory")


def check_open_files(jobs: int, workers: int, hard_limit: int | None = None) -> CheckResult:
    """Check the limit of open files: of a worker with `jobs` slots, and of the ventilator with `workers`."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if hard_limit is None else hard_limit
    need = FILES_PER_STATION + max(FILES_PER_SLOT * jobs, FILES_PER_WORKER * workers)
    shown = "unlimited" if limit == resource.RLIM_INFINITY else f"limit is {limit:,}"
    if limit == resource.RLIM_INFINITY or limit >= need:
        return CheckResult("open files", "ok", f"{shown}; {jobs:,} concurrent tasks need {need:,}")
    detail = f"{shown}, but {jobs:,} concurrent tasks in one of {workers:,} workers need {need:,}"
    fix = f"use more --workers with fewer --jobs each; or, as root, `ulimit -Hn {need}`, in a unit LimitNOFILE={need}"
    return CheckResult("open files", "bad", detail, fix)


def check_processes(jobs: int, limit: int | None = None, running: int | None = None) -> CheckResult:
    """Check this user's limit of processes."""
    limit = _process_limit() if limit is None else limit
    if limit == resource.RLIM_INFINITY:
        return CheckResult("processes", "ok", "unlimited for this user")
    used = _count_user_threads() if running is None else running
    detail = f"limit of this user is {limit:,}, and {used:,} are running"
    return _check_headroom("processes", limit - used, jobs, detail, "`ulimit -u`")


def check_cgroup_processes(jobs: int, cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> CheckResult:
    """Check the limits of processes of all cgroups."""
    name, limits = "cgroup processes", []
    for folder in cgroups("pids", cgroup_file, cgroup_mount):
        limit, used = _read_number(f"{folder}/pids.max"), _read_number(f"{folder}/pids.current")
        if limit < UNLIMITED:
            limits.append((limit - used, limit, used, folder))
    if not limits:
        return CheckResult(name, "ok", "not limited by a cgroup")
    headroom, limit, used, folder = min(limits)
    detail = f"pids.max of {folder} is {limit:,.0f}, and {used:,.0f} are running"
    return _check_headroom(name, headroom, jobs, detail, "pids.max (TasksMax= of a unit, --pids-limit of a container)")


def _check_headroom(name: str, headroom: float, jobs: int, detail: str, limit: str) -> CheckResult:
    """Check whether `headroom` more processes are enough."""
    need = STATION_PROCESSES + jobs
    detail, fix = f"{detail}; {jobs:,} concurrent tasks need {need:,} more", f"raise {limit}, or use fewer --jobs"
    if headroom >= 2 * need:
        return CheckResult(name, "ok", detail)
    if headroom >= need:
        return CheckResult(name, "warn", f"{detail}: tasks that start other processes may fail", fix)
    return CheckResult(name, "bad", f"{detail}: they cannot be started", fix)


def _process_limit() -> int:
    """Return the limit of this user's processes; the kernel does not apply it to root."""
    return resource.RLIM_INFINITY if os.getuid() == 0 else resource.getrlimit(resource.RLIMIT_NPROC)[0]


def _count_user_threads(proc: str = "/proc") -> int:
    """Return the number of this user's threads: the kernel's limit counts threads."""
    count = 0
    for name in os.listdir(proc):
        with suppress(OSError):
            if name.isdigit() and os.stat(f"{proc}/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"{proc}/{name}/task"))
    return count


def _read_number(path: str) -> float:
    """Return the number in a file; inf for `max`, or without a file."""
    with suppress(ValueError):
        return float(read_small_file(path))
    return math.inf


def _read_labeled_number(path: str, label: str) -> int:
    """Return the number after a label in a file of such lines; 0 without one."""
    rows = (line.split() for line in read_small_file(path).splitlines())
    return next((int(columns[1]) for columns in rows if len(columns) > 1 and columns[0] == label), 0)
