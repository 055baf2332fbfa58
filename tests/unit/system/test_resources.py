"""CPUs, cgroups and limits, with simulated files and real limits."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.system.resources import raise_descriptor_limit, usable_cpus

CPUS = len(os.sched_getaffinity(0))


def usable_cpus_in_cgroup(tmp_path: Path, line: str, files: dict[str, str]) -> int:
    """Return usable_cpus() of a process in this cgroup, with these files below the mount."""
    membership = tmp_path / "membership"
    membership.write_text(f"9:name=systemd:/\n{line}\n")
    for name, content in files.items():
        path = tmp_path / "mount" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return usable_cpus(str(membership), str(tmp_path / "mount"))


def test_usable_cpus_without_cgroup_is_affinity(tmp_path: Path) -> None:
    assert usable_cpus(str(tmp_path / "none"), str(tmp_path)) == CPUS


def test_usable_cpus_bound_to_one_cpu_is_one() -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    code += "from pipeline.system.resources import usable_cpus; print(usable_cpus())"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"1\n"


@pytest.mark.parametrize(
    ("line", "files", "cpus"),
    [
        ("0::/", {"cpu.max": "max 100000\n"}, CPUS),
        ("0::/a/b", {"a/b/cpu.max": "20000 100000\n"}, 1),
        ("0::/a/b", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "100000 100000\n"}, 1),
        ("0::/not/visible/here", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/a", {"a/cpu.max": "110000 100000\n"}, min(CPUS, 2)),
        ("3:cpu,cpuacct:/a", {"cpu,cpuacct/a/cpu.cfs_quota_us": "1", "cpu,cpuacct/a/cpu.cfs_period_us": "9"}, 1),
        ("3:cpu:/a", {"cpu/cpu.cfs_quota_us": "9", "cpu/cpu.cfs_period_us": "9"}, 1),
        ("3:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "9"}, CPUS),
        ("3:cpuset:/", {"cpuset/cpu.max": "1 1"}, CPUS),
    ],
)
def test_usable_cpus_uses_tightest_quota(tmp_path: Path, line: str, files: dict[str, str], cpus: int) -> None:
    assert usable_cpus_in_cgroup(tmp_path, line, files) == cpus


def test_raise_descriptor_limit_reaches_hard_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 100), hard))
        assert raise_descriptor_limit() == hard
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


FAULTS = """
import ctypes, resource, sys
from pipeline.system import resources
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE: where the kernel gives huge pages, a fault is 2 MB
if "keep" in sys.argv:
    resources.disable_heap_trim()
counts = []
for _ in range(4):
    chunks = [b"x" * (8 << 20) for _ in range(5)]
    del chunks
    counts.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(counts[-1] - counts[0])
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this libc has no mallopt")
def test_disable_heap_trim_avoids_page_faults() -> None:
    faults = [
        int(subprocess.run([sys.executable, "-c", FAULTS, mode], capture_output=True, check=True).stdout)
        for mode in ("keep", "trim")
    ]
    pages = 3 * 5 * (8 << 20) // resource.getpagesize()
    assert faults[0] < pages // 10 < faults[1]
