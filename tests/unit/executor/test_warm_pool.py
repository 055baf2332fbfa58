"""The processes of the executor of callables: what they are, how they end, and what is told of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.executor.call_executor import CallExecutor
from pipeline.model.errors import UsageError
from pipeline.model.events import CallableLoading
from tests.support.processes import wait_until
from tests.unit.executor import call_driver
from tests.unit.executor.call_driver import TIMEOUT_SECONDS, StartDriver, is_gone

start, module = call_driver.start, call_driver.module


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("nothing", "MODULE:FUNCTION"),
        (":f", "MODULE:FUNCTION"),
        ("json:", "MODULE:FUNCTION"),
        ("not/there.py:f", "not/there.py"),
    ],
)
def test_a_callable_written_wrong_is_refused_at_once(call: str, names: str) -> None:
    with pytest.raises(UsageError, match=names):
        CallExecutor(call, "", 1)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("no_such_module_here:f", "No module named 'no_such_module_here'"),
        ("json:no_such_name", "json has no no_such_name"),
        ("math:pi", "pi cannot be called: it is of type float"),
    ],
)
def test_a_callable_that_is_not_one_breaks_with_2(start: StartDriver, call: str, names: str) -> None:
    driver = start(call)
    driver.send_records("a")
    broken = driver.wait_for_failure()
    assert broken.exit_code == 2
    assert names in broken.reason
    assert driver.finished_messages() == []


def test_an_error_in_the_module_is_told_with_its_place(start: StartDriver, module: Callable[[str], str]) -> None:
    broken = start(module("def f(task): pass\nraise ValueError('mine')") + ":f").wait_for_failure()
    assert broken.exit_code == 2
    assert "ValueError: mine" in broken.reason
    assert "theirs.py" in broken.reason
    assert "callee.py" not in broken.reason


def test_methods_and_init(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        class Case:
            base = None
            @classmethod
            def prepare(cls): cls.base = cls.base + 100 if cls.base else 100
            @classmethod
            def add(cls, task): return cls.base + int(task)
    """)
    driver = start(path + ":Case.add", path + ":Case.prepare")
    driver.send_records(*map(str, range(20)))
    assert driver.run(20) == {n: b"%d\n" % (100 + n) for n in range(20)}


def test_an_init_that_raises_breaks_with_2(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def begin(): raise RuntimeError("no licence")
    """)
    driver = start("builtins:len", path + ":begin")
    driver.send_records("a")
    broken = driver.wait_for_failure()
    assert broken.exit_code == 2
    assert "RuntimeError: no licence" in broken.reason
    assert "in begin" in broken.reason


def test_an_init_that_dies_breaks_with_3(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def begin(): os.kill(os.getpid(), signal.SIGKILL)
    """)
    driver = start("builtins:len", path + ":begin")
    driver.send_records("a")
    broken = driver.wait_for_failure()
    assert broken.exit_code == 3
    assert "SIGKILL" in broken.reason
    assert driver.finished_messages() == []


def test_what_a_task_prints_is_no_result(
    start: StartDriver, module: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = module("""
        print("at import")
        def value(task):
            print("said", task)
            os.system("echo shell")
            return [sys.stdin.read() if task == "read" else task]
    """)
    driver = start(path + ":value", slots=1)
    driver.send_records("a", "read")
    assert driver.run(2) == {0: b'["a"]\n', 1: b'[""]\n'}
    driver.executor.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("shell") == 2


def test_close_leaves_no_process_behind(start: StartDriver, module: Callable[[str], str], tmp_path: Path) -> None:
    path = module(f"""
        import subprocess
        def value(task):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "1000"])
            pathlib.Path({str(tmp_path)!r}, task).write_text(f"{{os.getppid()}} {{os.getpid()}} {{child.pid}} .")
            time.sleep(1000)
    """)
    driver = start(path + ":value")
    driver.send_records("one", "two")
    files = [tmp_path / "one", tmp_path / "two"]
    driver.run_until(lambda: all(file.exists() and file.read_text().endswith(".") for file in files))
    pids = [int(word) for file in files for word in file.read_text().split()[:3]]
    before = len(os.listdir("/proc/self/fd"))
    driver.executor.close()
    assert driver.executor.pollables() == driver.executor.receive() == []
    end = time.monotonic() + TIMEOUT_SECONDS
    while not all(is_gone(pid) for pid in pids):
        assert time.monotonic() < end, pids
    assert len(os.listdir("/proc/self/fd")) < before
    driver.executor.close()


def test_the_nursery_killed_breaks_with_3_and_leaves_nothing(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task):
            if task == "where": return [os.getppid(), os.getpid()]
            time.sleep(1000)
    """)
    driver = start(path + ":value", slots=1)
    driver.send_records("where")
    nursery, child = (int(word) for word in driver.run(1)[0].strip(b"[]\n").split(b","))
    driver.send_records("sleep", first=1)
    os.kill(nursery, signal.SIGKILL)
    assert driver.wait_for_failure().exit_code == 3
    driver.executor.close()
    end = time.monotonic() + TIMEOUT_SECONDS
    while not is_gone(child):
        assert time.monotonic() < end


def test_all_that_a_killed_childs_tasks_have_started_is_killed_and_nothing_of_others(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        import subprocess
        from tests.support.task_functions import daemon
        before = subprocess.Popen(["sleep", "1000"])
        def note(name, pid): pathlib.Path({str(tmp_path)!r}, name).write_text(str(pid))
        def value(task):
            note("nursery", os.getppid()); note("imported", before.pid)
            note(task, os.getpid())
            os.system(f"trap '' TERM HUP; sleep 1000 & echo $! > {tmp_path}/{{task}}-sh")
            note(task + "-session", subprocess.Popen(["sleep", "1000"], start_new_session=True).pid)
            fork = os.fork()
            if fork == 0: time.sleep(1000)
            note(task + "-fork", fork)
            daemon(f"{tmp_path}/{{task}}-daemon")
            time.sleep(1000)
    """)
    driver = start(path + ":value")
    kinds = ("", "-sh", "-session", "-fork", "-daemon")
    names = ["nursery", "imported", *(name + kind for name in ("one", "two") for kind in kinds)]
    driver.send_records("one", "two")
    driver.run_until(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names))
    pids = {name: int((tmp_path / name).read_text()) for name in names}
    os.kill(pids["one"], signal.SIGKILL)
    driver.run_until(lambda: all(is_gone(pids["one" + kind]) for kind in kinds))
    driver.run(1)
    assert [name for name in names if is_gone(pids[name])] == ["one" + kind for kind in kinds]
    driver.executor.close()
    wait_until(lambda: all(map(is_gone, pids.values())))


def test_an_idle_child_killed_is_replaced(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("def value(task): return os.getpid()")
    driver = start(path + ":value", slots=1)
    for number in range(4):
        driver.send_records("x", first=number)
        pid = int(driver.run(number + 1)[number])
        os.kill(pid, signal.SIGKILL)
        driver.run_until(lambda pid=pid: is_gone(pid))  # type: ignore[misc]
        driver.messages += driver.executor.receive()
    assert driver.failures() == []
    assert len(set(driver.outputs().values())) == 4


def test_interrupts_are_the_agents_alone(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task):
            os.kill(os.getpid(), signal.SIGINT)
            return [os.getsid(0) == os.getpid(), signal.getsignal(signal.SIGTERM) == signal.SIG_DFL]
    """)
    previous = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        driver = start(path + ":value")
    finally:
        signal.signal(signal.SIGTERM, previous)
    driver.send_records("x")
    assert driver.run(1) == {0: b"[true, true]\n"}


def test_an_import_that_takes_for_ever_does_not_hold_up_the_end(
    start: StartDriver, module: Callable[[str], str]
) -> None:
    driver = start(module("time.sleep(1000)\ndef value(task): return task") + ":value")
    driver.send_records("x")
    assert driver.executor.receive() == []
    began = time.monotonic()
    driver.executor.close()
    assert time.monotonic() - began < TIMEOUT_SECONDS


def test_no_child_outlives_a_killed_agent(module: Callable[[str], str], tmp_path: Path) -> None:
    path = module(f"""
        def value(task):
            pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getppid()}} {{os.getpid()}} .")
            time.sleep(1000)
    """)
    agent = os.fork()
    if agent == 0:
        try:
            driver = call_driver.CallDriver(path + ":value", slots=1)
            driver.send_records("x")
            driver.run(1)
        finally:
            os._exit(0)
    pids, end = tmp_path / "pids", time.monotonic() + TIMEOUT_SECONDS
    while not (pids.exists() and pids.read_text().endswith(".")):
        assert time.monotonic() < end
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    while not all(is_gone(int(pid)) for pid in pids.read_text().split()[:2]):
        assert time.monotonic() < end


def test_a_module_that_takes_long_to_import_is_no_silence(start: StartDriver, tmp_path: Path) -> None:
    gate, slow = tmp_path / "gate", tmp_path / "slow.py"
    os.mkfifo(gate)
    slow.write_text(f"open({str(gate)!r}).read()\ndef f(task): return task\n")
    driver = start(f"{slow}:f")
    driver.send_records("a")
    driver.run_until(lambda: CallableLoading(f"{slow}:f") in driver.messages)
    assert driver.finished_messages() == []
    gate.write_text("open")
    assert driver.run(1) == {0: b"a\n"}
    assert driver.messages.count(CallableLoading(f"{slow}:f")) == 1
