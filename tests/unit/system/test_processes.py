"""Real processes: start, exit, signals, and the end of all descendants after a `kill -9`."""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.system.processes import fork, monitor_fd, reap_orphans
from tests.support.processes import assert_none_alive, is_alive, read_line, run_script, wait_for_pids, wait_until

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL

AGENT = """
import select
from pipeline.model.errors import PipelineError
from pipeline.system.processes import become_subreaper, fork, run_under_monitor, monitor_fd, kill_descendants
from pipeline.system.signals import SignalPipe

def agent(folder, name="agent", stops=1):
    'A monitored process with descendants: it exits after some signals, or when its monitor dies.'
    received = []
    with SignalPipe() as signals:
        family(folder, name)
        while len(received) < stops:
            ready = select.select([signals, monitor_fd()], [], [])[0]
            for signum in signals.read():
                received.append(signum)
                print(signum, flush=True)
            if monitor_fd() in ready:
                kill_descendants()
                return 9
    return 5

def run_monitored(folder, stops):
    try:
        code = run_under_monitor(lambda: agent(folder, "agent", int(stops)))
    except PipelineError as error:
        sys.exit(str(error))
    sys.exit(code)
"""


def fail() -> int:
    raise ZeroDivisionError


def exit_with(code: object) -> int:
    raise SystemExit(code)


def kill_self() -> int:
    os.kill(os.getpid(), KILL)
    return 0


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (lambda: 7, 7),
        (lambda: exit_with(4), 4),
        (lambda: exit_with(None), 0),
        (lambda: exit_with("a message"), 1),
        (fail, 70),
        (kill_self, -KILL),
    ],
)
def test_fork_returns_exit_status_of_function(run: Callable[[], int], status: int) -> None:
    child = fork(run)
    assert select.select([child.pidfd], [], [], 10)[0] == [child.pidfd]
    assert child.reap() == status
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(child.pidfd)


def test_fork_exception_prints_traceback() -> None:
    read, write = os.pipe()

    def run() -> int:
        os.dup2(write, 2)
        sys.stderr = os.fdopen(2, "w")
        return fail()

    assert fork(run).reap() == 70
    os.close(write)
    with open(read, encoding="utf-8") as stderr:
        assert stderr.read().rstrip().endswith("ZeroDivisionError")


def test_fork_buffered_output_is_written_once() -> None:
    code = "import sys; from pipeline.system.processes import fork\n"
    code += "sys.stdout.write('parent '); child = fork(lambda: sys.stdout.write('child ') and 0); child.reap()"
    parent = run_script(code)
    assert parent.communicate(timeout=30)[0] == "parent child "


def test_monitor_fd_exists_in_child_only() -> None:
    assert monitor_fd() is None
    assert fork(lambda: monitor_fd() is not None).reap() == 1


def test_send_signal_to_ended_process_does_nothing() -> None:
    child = fork(lambda: 0)
    select.select([child.pidfd], [], [], 10)
    child.send_signal(TERM)
    child.forward_signal(INT)
    assert child.reap() == 0


def test_monitor_fd_with_stopped_sibling_reports_death(tmp_path: Path) -> None:
    code = "[fork(lambda name=name: agent(sys.argv[1], name)) for name in ('one', 'two')]; time.sleep(1000)"
    monitor = run_script(AGENT + code, tmp_path)
    pids = wait_for_pids(tmp_path, "one", "two")
    os.kill(pids["one"], signal.SIGSTOP)
    monitor.kill()
    assert_none_alive({name: pid for name, pid in pids.items() if name.startswith("two")})
    assert is_alive(pids["one"])
    os.kill(pids["one"], signal.SIGCONT)
    assert_none_alive(pids)
    monitor.communicate()


def test_kill_descendants_spares_excepted_pids(tmp_path: Path) -> None:
    code = """
become_subreaper()
family(sys.argv[1], "own")
child = fork(lambda: agent(sys.argv[1], "excepted"))
forker = subprocess.Popen(["sh", "-c", "while :; do sleep 1000 & sleep 0.001; done"])
print(forker.pid, flush=True)
while not os.path.exists(sys.argv[1] + "/go"):
    time.sleep(0.01)
assert kill_descendants(except_pids={child.pid}) == []
note(sys.argv[1], "first", 0)
while os.path.exists(sys.argv[1] + "/go"):
    time.sleep(0.01)
assert kill_descendants() == []
note(sys.argv[1], "second", 0)
assert kill_descendants() == []
"""
    parent = run_script(AGENT + code, tmp_path)
    pids = wait_for_pids(tmp_path, "own", "excepted")
    forker = {"forker": int(read_line(parent))}
    (tmp_path / "go").touch()
    wait_until((tmp_path / "first").exists)
    own = {name: pid for name, pid in pids.items() if name.startswith("own-")}
    assert_none_alive(own | forker)
    excepted = {name: pid for name, pid in pids.items() if name.startswith("excepted")}
    assert all(map(is_alive, excepted.values()))
    (tmp_path / "go").unlink()
    wait_until((tmp_path / "second").exists)
    assert_none_alive(excepted)
    assert (parent.wait(10), parent.communicate()[1]) == (0, "")


def test_reap_orphans_leaves_own_children(tmp_path: Path) -> None:
    code = """
from pipeline.system.processes import list_children, reap_orphans
def agent():
    own = subprocess.Popen(["sleep", "1000"])
    for seconds in ("0.01", "0.02", "1000"):
        subprocess.run(["sh", "-c", f"sleep {seconds} & :"])
    deadline = time.monotonic() + 25
    while len(list_children()) > 2:
        assert time.monotonic() < deadline
        reap_orphans([own.pid])
    own.kill()
    os.waitid(os.P_PID, own.pid, os.WEXITED | os.WNOWAIT)
    reap_orphans([own.pid])
    return -own.wait()
sys.exit(run_under_monitor(agent))
"""
    monitor = run_script(AGENT + code, tmp_path)
    assert monitor.communicate(timeout=30) == ("", "")
    assert monitor.returncode == KILL


def test_reap_orphans_without_monitor_does_nothing() -> None:
    child = fork(lambda: 7)
    select.select([child.pidfd], [], [], 10)
    reap_orphans([])
    assert child.reap() == 7


def test_monitor_returns_exit_code_and_kills_descendants(tmp_path: Path) -> None:
    monitor = run_script(AGENT + "run_monitored(*sys.argv[1:])", tmp_path, 1)
    pids = wait_for_pids(tmp_path, "agent")
    monitor.send_signal(TERM)
    assert monitor.communicate(timeout=30) == ("15\n", "")
    assert monitor.returncode == 5
    assert_none_alive(pids)


def test_monitor_of_killed_child_raises(tmp_path: Path) -> None:
    monitor = run_script(AGENT + "run_monitored(*sys.argv[1:])", tmp_path, 1)
    pids = wait_for_pids(tmp_path, "agent")
    os.kill(pids["agent"], KILL)
    assert monitor.communicate(timeout=30) == ("", "the worker was killed by SIGKILL\n")
    assert_none_alive(pids)


def test_killed_monitor_leaves_no_processes(tmp_path: Path) -> None:
    monitor = run_script(AGENT + "run_monitored(*sys.argv[1:])", tmp_path, 1)
    pids = wait_for_pids(tmp_path, "agent")
    monitor.kill()
    assert_none_alive(pids)
    monitor.communicate()


def test_signal_to_monitor_and_child_counts_once(tmp_path: Path) -> None:
    monitor = run_script(AGENT + "run_monitored(*sys.argv[1:])", tmp_path, 4)
    pids = wait_for_pids(tmp_path, "agent")
    for signum, line in ((INT, "2\n"), (TERM, "15\n"), (signal.SIGHUP, ""), (INT, "2\n"), (TERM, "15\n")):
        os.kill(pids["agent"], signum)
        monitor.send_signal(signum)
        assert line == "" or read_line(monitor) == line
    assert monitor.communicate(timeout=30) == ("", "")
    assert monitor.returncode == 5
