"""Real processes: how they start and end, and that nothing below a keeper outlives anybody's kill -9."""

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
    'What a worker is to its keeper: it has a family, and ends when asked often enough, or alone.'
    asked = []
    with SignalPipe() as signals:
        family(folder, name)
        while len(asked) < stops:
            ready = select.select([signals, monitor_fd()], [], [])[0]
            for signum in signals.read():
                asked.append(signum)
                print(signum, flush=True)
            if monitor_fd() in ready:
                kill_descendants()
                return 9
    return 5

def kept(folder, stops):
    try:
        code = run_under_monitor(lambda: agent(folder, "agent", int(stops)))
    except PipelineError as error:
        sys.exit(str(error))
    sys.exit(code)
"""


def fails() -> int:
    raise ZeroDivisionError


def leaves(code: object) -> int:
    raise SystemExit(code)


def dies() -> int:
    os.kill(os.getpid(), KILL)
    return 0


@pytest.mark.parametrize(
    ("run", "status"),
    [
        (lambda: 7, 7),
        (lambda: leaves(4), 4),
        (lambda: leaves(None), 0),
        (lambda: leaves("a sentence"), 1),
        (fails, 70),
        (dies, -KILL),
    ],
)
def test_a_child_ends_as_what_it_ran(run: Callable[[], int], status: int) -> None:
    child = fork(run)
    assert select.select([child.pidfd], [], [], 10)[0] == [child.pidfd]
    assert child.reap() == status
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(child.pidfd)


def test_an_exception_leaves_its_traceback() -> None:
    read, write = os.pipe()

    def run() -> int:
        os.dup2(write, 2)
        sys.stderr = os.fdopen(2, "w")
        return fails()

    assert fork(run).reap() == 70
    os.close(write)
    with open(read, encoding="utf-8") as told:
        assert told.read().rstrip().endswith("ZeroDivisionError")


def test_text_of_the_parent_is_written_once() -> None:
    code = "import sys; from pipeline.system.processes import fork\n"
    code += "sys.stdout.write('parent '); child = fork(lambda: sys.stdout.write('child ') and 0); child.reap()"
    parent = run_script(code)
    assert parent.communicate(timeout=30)[0] == "parent child "


def test_only_a_child_has_a_keeper() -> None:
    assert monitor_fd() is None
    assert fork(lambda: monitor_fd() is not None).reap() == 1


def test_signals_to_the_ended_are_lost() -> None:
    child = fork(lambda: 0)
    select.select([child.pidfd], [], [], 10)
    child.send_signal(TERM)
    child.forward_signal(INT)
    assert child.reap() == 0


def test_each_child_sees_the_end_of_its_keeper_whatever_its_siblings_do(tmp_path: Path) -> None:
    code = "[fork(lambda name=name: agent(sys.argv[1], name)) for name in ('one', 'two')]; time.sleep(1000)"
    keeper = run_script(AGENT + code, tmp_path)
    members = wait_for_pids(tmp_path, "one", "two")
    os.kill(members["one"], signal.SIGSTOP)
    keeper.kill()
    wait_until(lambda: not is_alive(members["two"]), 2)
    assert_none_alive({name: pid for name, pid in members.items() if name.startswith("two")})
    assert is_alive(members["one"])
    os.kill(members["one"], signal.SIGCONT)
    assert_none_alive(members)
    keeper.communicate()


def test_all_descendants_are_killed_but_those_to_keep(tmp_path: Path) -> None:
    code = """
become_subreaper()
family(sys.argv[1], "own")
child = fork(lambda: agent(sys.argv[1], "kept"))
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
    above = run_script(AGENT + code, tmp_path)
    members = wait_for_pids(tmp_path, "own", "kept")
    forker = {"forker": int(read_line(above))}
    (tmp_path / "go").touch()
    wait_until((tmp_path / "first").exists)
    own = {name: pid for name, pid in members.items() if name.startswith("own-")}
    assert_none_alive(own | forker)
    kept = {name: pid for name, pid in members.items() if name.startswith("kept")}
    assert all(map(is_alive, kept.values()))
    (tmp_path / "go").unlink()
    wait_until((tmp_path / "second").exists)
    assert_none_alive(kept)
    assert (above.wait(10), above.communicate()[1]) == (0, "")


def test_strays_that_have_ended_are_reaped_and_own_children_are_not(tmp_path: Path) -> None:
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
    keeper = run_script(AGENT + code, tmp_path)
    assert keeper.communicate(timeout=30) == ("", "")
    assert keeper.returncode == KILL


def test_who_has_no_keeper_reaps_no_strays() -> None:
    child = fork(lambda: 7)
    select.select([child.pidfd], [], [], 10)
    reap_orphans([])
    assert child.reap() == 7


def test_when_the_child_has_ended_its_keeper_takes_its_exit_code_and_its_family(tmp_path: Path) -> None:
    keeper = run_script(AGENT + "kept(*sys.argv[1:])", tmp_path, 1)
    members = wait_for_pids(tmp_path, "agent")
    keeper.send_signal(TERM)
    assert keeper.communicate(timeout=30) == ("15\n", "")
    assert keeper.returncode == 5
    assert_none_alive(members)


def test_when_the_child_was_killed_its_keeper_says_so(tmp_path: Path) -> None:
    keeper = run_script(AGENT + "kept(*sys.argv[1:])", tmp_path, 1)
    members = wait_for_pids(tmp_path, "agent")
    os.kill(members["agent"], KILL)
    assert keeper.communicate(timeout=30) == ("", "the worker was killed by SIGKILL\n")
    assert_none_alive(members)


def test_when_the_keeper_was_killed_nothing_is_left(tmp_path: Path) -> None:
    keeper = run_script(AGENT + "kept(*sys.argv[1:])", tmp_path, 1)
    members = wait_for_pids(tmp_path, "agent")
    keeper.kill()
    assert_none_alive(members)
    keeper.communicate()


def test_signals_to_keeper_and_child_alike_count_once(tmp_path: Path) -> None:
    keeper = run_script(AGENT + "kept(*sys.argv[1:])", tmp_path, 4)
    members = wait_for_pids(tmp_path, "agent")
    for signum, told in ((INT, "2\n"), (TERM, "15\n"), (signal.SIGHUP, ""), (INT, "2\n"), (TERM, "15\n")):
        os.kill(members["agent"], signum)
        keeper.send_signal(signum)
        assert told == "" or read_line(keeper) == told
    assert keeper.communicate(timeout=30) == ("", "")
    assert keeper.returncode == 5
