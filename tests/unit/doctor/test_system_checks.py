"""Checks of limits, cgroups, CPUs and memory on simulated machines."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import pytest

from pipeline.doctor import system_checks

MIB = 1 << 20


class Cgroup:
    """The files of a process in the cgroup `/a/b`, of v2 or, with `controller`, of v1."""

    def __init__(self, root: Path, controller: str = "") -> None:
        self.membership, self.mount, self._controller = str(root / "membership"), str(root / "mount"), controller
        (root / "membership").write_text(f"3:{controller}:/a/b\n" if controller else "0::/a/b\n")

    def write(self, **files: str) -> Cgroup:
        """Write files: `a__x_of_y` is x.y of /a, `x_of_y` is of /a/b."""
        for name, text in files.items():
            directory, _, file = name.rpartition("__")
            folder = Path(self.mount, self._controller, directory or "a/b")
            folder.mkdir(parents=True, exist_ok=True)
            (folder / file.replace("_of_", ".")).write_text(text)
        return self


@pytest.mark.parametrize(
    ("jobs", "workers", "hard", "state"),
    [
        (8, 1, 1024, "ok"),
        (8, 1, resource.RLIM_INFINITY, "ok"),
        (192, 1, 1024, "ok"),
        (193, 1, 1024, "bad"),
        (1, 121, 1024, "bad"),
    ],
)
def test_check_open_files_below_need_is_bad(jobs: int, workers: int, hard: int, state: str) -> None:
    result = system_checks.check_open_files(jobs, workers, hard)
    assert result.state == state
    assert ("LimitNOFILE=" in result.fix) is (state == "bad")


@pytest.mark.parametrize(
    ("jobs", "limit", "running", "state", "detail"),
    [
        (100, resource.RLIM_INFINITY, 0, "ok", "unlimited"),
        (100, 1000, 100, "ok", "is 1,000, and 100 are running"),
        (40, 1000, 950, "warn", "40 concurrent tasks need 48 more: tasks that start other"),
        (100, 1000, 980, "bad", "100 concurrent tasks need 108 more: they cannot be started"),
    ],
)
def test_check_processes_without_headroom_is_not_ok(
    jobs: int, limit: int, running: int, state: str, detail: str
) -> None:
    result = system_checks.check_processes(jobs, limit, running)
    assert (result.state, detail in result.detail, bool(result.fix)) == (state, True, state != "ok")


def test_count_user_threads_counts_all_processes(tmp_path: Path) -> None:
    for pid, threads in (("1", 1), ("22", 3)):
        for number in range(threads):
            (tmp_path / pid / "task" / str(number)).mkdir(parents=True)
    (tmp_path / "meminfo").touch()
    assert system_checks._count_user_threads(str(tmp_path)) == 4
    assert system_checks._count_user_threads() > 0


@pytest.mark.parametrize("controller", ["", "pids"])
def test_check_cgroup_processes_uses_tightest_limit(tmp_path: Path, controller: str) -> None:
    cgroup = Cgroup(tmp_path, controller)
    assert system_checks.check_cgroup_processes(4, cgroup.membership, cgroup.mount).state == "ok"
    cgroup.write(pids_of_max="max\n", pids_of_current="7\n", a__pids_of_max="30\n", a__pids_of_current="20\n")
    result = system_checks.check_cgroup_processes(4, cgroup.membership, cgroup.mount)
    assert (result.state, "pids.max of " in result.detail, "/a is 30, and 20 are running" in result.detail) == (
        "bad",
        True,
        True,
    )
    assert "TasksMax=" in result.fix
    assert system_checks.check_cgroup_processes(1, cgroup.membership, cgroup.mount).state == "warn"
    cgroup.write(a__pids_of_max="3000\n")
    assert system_checks.check_cgroup_processes(4, cgroup.membership, cgroup.mount).state == "ok"


def test_check_cpus_fraction_warns(tmp_path: Path) -> None:
    cgroup = Cgroup(tmp_path).write(cpu_of_max="50000 100000\n")
    result = system_checks.check_cpus(cgroup.membership, cgroup.mount)
    assert (result.state, "0.5 of a CPU" in result.detail, "--heartbeat-timeout" in result.fix) == ("warn", True, True)
    cgroup.write(cpu_of_max="150000 100000\n")
    result = system_checks.check_cpus(cgroup.membership, cgroup.mount, 64)
    assert result.state == "ok"
    assert " of 64 are usable (" in result.detail
    cgroup.write(cpu_of_max="max 100000\n")
    assert "cgroup" not in system_checks.check_cpus(cgroup.membership, cgroup.mount, 64).detail


@pytest.mark.parametrize("controller", ["", "memory"])
def test_check_memory_uses_tightest_cgroup(tmp_path: Path, controller: str) -> None:
    cgroup = Cgroup(tmp_path, controller)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:   {8 << 20} kB\n")
    paths = (cgroup.membership, cgroup.mount, str(meminfo))
    assert (system_checks.check_memory(4, *paths).state, system_checks.check_memory(4, *paths).detail) == (
        "ok",
        "8.0 GiB free on this machine",
    )
    assert system_checks.check_memory(1000, *paths).state == "warn"
    if controller:
        cgroup.write(a__memory_of_limit_in_bytes=str(600 * MIB), a__memory_of_usage_in_bytes=str(500 * MIB))
        cgroup.write(memory_of_limit_in_bytes="9223372036854771712", memory_of_usage_in_bytes="1")
    else:
        cgroup.write(a__memory_of_max=str(600 * MIB), a__memory_of_current=str(500 * MIB), memory_of_max="max\n")
    result = system_checks.check_memory(4, *paths)
    assert (result.state, result.detail.startswith("100 MiB free of the 600 MiB that ")) == ("warn", True)
    cgroup.write(a__memory_of_stat=f"anon 5\ninactive_file {400 * MIB}\n")  # a cache is reclaimable
    assert system_checks.check_memory(4, *paths).state == "ok"


def test_check_memory_without_limits_is_ok(tmp_path: Path) -> None:
    assert (
        system_checks.check_memory(10**9, str(tmp_path / "m"), str(tmp_path), str(tmp_path / "i")).detail
        == "no limit known"
    )
    assert system_checks._read_number(str(tmp_path / "none")) == math.inf


def test_check_kernel_missing_call_is_bad() -> None:
    def refuse() -> int:
        raise PermissionError

    before = os.listdir("/proc/self/fd")
    assert system_checks.check_kernel().state == "ok"
    assert os.listdir("/proc/self/fd") == before
    result = system_checks.check_kernel({"memfd_create": refuse, "pidfd_open": lambda: os.open("/", os.O_RDONLY)})
    assert (result.state, result.detail.startswith("memfd_create not available"), bool(result.fix)) == (
        "bad",
        True,
        True,
    )
