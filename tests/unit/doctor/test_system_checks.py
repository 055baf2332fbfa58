"""Limits and cgroups, of machines that the test makes up."""

from __future__ import annotations

import math
import os
import resource
from pathlib import Path

import pytest

from pipeline.doctor import system_checks

MIB = 1 << 20


class Cgroup:
    """A process in the cgroup `/a/b`, of v2 or, with `controller`, of v1."""

    def __init__(self, root: Path, controller: str = "") -> None:
        self.membership, self.mount, self._controller = str(root / "membership"), str(root / "mount"), controller
        (root / "membership").write_text(f"3:{controller}:/a/b\n" if controller else "0::/a/b\n")

    def holds(self, **files: str) -> Cgroup:
        """With these files; `a__x` is x of /a, `x` alone is of /a/b."""
        for name, text in files.items():
            where, _, file = name.rpartition("__")
            folder = Path(self.mount, self._controller, where or "a/b")
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
def test_open_files_must_do_for_the_slots_and_for_the_lanes(jobs: int, workers: int, hard: int, state: str) -> None:
    found = system_checks.check_open_files(jobs, workers, hard)
    assert found.state == state
    assert ("LimitNOFILE=" in found.fix) is (state == "bad")


@pytest.mark.parametrize(
    ("jobs", "limit", "running", "state", "says"),
    [
        (100, resource.RLIM_INFINITY, 0, "ok", "any number"),
        (100, 1000, 100, "ok", "may have 1,000 and has 100"),
        (40, 1000, 950, "warn", "40 tasks at a time are 48 more: tasks that start others may fail"),
        (100, 1000, 980, "bad", "100 tasks at a time are 108 more: they can't be started"),
    ],
)
def test_processes_must_do_for_the_tasks(jobs: int, limit: int, running: int, state: str, says: str) -> None:
    found = system_checks.check_processes(jobs, limit, running)
    assert (found.state, says in found.detail, bool(found.fix)) == (state, True, state != "ok")


def test_the_processes_of_this_user_are_counted(tmp_path: Path) -> None:
    for pid, threads in (("1", 1), ("22", 3)):
        for number in range(threads):
            (tmp_path / pid / "task" / str(number)).mkdir(parents=True)
    (tmp_path / "meminfo").touch()
    assert system_checks._count_user_threads(str(tmp_path)) == 4
    assert system_checks._count_user_threads() > 0


@pytest.mark.parametrize("controller", ["", "pids"])
def test_the_tightest_cgroup_says_how_many_processes(tmp_path: Path, controller: str) -> None:
    there = Cgroup(tmp_path, controller)
    assert system_checks.check_cgroup_processes(4, there.membership, there.mount).state == "ok"
    there.holds(pids_of_max="max\n", pids_of_current="7\n", a__pids_of_max="30\n", a__pids_of_current="20\n")
    found = system_checks.check_cgroup_processes(4, there.membership, there.mount)
    assert (found.state, "pids.max of " in found.detail, "/a is 30, and 20 are there" in found.detail) == (
        "bad",
        True,
        True,
    )
    assert "TasksMax=" in found.fix
    assert system_checks.check_cgroup_processes(1, there.membership, there.mount).state == "warn"
    there.holds(a__pids_of_max="3000\n")
    assert system_checks.check_cgroup_processes(4, there.membership, there.mount).state == "ok"


def test_a_part_of_a_cpu_bites(tmp_path: Path) -> None:
    there = Cgroup(tmp_path).holds(cpu_of_max="50000 100000\n")
    found = system_checks.check_cpus(there.membership, there.mount)
    assert (found.state, "0.5 of a CPU" in found.detail, "--liveness" in found.fix) == ("warn", True, True)
    there.holds(cpu_of_max="150000 100000\n")
    found = system_checks.check_cpus(there.membership, there.mount, 64)
    assert found.state == "ok"
    assert " of 64 are usable (" in found.detail
    there.holds(cpu_of_max="max 100000\n")
    assert "cgroup" not in system_checks.check_cpus(there.membership, there.mount, 64).detail


@pytest.mark.parametrize("controller", ["", "memory"])
def test_memory_is_what_the_tightest_cgroup_leaves(tmp_path: Path, controller: str) -> None:
    there = Cgroup(tmp_path, controller)
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal: 1 kB\nMemAvailable:   {8 << 20} kB\n")
    where = (there.membership, there.mount, str(meminfo))
    assert (system_checks.check_memory(4, *where).state, system_checks.check_memory(4, *where).detail) == (
        "ok",
        "8.0 GiB of this machine is free",
    )
    assert system_checks.check_memory(1000, *where).state == "warn"
    if controller:
        there.holds(a__memory_of_limit_in_bytes=str(600 * MIB), a__memory_of_usage_in_bytes=str(500 * MIB))
        there.holds(memory_of_limit_in_bytes="9223372036854771712", memory_of_usage_in_bytes="1")
    else:
        there.holds(a__memory_of_max=str(600 * MIB), a__memory_of_current=str(500 * MIB), memory_of_max="max\n")
    found = system_checks.check_memory(4, *where)
    assert (found.state, found.detail.startswith("100 MiB is left of the 600 MiB that ")) == ("warn", True)
    there.holds(a__memory_of_stat=f"anon 5\ninactive_file {400 * MIB}\n")  # a cache gives way
    assert system_checks.check_memory(4, *where).state == "ok"


def test_where_nothing_is_known_of_memory_nothing_bites(tmp_path: Path) -> None:
    assert (
        system_checks.check_memory(10**9, str(tmp_path / "m"), str(tmp_path), str(tmp_path / "i")).detail
        == "no limit is known"
    )
    assert system_checks._read_number(str(tmp_path / "none")) == math.inf


def test_a_kernel_that_lacks_a_call_can_run_nothing() -> None:
    def refused() -> int:
        raise PermissionError

    before = os.listdir("/proc/self/fd")
    assert system_checks.check_kernel().state == "ok"
    assert os.listdir("/proc/self/fd") == before
    found = system_checks.check_kernel({"memfd_create": refused, "pidfd_open": lambda: os.open("/", os.O_RDONLY)})
    assert (found.state, found.detail.startswith("memfd_create can't be called here"), bool(found.fix)) == (
        "bad",
        True,
        True,
    )
