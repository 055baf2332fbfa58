"""Runs of real processes under the launcher: exit codes, messages, and no orphans after kill -9."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from pipeline.runtime.supervisor import NO_RESTART_REASONS
from tests.support.processes import assert_none_alive, is_alive, read_line, run_script, wait_for_pids, wait_until

INT, TERM, KILL = signal.SIGINT, signal.SIGTERM, signal.SIGKILL

STATIONS = """
import select, signal
from pipeline.model.events import WORKER_DEAD
from pipeline.runtime.launcher import ProcessSpec, launch
from pipeline.system.processes import monitor_fd, kill_descendants
from pipeline.system.signals import SignalPipe

folder = sys.argv[1]

def say(text):
    print(text, flush=True)

def station(name, ends=1):
    'Run until `ends` stop signals (128 + signal), a file with an exit code, or the end of the monitor.'
    def run():
        asked = []
        with SignalPipe() as signals:
            family(folder, name)
            while len(asked) < ends and not os.path.exists(f"{folder}/{name}.ends"):
                ready = select.select([signals, monitor_fd()], [], [], 0.01)[0]
                asked += [signum for signum in signals.read() if signum != WORKER_DEAD]
                if len(asked) == 1:
                    note(folder, f"{name}.asked", 1)
                if monitor_fd() in ready:
                    kill_descendants()
                    return 9
        kill_descendants()
        return 128 + asked[-1] if asked else int(open(f"{folder}/{name}.ends").read())
    return run

def launch_stations(sink_ends=1, verbose=False, again=None):
    specs = [ProcessSpec("sink", station("sink", sink_ends), again), ProcessSpec("ventilator", station("ventilator"),
    again)]
    specs += [ProcessSpec(name, station(name), station(name)) for name in ("worker-1", "worker-2")]
    sys.exit(launch(specs, say, verbose=verbose))
"""
LONG_GRACE = "from pipeline.runtime import supervisor\nsupervisor.TERMINATE_GRACE_SECONDS = 60.0\n"
"""With this grace, a process that ends within 30 seconds has not waited for SIGKILL, however slow the machine is."""
NAMES = ("sink", "ventilator", "worker-1", "worker-2")


def let_end(folder: Path, **codes: int) -> None:
    """Let these processes end with their exit codes (`w1` is worker-1)."""
    for name, code in codes.items():
        path = folder / "ends"
        path.write_text(str(code))
        path.rename(folder / f"{name.replace('w', 'worker-') if len(name) == 2 else name}.ends")


def test_run_ends_with_exit_code_of_sink(tmp_path: Path) -> None:
    launcher = run_script(STATIONS + "launch_stations(verbose=True)", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    let_end(tmp_path, w1=0, w2=0, ventilator=0, sink=1)
    assert launcher.communicate(timeout=30) == ("".join(f"{name} {members[name]}\n" for name in NAMES), "")
    assert launcher.returncode == 1
    assert_none_alive(members)


def test_daemon_of_successful_process_ends_with_run(tmp_path: Path) -> None:
    code = "sys.exit(launch([ProcessSpec('sink', lambda: family(folder, 'sink') or 0)], say))"
    launcher = run_script(STATIONS + code, tmp_path)
    assert launcher.communicate(timeout=30) == ("", "")
    assert launcher.returncode == 0
    assert_none_alive({path.name: int(path.read_text()) for path in tmp_path.iterdir()})
    assert len(list(tmp_path.iterdir())) == 5


WITH_BACKGROUND = """
def wait_for(*names):
    while not all(os.path.exists(f"{folder}/{name}") for name in names):
        time.sleep(0.005)

def leave(name, code, is_ready=lambda: True):
    def run():
        family(folder, name)
        while not is_ready():
            time.sleep(0.005)
        note(folder, f"{name}.ended", 0)
        return code
    return run

def exists(name):
    return lambda: os.path.exists(f"{folder}/{name}")

is_ready = exists(sys.argv[2])
specs = [ProcessSpec("sink", lambda: wait_for("kept.ended", "crashed.ended") or 1)]
specs += [ProcessSpec("kept", leave("kept", 0, is_ready), keeps_background=True)]
specs += [ProcessSpec("crashed", leave("crashed", 3), leave("again", 0, exists("kept.ended")), keeps_background=True)]
sys.exit(launch(specs, say))
"""


@pytest.mark.parametrize("after", ["again", "crashed.ended"])
def test_background_that_is_kept_outlives_the_run(tmp_path: Path, after: str) -> None:
    launcher = run_script(STATIONS + WITH_BACKGROUND, tmp_path, after)
    assert launcher.wait(30) == 1
    pids = {path.name: int(path.read_text()) for path in tmp_path.iterdir() if path.suffix != ".ended"}
    kept = {name: pid for name, pid in pids.items() if name.startswith(("kept-", "again-"))}
    assert_none_alive({name: pids[name] for name in pids.keys() - kept.keys()})
    if after == "again":  # if both end at once, the launcher does not know which has left what
        assert sorted(name for name, pid in kept.items() if is_alive(pid)) == sorted(kept)
    for process in map(psutil.Process, filter(is_alive, kept.values())):
        for each in (process, *process.children()):
            each.kill()
    launcher.communicate(timeout=30)


def test_killed_worker_is_replaced_and_its_children_killed(tmp_path: Path) -> None:
    launcher = run_script(STATIONS + "launch_stations()", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    lost = {name: members.pop(name) for name in list(members) if name.startswith("worker-1")}
    for name in lost:
        (tmp_path / name).unlink()
    os.kill(lost["worker-1"], KILL)
    assert read_line(launcher) == "warning: worker-1 was killed by SIGKILL; restarting in 0.1 s\n"
    assert_none_alive(lost)
    members |= wait_for_pids(tmp_path, "worker-1")
    assert all(map(is_alive, members.values()))
    let_end(tmp_path, w1=0, w2=0, ventilator=0, sink=0)
    assert launcher.communicate(timeout=30) == ("", "")
    assert launcher.returncode == 0
    assert_none_alive(members)


@pytest.mark.parametrize("name", ["sink", "ventilator"])
def test_restartable_process_runs_its_replacement(tmp_path: Path, name: str) -> None:
    launcher = run_script(STATIONS + "launch_stations(again=lambda: note(folder, 'again', os.getpid()) or 0)", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    os.kill(members[name], KILL)
    assert read_line(launcher) == f"warning: {name} was killed by SIGKILL; restarting in 0.1 s\n"
    wait_until((tmp_path / "again").exists)
    let_end(tmp_path, w1=0, w2=0, ventilator=0, sink=0)
    assert launcher.communicate(timeout=30) == ("", "")
    assert launcher.returncode == 0
    assert_none_alive(members)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["first", "restarted"])
def test_dead_ventilator_signal_reaches_a_late_sink(tmp_path: Path, *, is_restarted: bool) -> None:
    code = """
def late_sink():
    note(folder, "late", os.getpid())
    while not os.path.exists(f"{folder}/go"):
        time.sleep(0.01)
    with SignalPipe() as signals:
        select.select([signals], [], [], 30)
        for name in ("worker-1", "worker-2"):
            note(folder, f"{name}.ends", 0)
        note(folder, "is_told", signals.read() == [VENTILATOR_DEAD])
    return 143

from pipeline.model.events import VENTILATOR_DEAD
specs = [ProcessSpec("sink", SINK, late_sink), ProcessSpec("ventilator", station("ventilator"))]
specs += [ProcessSpec(name, station(name)) for name in ("worker-1", "worker-2")]
sys.exit(launch(specs, say))
"""
    first = "station('sink')" if is_restarted else "late_sink"
    launcher = run_script(STATIONS + LONG_GRACE + code.replace("SINK", first), tmp_path)
    members = wait_for_pids(tmp_path, "ventilator", "worker-1", "worker-2")
    if is_restarted:
        os.kill(wait_for_pids(tmp_path, "sink")["sink"], KILL)
        assert read_line(launcher) == "warning: sink was killed by SIGKILL; restarting in 0.1 s\n"
    wait_until((tmp_path / "late").exists)
    os.kill(members["ventilator"], KILL)
    assert read_line(launcher) == f"error: ventilator was killed by SIGKILL; {NO_RESTART_REASONS['ventilator']}\n"
    (tmp_path / "go").touch()
    assert launcher.communicate(timeout=30) == ("", "")
    assert launcher.returncode == 3
    assert (tmp_path / "is_told").read_text() == "True"
    assert_none_alive(members)


def test_killed_launcher_leaves_no_process(tmp_path: Path) -> None:
    launcher = run_script(STATIONS + "launch_stations()", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    launcher.kill()
    assert_none_alive(members)
    launcher.communicate()


@pytest.mark.parametrize("name", ["sink", "ventilator"])
def test_killed_sink_or_ventilator_ends_run_with_3(tmp_path: Path, name: str) -> None:
    launcher = run_script(STATIONS + "launch_stations()", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    let_end(tmp_path, w1=0, w2=0)
    os.kill(members[name], KILL)
    assert launcher.communicate(timeout=30) == (
        f"error: {name} was killed by SIGKILL; {NO_RESTART_REASONS[name]}\n",
        "",
    )
    assert launcher.returncode == 3
    assert_none_alive(members)


def test_killed_sink_others_are_terminated(tmp_path: Path) -> None:
    launcher = run_script(STATIONS + LONG_GRACE + "launch_stations()", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    os.kill(members["sink"], KILL)
    assert launcher.communicate(timeout=30) == (
        f"error: sink was killed by SIGKILL; {NO_RESTART_REASONS['sink']}\n",
        "",
    )
    assert launcher.returncode == 3
    assert_none_alive(members)


@pytest.mark.parametrize(
    ("signum", "message", "code"),
    [
        (INT, "stopping after running tasks finish; press Ctrl-C again to kill them\n", 130),
        (TERM, "stopping after running tasks finish; send SIGTERM again to kill them\n", 143),
        (signal.SIGHUP, "stopping after running tasks finish; send SIGTERM again to kill them\n", 143),
    ],
)
def test_group_signal_counts_once_and_reaches_sink(tmp_path: Path, signum: int, message: str, code: int) -> None:
    launcher = run_script(STATIONS + "launch_stations(sink_ends=2)", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    launcher.send_signal(signum)
    assert read_line(launcher) == message
    for name in ("sink", "worker-1"):
        os.kill(members[name], signum)
    wait_until((tmp_path / "sink.asked").exists)
    assert is_alive(members["sink"])
    launcher.send_signal(signum)
    wait_until(lambda: not is_alive(members["sink"]))
    let_end(tmp_path, w1=0, w2=0, ventilator=0)
    assert launcher.communicate(timeout=30) == ("", "")
    assert launcher.returncode == code
    assert_none_alive(members)


def test_worker_usage_error_ends_run_with_2(tmp_path: Path) -> None:
    launcher = run_script(STATIONS + "launch_stations()", tmp_path)
    members = wait_for_pids(tmp_path, *NAMES)
    let_end(tmp_path, w1=2)
    wait_until(lambda: not is_alive(members["sink"]))
    let_end(tmp_path, w2=0, ventilator=0)
    assert launcher.communicate(timeout=30) == ("", "")
    assert launcher.returncode == 2
    assert_none_alive(members)


def test_fork_failure_ends_run_with_message(tmp_path: Path) -> None:
    code = """
def no_more():
    raise BlockingIOError(11, "Resource temporarily unavailable")
os.fork = no_more
launch_stations()
"""
    launcher = run_script(STATIONS + code, tmp_path)
    message, stderr = launcher.communicate(timeout=30)
    assert message.startswith("error: sink: cannot start another process: Resource temporarily unavailable\n")
    assert (launcher.returncode, stderr) == (3, "")


def test_launcher_does_not_import_zeromq(tmp_path: Path) -> None:
    code = "launch([ProcessSpec('sink', lambda: 0)], say)\nassert 'pipeline.runtime.supervisor' in sys.modules\n"
    code += "print(sorted({'zmq', 'psutil', 'typer', 'logging'} & set(sys.modules)))"
    launcher = run_script(STATIONS + code, tmp_path)
    assert launcher.communicate(timeout=30) == ("[]\n", "")
