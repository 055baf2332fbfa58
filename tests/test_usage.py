"""CPUs and memory of this process and all below it, of real processes."""

from __future__ import annotations

import os
import subprocess
import time

from pipeline.house import usage
from pipeline.house.usage import Usage

PATIENCE = 20.0
BUSY = "while :; do :; done"


def looked(until: float) -> float:
    """CPUs in use, looked at until they are at least so many."""
    own, limit = Usage(), time.monotonic() + PATIENCE
    while (seen := own.look()[0]) < until:
        assert time.monotonic() < limit, f"{seen} CPUs"
        time.sleep(usage.SOON)
    return seen


def test_what_runs_below_is_counted_however_deep() -> None:
    with subprocess.Popen(
        ["sh", "-c", f"(sh -c '(sh -c \"{BUSY}\"); true'; true); true"], start_new_session=True
    ) as deep:
        try:
            assert looked(0.3) < 2 * (os.cpu_count() or 1)
        finally:
            os.killpg(deep.pid, 9)


def test_memory_is_that_of_all() -> None:
    before = Usage().look()[1]
    assert before > 1 << 20
    code = (
        "import sys; own = bytearray(1 << 26); own[::4096] = own[1::4096]; print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(["python3", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout
        child.stdout.readline()
        assert Usage().look()[1] > before + (1 << 26)
        child.communicate()
    assert Usage().look()[1] < before + (1 << 26)


def test_what_has_ended_still_counts() -> None:
    own = Usage()
    subprocess.run(["sh", "-c", "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done"], check=True)
    assert own.look()[0] > 0.05


def test_a_second_look_right_after_sees_the_same() -> None:
    own = Usage()
    first = own.look()
    ballast = bytearray(1 << 24)
    ballast[::4096] = ballast[1::4096]
    assert own.look() == first
