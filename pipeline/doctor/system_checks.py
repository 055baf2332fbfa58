"""Kernel, cgroups, CPU, memory, limits.

What one look at the machine has found: the word between those who look and the door.

Promises: whatever is not `ok` says in which case it bites, and what to do. Never holds more than one fact.

What the kernel and the cgroups allow a run of so many tasks at a time: one small look each.

Promises: figures are those of this process, which its tasks inherit; a limit is compared with what was measured of
real runs, rounded up. Paths are parameters, so that a test can show it any machine. Changes nothing.
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


class CheckResult(Struct, frozen=True):
    """`warn`: it bites in the case that is told; `bad`: something cannot work. `fix` is empty where all is well."""

    name: str
    state: CheckState
    detail: str
    fix: str = ""


def format_bytes(amount: float) -> str:
    """Bytes, as a person writes them."""
    return f"{amount / GIB:,.1f} GiB" if amount >= GIB else f"{amount / MIB:,.0f} MiB"


FILES_PER_STATION, FILES_PER_SLOT, FILES_PER_WORKER = 64, 5, 8
"""Open files of a station; of a worker for each of its slots; of the ventilator for each worker."""
STATION_PROCESSES, STATION_MEMORY_BYTES, WARM_PROCESS_MEMORY_BYTES = 8, 256 * MIB, 32 * MIB
"""What the stations of a run take together, and a warm child of --call."""
UNLIMITED = 1 << 60
"""A cgroup of v1 says a number like this where there is no limit."""


def check_open_files(jobs: int, workers: int, hard_limit: int | None = None) -> CheckResult:
    """Whether a worker may open what `jobs` slots take, and the ventilator what `workers` do."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1] if hard_limit is None else hard_limit
    need = FILES_PER_STATION + max(FILES_PER_SLOT * jobs, FILES_PER_WORKER * workers)
    if limit == resource.RLIM_INFINITY or limit >= need:
        most = "any number" if limit == resource.RLIM_INFINITY else f"{limit:,}"
        return CheckResult("open files", "ok", f"{most} may be open, {need:,} are needed for {jobs:,} tasks at a time")
    return CheckResult(
        "open files",
        "bad",
        f"{limit:,} may be open at most, but {jobs:,} tasks at a time in one of {workers:,} workers need {need:,}",
        f"more --workers with fewer --jobs each; or, as root, `ulimit -Hn {need}`, in a unit LimitNOFILE={need}",
    )


def check_processes(jobs: int, limit: int | None = None, running: int | None = None) -> CheckResult:
    """Whether this user may start as many processes more."""
    most = _process_limit() if limit is None else limit
    if most == resource.RLIM_INFINITY:
        return CheckResult("processes", "ok", "this user may start any number")
    now = _count_user_threads() if running is None else running
    return _check_headroom("processes", most - now, jobs, f"this user may have {most:,} and has {now:,}", "`ulimit -u`")


def _process_limit() -> int:
    """How many this user may have; root is not held to it."""
    return resource.RLIM_INFINITY if os.getuid() == 0 else resource.getrlimit(resource.RLIMIT_NPROC)[0]


def check_cgroup_processes(jobs: int, cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT) -> CheckResult:
    """The same, as the cgroups allow it."""
    rooms = []
    for folder in cgroups("pids", cgroup_file, cgroup_mount):
        most, now = _read_number(f"{folder}/pids.max"), _read_number(f"{folder}/pids.current")
        if most < UNLIMITED:
            rooms.append((most - now, most, now, folder))
    if not rooms:
        return CheckResult("cgroup processes", "ok", "no cgroup limits them")
    room, most, now, folder = min(rooms)
    says = f"pids.max of {folder} is {most:,.0f}, and {now:,.0f} are there"
    return _check_headroom(
        "cgroup processes", room, jobs, says, "pids.max (TasksMax= of a unit, --pids-limit of a container)"
    )


def _check_headroom(name: str, headroom: float, jobs: int, detail: str, limit: str) -> CheckResult:
    """Whether so many more processes are enough."""
    need = STATION_PROCESSES + jobs
    detail, fix = f"{detail}; {jobs:,} tasks at a time are {need:,} more", f"raise {limit}, or give fewer --jobs"
    if headroom >= 2 * need:
        return CheckResult(name, "ok", detail)
    if headroom >= need:
        return CheckResult(name, "warn", f"{detail}: tasks that start others may fail", fix)
    return CheckResult(name, "bad", f"{detail}: they can't be started", fix)


def check_cpus(cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT, cpu_count: int = 0) -> CheckResult:
    """How many CPUs are ours, and whether a quota stops us so often that a worker looks lost."""
    there, bound, quota = (
        cpu_count or os.cpu_count() or 1,
        len(os.sched_getaffinity(0)),
        cpu_quota(cgroup_file, cgroup_mount),
    )
    if quota < 1:
        return CheckResult(
            "CPUs",
            "warn",
            f"a cgroup allows {quota:.2g} of a CPU: all stations stand still for most of the time, "
            "and a silence may be taken for a loss",
            "raise cpu.max (CPUQuota= of a unit, --cpus of a container), or give --liveness 60",
        )
    usable = math.ceil(min(bound, quota))
    why = (
        f" (a cgroup allows {quota:g})"
        if quota < bound
        else " (this process is bound to them)"
        if bound < there
        else ""
    )
    return CheckResult("CPUs", "ok", f"{usable} of {there} are usable{why}: --jobs is {usable} unless it is given")


def check_memory(
    jobs: int, cgroup_file: str = CGROUP_FILE, cgroup_mount: str = CGROUP_MOUNT, meminfo: str = "/proc/meminfo"
) -> CheckResult:
    """Whether there is memory for the stations and `jobs` warm children."""
    left, whose = float(_read_labeled_number(meminfo, "MemAvailable:") * 1024) or math.inf, "of this machine is free"
    for folder in cgroups("memory", cgroup_file, cgroup_mount):
        most = min(_read_number(f"{folder}/memory.max"), _read_number(f"{folder}/memory.limit_in_bytes"))
        used = min(_read_number(f"{folder}/memory.current"), _read_number(f"{folder}/memory.usage_in_bytes"))
        cache = _read_labeled_number(f"{folder}/memory.stat", "inactive_file") or _read_labeled_number(
            f"{folder}/memory.stat", "total_inactive_file"
        )
        if most < UNLIMITED and most - used + cache < left:
            left, whose = most - used + cache, f"is left of the {format_bytes(most)} that {folder} allows"
    need = STATION_MEMORY_BYTES + jobs * WARM_PROCESS_MEMORY_BYTES
    if left >= need:
        return CheckResult("memory", "ok", f"{format_bytes(left)} {whose}" if left < math.inf else "no limit is known")
    return CheckResult(
        "memory",
        "warn",
        f"{format_bytes(left)} {whose}; pipe takes some {format_bytes(STATION_MEMORY_BYTES)}, and {format_bytes(WARM_PROCESS_MEMORY_BYTES)} for each of {jobs:,} "
        "children of --call: the kernel may kill what is largest",
        "give fewer --jobs and a smaller --window, or more memory",
    )


def check_kernel(syscalls: Mapping[str, Callable[[], int]] | None = None) -> CheckResult:
    """Whether the kernel can do what no run goes without. Each call answers with a descriptor, or raises OSError."""
    tried = syscalls or {
        "pidfd_open": lambda: os.pidfd_open(os.getpid()),
        "memfd_create": lambda: os.memfd_create("try"),
    }
    lacking = []
    for name, call in tried.items():
        try:
            os.close(call())
        except OSError:
            lacking.append(name)
    if not lacking:
        return CheckResult("kernel", "ok", f"{os.uname().sysname} {os.uname().release} has all that is needed")
    says = f"{' and '.join(lacking)} can't be called here: no task can be started"
    return CheckResult("kernel", "bad", says, "use Linux 5.4 or newer, and a sandbox that lets these calls through")


def _count_user_threads(proc: str = "/proc") -> int:
    """Threads of this user, which is what the kernel counts."""
    count = 0
    for name in os.listdir(proc):
        with suppress(OSError):
            if name.isdigit() and os.stat(f"{proc}/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"{proc}/{name}/task"))
    return count


def _read_number(path: str) -> float:
    """The number in a file; inf for `max`, and without a file."""
    with suppress(ValueError):
        return float(read_small_file(path))
    return math.inf


def _read_labeled_number(path: str, label: str) -> int:
    """The number behind a name in a file of such lines; 0 if there is none."""
    rows = (line.split() for line in read_small_file(path).splitlines())
    return next((int(words[1]) for words in rows if len(words) > 1 and words[0] == label), 0)
