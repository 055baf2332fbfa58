"""CPUs and memory of this process and all below it, of real processes."""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress

import psutil

from pipeline.system.resources import ProcessTreeUsage
from tests.support.processes import wait_until

HUNDREDTHS = 0.1
"""Seconds: the kernel counts CPU time in hundredths, of a process and of its children, and each is rounded."""
BUSY = "while :; do :; done"


def spent_below() -> float:
    """Seconds of CPU time of all below this process, by another way than the product's."""
    times = [os.times().children_user + os.times().children_system]
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            times.append(sum(child.cpu_times()[:2]))
    return sum(times)


def test_what_runs_below_is_counted_however_deep() -> None:
    with subprocess.Popen(
        ["sh", "-c", f"(sh -c '(sh -c \"{BUSY}\"); true'; true); true"], start_new_session=True
    ) as deep:
        try:
            began, own, before = time.monotonic(), ProcessTreeUsage(), spent_below()
            wait_until(lambda: spent_below() - before > 0.5)  # however little of a CPU it is given
            spent, cpus = spent_below() - before, own.sample()[0]
            assert spent - HUNDREDTHS <= cpus * (time.monotonic() - began)
            assert cpus < 2 * (os.cpu_count() or 1)
        finally:
            os.killpg(deep.pid, 9)


def test_memory_is_that_of_all() -> None:
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


def test_what_has_ended_still_counts() -> None:
    began, own, before = time.monotonic(), ProcessTreeUsage(), spent_below()
    while (spent := spent_below() - before) < 0.2:
        subprocess.run(["sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"], check=True)
    assert spent - HUNDREDTHS <= own.sample()[0] * (time.monotonic() - began)


def test_a_second_look_right_after_sees_the_same() -> None:
    own = ProcessTreeUsage()
    first = own.sample()
    ballast = bytearray(1 << 24)
    ballast[::4096] = ballast[1::4096]
    assert own.sample() == first
