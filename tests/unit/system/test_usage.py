"""CPU and memory use of this process and all below it, with real processes."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress

import psutil

from pipeline.system.resources import ProcessTreeUsage
from tests.support.processes import wait_until

ROUNDING_SECONDS = 0.1
"""The kernel counts CPU time in hundredths of a second, of a process and of its children, and rounds each."""
BUSY = "while :; do :; done"


def descendant_cpu_seconds() -> float:
    """Return the CPU time of all processes below this one, measured in another way than in the product."""
    times = [os.times().children_user + os.times().children_system]
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times.append(sum(child.cpu_times()[:2]))
    return sum(times)


def test_sample_counts_deep_descendants() -> None:
    with subprocess.Popen(
        ["sh", "-c", f"(sh -c '(sh -c \"{BUSY}\"); true'; true); true"], start_new_session=True
    ) as deep:
        try:
            started, usage, before = time.monotonic(), ProcessTreeUsage(), descendant_cpu_seconds()
            wait_until(lambda: descendant_cpu_seconds() - before > 0.5)  # on a loaded machine this takes longer
            spent, cpus = descendant_cpu_seconds() - before, usage.sample()[0]
            assert spent - ROUNDING_SECONDS <= cpus * (time.monotonic() - started)
            assert cpus < 2 * (os.cpu_count() or 1)
        finally:
            os.killpg(deep.pid, 9)


def test_sample_memory_includes_children() -> None:
    before = ProcessTreeUsage().sample()[1]
    assert before > 1 << 20
    code = (
        "import sys; own = bytearray(1 << 26); own[::4096] = own[1::4096]; print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert ProcessTreeUsage().sample()[1] > before + (1 << 26)
        child.communicate()
    assert ProcessTreeUsage().sample()[1] < before + (1 << 26)


def test_sample_counts_ended_children() -> None:
    started, usage, before = time.monotonic(), ProcessTreeUsage(), descendant_cpu_seconds()
    while (spent := descendant_cpu_seconds() - before) < 0.2:
        subprocess.run(["sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"], check=True)
    assert spent - ROUNDING_SECONDS <= usage.sample()[0] * (time.monotonic() - started)


def test_sample_repeated_at_once_is_unchanged() -> None:
    usage = ProcessTreeUsage()
    first = usage.sample()
    ballast = bytearray(1 << 24)
    ballast[::4096] = ballast[1::4096]
    assert usage.sample() == first
