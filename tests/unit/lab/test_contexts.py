"""The lab's contexts and relay programs, run in this process to check for leftovers."""

from __future__ import annotations

import os
import re
import signal
import time
from functools import partial

import pytest
from psutil import Process, pid_exists

from pipeline.lab import contexts, relay
from pipeline.lab.forks import fork_children, wait_for_exit
from pipeline.lab.table import table
from tests.support.lab_programs import TIMEOUT_SECONDS, becomes_true

pytestmark = pytest.mark.usefixtures("tidy")


def test_context_is_used_only_by_its_process(capsys: pytest.CaptureFixture[str]) -> None:
    assert contexts.main(processes=2, threads=3) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    rows = [re.split(r"  +", line) for line in lines]
    assert head.split() == ["requester", "pid", "context", "thread", "outcome"]
    assert [row[0] for row in rows] == ["process"] * 2 + ["thread"] * 3 + ["forked child"]
    pids = [int(row[1]) for row in rows]
    assert len({*pids[:2], pids[5], os.getpid()}) == 4
    assert pids[2:5] == [os.getpid()] * 3
    assert len({row[3] for row in rows[2:5]}) == 3
    assert [row[2] for row in rows[:5]] == [f"of {pid}" for pid in pids[:5]]
    assert rows[5][2] not in {f"of {pid}" for pid in pids}
    assert [row[4] for row in rows] == ["works"] * 5 + ["hangs: killed by the watchdog"]


@pytest.mark.parametrize("transport", ["inproc", "ipc"])
def test_relay_baton_passes_each_step(transport: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert relay.main(transport=transport, steps=5) == 0
    *steps, last = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in steps] == [f"step {number}" for number in range(1, 6)]
    processes = {line.split()[-1] for line in steps}
    assert len(processes) == (1 if transport == "inproc" else 5)
    assert (str(os.getpid()) in processes) == (transport == "inproc")
    assert last.startswith(f"5 of 5 steps over {transport}, ")


def test_relay_reports_a_lost_baton(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "TIMEOUT_MS", 200)
    monkeypatch.setattr(relay, "run_step", lambda *_: None)
    assert relay.main(transport="inproc", steps=2) == 1
    assert "0 of 2 steps" in capsys.readouterr().out


def test_child_exits_with_its_return_value() -> None:
    with fork_children([lambda: 5, lambda: None, partial(time.sleep, 2 * TIMEOUT_SECONDS)]) as pids:
        assert [wait_for_exit(pid, TIMEOUT_SECONDS) for pid in pids[:2]] == [5, 0]
        assert wait_for_exit(pids[2], 0) is None
        os.kill(pids[2], signal.SIGTERM)
        assert wait_for_exit(pids[2], TIMEOUT_SECONDS) == -signal.SIGTERM
    assert not any(pid_exists(pid) for pid in pids)


def test_children_are_killed_after_an_error() -> None:
    pids: list[int] = []

    def interrupted() -> None:
        with fork_children([partial(time.sleep, 2 * TIMEOUT_SECONDS)] * 2) as made:
            pids.extend(made)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert len(pids) == 2
    assert not any(pid_exists(pid) for pid in pids)


def test_children_do_not_outlive_a_killed_parent() -> None:
    read, write = os.pipe()

    def parent() -> int:
        with fork_children([partial(time.sleep, 2 * TIMEOUT_SECONDS)]) as pids:
            os.write(write, f"{pids[0]}\n".encode())
            time.sleep(2 * TIMEOUT_SECONDS)
        return 0

    with os.fdopen(read) as output, os.fdopen(write, "w"), fork_children([parent]) as pids:
        child = int(output.readline())
        os.kill(pids[0], signal.SIGKILL)
        assert becomes_true(lambda: not pid_exists(child) or Process(child).status() == "zombie")


def test_table_aligns_numbers_right() -> None:
    rows = [("one", 1, 0.25, "x"), ("three", 300, 12.0, "y z")]
    assert table(("name", "n", "seconds", "how"), rows) == (
        "name     n  seconds  how\none      1      0.2  x\nthree  300     12.0  y z"
    )
    assert table(("name", "n"), []) == "name  n"
