"""Wall time, CPU time and memory of a command, measured over all of its processes.

- Wall time runs from the start of the command to its exit.
- CPU time is user and system time of every descendant, also of one that outlives its parent: `adopt_orphans` makes such
  a process a child of this one, which waits for it.
- Memory is the proportional set size (PSS), so shared pages count once. Sampling costs CPU, so a run whose memory is
  sampled is not one whose time is reported.
"""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

SUBREAPER = 36
"""PR_SET_CHILD_SUBREAPER of <linux/prctl.h>."""
ORPHAN_SECONDS = 30
"""Longest wait for processes that outlive their command."""
SAMPLE_SECONDS = 0.05


class Sample(NamedTuple):
    """The result of one run: its cost in the unit of the workload, and the CPU seconds of all its processes."""

    cost: float
    cpu_seconds: float


class CpuClock:
    """CPU seconds of the processes that were started, and ended, inside `measure_cpu`."""

    def __init__(self) -> None:
        self._start = self._read()
        self.seconds = 0.0

    def stop(self) -> None:
        """Wait for orphans, and store the seconds."""
        _wait_for_children()
        self.seconds = self._read() - self._start

    @staticmethod
    def _read() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime


@contextmanager
def measure_cpu() -> Iterator[CpuClock]:
    """Measure the descendants that are started inside; the caller has waited for its own children at the end."""
    clock = CpuClock()
    yield clock
    clock.stop()


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends, so that their CPU time is not lost."""
    if ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _wait_for_children() -> None:
    deadline = time.monotonic() + ORPHAN_SECONDS
    try:
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.001)
    except ChildProcessError:
        return
    raise RuntimeError(f"a process of the command still runs {ORPHAN_SECONDS} s after its exit")


def run(argv: list[str], stdin: IO[bytes] | int, stdout: IO[bytes] | int) -> tuple[int, Sample]:
    """Return the exit code of a command, and its wall time with its CPU seconds."""
    with measure_cpu() as cpu:
        start = time.perf_counter()
        code = subprocess.run(argv, stdin=stdin, stdout=stdout, check=False).returncode
        wall_seconds = time.perf_counter() - start
    return code, Sample(wall_seconds, cpu.seconds)


def run_for_memory(argv: list[str]) -> tuple[int, Sample]:
    """Return the exit code of a command, and the peak memory in bytes of all its processes with their CPU seconds."""
    peak = 0
    with measure_cpu() as cpu, subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, memory_of_tree(process.pid))
            time.sleep(SAMPLE_SECONDS)
    return process.returncode, Sample(peak, cpu.seconds)


def memory_of_tree(pid: int) -> int:
    """Return the PSS in bytes of a process and all of its descendants; ended processes count 0."""
    folder = Path(f"/proc/{pid}")
    try:
        lines = (folder / "smaps_rollup").read_text().splitlines()
        children = [int(child) for task in folder.glob("task/*/children") for child in task.read_text().split()]
    except OSError:
        return 0
    own = sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return own + sum(memory_of_tree(child) for child in children)
