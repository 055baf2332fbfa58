"""WarmPool and fork server with real processes."""

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
from tests.support.processes import is_alive, wait_until
from tests.unit.executor import call_driver
from tests.unit.executor.call_driver import TIMEOUT_SECONDS, StartDriver

start, module = call_driver.start, call_driver.module


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("nothing", "not the name of a function"),
        (":f", "not the name of a function"),
        ("json:", "not the name of a function"),
        ("not/there.py:f", "no such file: not/there.py"),
    ],
)
def test_call_executor_malformed_name_raises(call: str, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        CallExecutor(call, "", 1)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("no_such_module_here:f", "No module named 'no_such_module_here'"),
        ("json:no_such_name", "json has no no_such_name"),
        ("math:pi", "pi is not callable (its type is float)"),
    ],
)
def test_warm_pool_unloadable_callable_fails_with_usage(start: StartDriver, call: str, text: str) -> None:
    driver = start(call)
    driver.send_records("a")
    failure = driver.wait_for_failure()
    assert failure.exit_code == 2
    assert text in failure.reason
    assert driver.finished_messages() == []


def test_warm_pool_import_error_shows_user_traceback(start: StartDriver, module: Callable[[str], str]) -> None:
    failure = start(module("def f(task): pass\nraise ValueError('mine')") + ":f").wait_for_failure()
    assert failure.exit_code == 2
    assert "ValueError: mine" in failure.reason
    assert "theirs.py" in failure.reason
    assert "callable_loader.py" not in failure.reason


def test_warm_pool_calls_init_once_and_methods(start: StartDriver, module: Callable[[str], str]) -> None:
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


def test_warm_pool_init_exception_fails_with_usage(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def begin(): raise RuntimeError("no licence")
    """)
    driver = start("builtins:len", path + ":begin")
    driver.send_records("a")
    failure = driver.wait_for_failure()
    assert failure.exit_code == 2
    assert "RuntimeError: no licence" in failure.reason
    assert "in begin" in failure.reason


def test_warm_pool_init_crash_fails_with_incomplete(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def begin(): os.kill(os.getpid(), signal.SIGKILL)
    """)
    driver = start("builtins:len", path + ":begin")
    driver.send_records("a")
    failure = driver.wait_for_failure()
    assert failure.exit_code == 3
    assert "SIGKILL" in failure.reason
    assert driver.finished_messages() == []


def test_warm_process_prints_go_to_stderr(
    start: StartDriver, module: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = module("""
        print("at import")
        def value(task):
            print("task", task)
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


def test_warm_pool_close_kills_all_processes(start: StartDriver, module: Callable[[str], str], tmp_path: Path) -> None:
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
    wait_until(lambda: not any(map(is_alive, pids)))
    assert len(os.listdir("/proc/self/fd")) < before
    driver.executor.close()


def test_fork_server_killed_fails_with_incomplete(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task):
            if task == "where": return [os.getppid(), os.getpid()]
            time.sleep(1000)
    """)
    driver = start(path + ":value", slots=1)
    driver.send_records("where")
    fork_server, child = (int(word) for word in driver.run(1)[0].strip(b"[]\n").split(b","))
    driver.send_records("sleep", first=1)
    os.kill(fork_server, signal.SIGKILL)
    assert driver.wait_for_failure().exit_code == 3
    driver.executor.close()
    wait_until(lambda: not is_alive(child))


def test_fork_server_kills_all_that_a_dead_process_started(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        import subprocess
        from tests.support.task_functions import daemon
        before = subprocess.Popen(["sleep", "1000"])
        def note(name, pid): pathlib.Path({str(tmp_path)!r}, name).write_text(str(pid))
        def value(task):
            note("fork-server", os.getppid()); note("imported", before.pid)
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
    names = ["fork-server", "imported", *(name + kind for name in ("one", "two") for kind in kinds)]
    driver.send_records("one", "two")
    driver.run_until(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names))
    pids = {name: int((tmp_path / name).read_text()) for name in names}
    os.kill(pids["one"], signal.SIGKILL)
    driver.run_until(lambda: not any(is_alive(pids["one" + kind]) for kind in kinds))
    driver.run(1)
    assert [name for name in names if not is_alive(pids[name])] == ["one" + kind for kind in kinds]
    driver.executor.close()
    wait_until(lambda: not any(map(is_alive, pids.values())))


def test_warm_pool_replaces_a_killed_idle_process(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("def value(task): return os.getpid()")
    driver = start(path + ":value", slots=1)
    for number in range(4):
        driver.send_records("x", first=number)
        pid = int(driver.run(number + 1)[number])
        os.kill(pid, signal.SIGKILL)
        driver.run_until(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]
        driver.messages += driver.executor.receive()
    assert driver.failures() == []
    assert len(set(driver.outputs().values())) == 4


def test_warm_process_ignores_ctrl_c(start: StartDriver, module: Callable[[str], str]) -> None:
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


def test_warm_pool_close_during_import_is_quick(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module("time.sleep(1000)\ndef value(task): return task") + ":value")
    driver.send_records("x")
    assert driver.executor.receive() == []
    began = time.monotonic()
    driver.executor.close()
    assert time.monotonic() - began < TIMEOUT_SECONDS


def test_warm_processes_end_when_the_worker_is_killed(module: Callable[[str], str], tmp_path: Path) -> None:
    path = module(f"""
        def value(task):
            pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getppid()}} {{os.getpid()}} .")
            time.sleep(1000)
    """)
    worker = os.fork()
    if worker == 0:
        try:
            driver = call_driver.CallDriver(path + ":value", slots=1)
            driver.send_records("x")
            driver.run(1)
        finally:
            os._exit(0)
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and pids.read_text().endswith("."))
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    wait_until(lambda: not any(is_alive(int(pid)) for pid in pids.read_text().split()[:2]))


def test_warm_pool_slow_import_is_reported_once(start: StartDriver, tmp_path: Path) -> None:
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
