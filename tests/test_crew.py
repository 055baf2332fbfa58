"""The processes of the executor of callables: what they are, how they end, and what is told of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import callables
import pytest
from callables import PATIENCE, Start, gone
from orphans import until

from pipeline.executor.calls import Calls
from pipeline.words.errors import UsageError
from pipeline.words.notices import Preparing

start, module = callables.start, callables.module


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
        Calls(call, "", 1)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        ("no_such_module_here:f", "No module named 'no_such_module_here'"),
        ("json:no_such_name", "json has no no_such_name"),
        ("math:pi", "pi cannot be called: it is of type float"),
    ],
)
def test_a_callable_that_is_not_one_breaks_with_2(start: Start, call: str, names: str) -> None:
    driver = start(call)
    driver.give("a")
    broken = driver.broken()
    assert broken.exit_code == 2
    assert names in broken.reason
    assert driver.dones() == []


def test_an_error_in_the_module_is_told_with_its_place(start: Start, module: Callable[[str], str]) -> None:
    broken = start(module("def f(task): pass\nraise ValueError('mine')") + ":f").broken()
    assert broken.exit_code == 2
    assert "ValueError: mine" in broken.reason
    assert "theirs.py" in broken.reason
    assert "callee.py" not in broken.reason


def test_methods_and_init(start: Start, module: Callable[[str], str]) -> None:
    path = module("""
        class Case:
            base = None
            @classmethod
            def prepare(cls): cls.base = cls.base + 100 if cls.base else 100
            @classmethod
            def add(cls, task): return cls.base + int(task)
    """)
    driver = start(path + ":Case.add", path + ":Case.prepare")
    driver.give(*map(str, range(20)))
    assert driver.run(20) == {n: b"%d\n" % (100 + n) for n in range(20)}


def test_an_init_that_raises_breaks_with_2(start: Start, module: Callable[[str], str]) -> None:
    path = module("""
        def begin(): raise RuntimeError("no licence")
    """)
    driver = start("builtins:len", path + ":begin")
    driver.give("a")
    broken = driver.broken()
    assert broken.exit_code == 2
    assert "RuntimeError: no licence" in broken.reason
    assert "in begin" in broken.reason


def test_an_init_that_dies_breaks_with_3(start: Start, module: Callable[[str], str]) -> None:
    path = module("""
        def begin(): os.kill(os.getpid(), signal.SIGKILL)
    """)
    driver = start("builtins:len", path + ":begin")
    driver.give("a")
    broken = driver.broken()
    assert broken.exit_code == 3
    assert "SIGKILL" in broken.reason
    assert driver.dones() == []


def test_what_a_task_prints_is_no_result(
    start: Start, module: Callable[[str], str], capfd: pytest.CaptureFixture[str]
) -> None:
    path = module("""
        print("at import")
        def value(task):
            print("said", task)
            os.system("echo shell")
            return [sys.stdin.read() if task == "read" else task]
    """)
    driver = start(path + ":value", slots=1)
    driver.give("a", "read")
    assert driver.run(2) == {0: b'["a"]\n', 1: b'[""]\n'}
    driver.edge.close()
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("shell") == 2


def test_close_leaves_no_process_behind(start: Start, module: Callable[[str], str], tmp_path: Path) -> None:
    path = module(f"""
        import subprocess
        def value(task):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            child = subprocess.Popen(["sleep", "1000"])
            pathlib.Path({str(tmp_path)!r}, task).write_text(f"{{os.getppid()}} {{os.getpid()}} {{child.pid}} .")
            time.sleep(1000)
    """)
    driver = start(path + ":value")
    driver.give("one", "two")
    files = [tmp_path / "one", tmp_path / "two"]
    driver.until(lambda: all(file.exists() and file.read_text().endswith(".") for file in files))
    pids = [int(word) for file in files for word in file.read_text().split()[:3]]
    before = len(os.listdir("/proc/self/fd"))
    driver.edge.close()
    assert driver.edge.files() == driver.edge.receive() == []
    end = time.monotonic() + PATIENCE
    while not all(gone(pid) for pid in pids):
        assert time.monotonic() < end, pids
    assert len(os.listdir("/proc/self/fd")) < before
    driver.edge.close()


def test_the_nursery_killed_breaks_with_3_and_leaves_nothing(start: Start, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task):
            if task == "where": return [os.getppid(), os.getpid()]
            time.sleep(1000)
    """)
    driver = start(path + ":value", slots=1)
    driver.give("where")
    nursery, child = (int(word) for word in driver.run(1)[0].strip(b"[]\n").split(b","))
    driver.give("sleep", first=1)
    os.kill(nursery, signal.SIGKILL)
    assert driver.broken().exit_code == 3
    driver.edge.close()
    end = time.monotonic() + PATIENCE
    while not gone(child):
        assert time.monotonic() < end


def test_all_that_a_killed_childs_tasks_have_started_is_killed_and_nothing_of_others(
    start: Start, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        import subprocess
        from acts import daemon
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
    driver.give("one", "two")
    driver.until(lambda: all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in names))
    pids = {name: int((tmp_path / name).read_text()) for name in names}
    os.kill(pids["one"], signal.SIGKILL)
    driver.until(lambda: all(gone(pids["one" + kind]) for kind in kinds))
    driver.run(1)
    assert [name for name in names if gone(pids[name])] == ["one" + kind for kind in kinds]
    driver.edge.close()
    until(lambda: all(map(gone, pids.values())))


def test_an_idle_child_killed_is_replaced(start: Start, module: Callable[[str], str]) -> None:
    path = module("def value(task): return os.getpid()")
    driver = start(path + ":value", slots=1)
    for number in range(4):
        driver.give("x", first=number)
        pid = int(driver.run(number + 1)[number])
        os.kill(pid, signal.SIGKILL)
        driver.until(lambda pid=pid: gone(pid))  # type: ignore[misc]
        driver.said += driver.edge.receive()
    assert driver.notes() == []
    assert len(set(driver.outputs().values())) == 4


def test_interrupts_are_the_agents_alone(start: Start, module: Callable[[str], str]) -> None:
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
    driver.give("x")
    assert driver.run(1) == {0: b"[true, true]\n"}


def test_an_import_that_takes_for_ever_does_not_hold_up_the_end(start: Start, module: Callable[[str], str]) -> None:
    driver = start(module("time.sleep(1000)\ndef value(task): return task") + ":value")
    driver.give("x")
    assert driver.edge.receive() == []
    began = time.monotonic()
    driver.edge.close()
    assert time.monotonic() - began < PATIENCE


def test_no_child_outlives_a_killed_agent(module: Callable[[str], str], tmp_path: Path) -> None:
    path = module(f"""
        def value(task):
            pathlib.Path({str(tmp_path / "pids")!r}).write_text(f"{{os.getppid()}} {{os.getpid()}} .")
            time.sleep(1000)
    """)
    agent = os.fork()
    if agent == 0:
        try:
            driver = callables.Driver(path + ":value", slots=1)
            driver.give("x")
            driver.run(1)
        finally:
            os._exit(0)
    pids, end = tmp_path / "pids", time.monotonic() + PATIENCE
    while not (pids.exists() and pids.read_text().endswith(".")):
        assert time.monotonic() < end
    os.kill(agent, signal.SIGKILL)
    os.waitpid(agent, 0)
    while not all(gone(int(pid)) for pid in pids.read_text().split()[:2]):
        assert time.monotonic() < end


def test_a_module_that_takes_long_to_import_is_no_silence(start: Start, tmp_path: Path) -> None:
    gate, slow = tmp_path / "gate", tmp_path / "slow.py"
    os.mkfifo(gate)
    slow.write_text(f"open({str(gate)!r}).read()\ndef f(task): return task\n")
    driver = start(f"{slow}:f")
    driver.give("a")
    driver.until(lambda: Preparing(f"{slow}:f") in driver.said)
    assert driver.dones() == []
    gate.write_text("open")
    assert driver.run(1) == {0: b"a\n"}
    assert driver.said.count(Preparing(f"{slow}:f")) == 1
