"""CallExecutor with real warm processes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.executor import outcomes
from pipeline.executor.limits import TaskLimits
from pipeline.executor.outcomes import MAX_REPORTED_FAILURES
from pipeline.model.events import CancelTasks, ReleaseQueued, TasksReleased
from pipeline.model.messages import Chunk, RecordFormat, TaskFailure
from pipeline.model.option_values import Timeout
from pipeline.model.state_machine import Port
from tests.support.processes import is_alive, wait_until
from tests.unit.executor import call_driver
from tests.unit.executor.call_driver import TIMEOUT_SECONDS, StartDriver

start, module = call_driver.start, call_driver.module


def test_call_executor_many_records_return_right_outputs(start: StartDriver) -> None:
    driver = start("builtins:len")
    records = ["x" * (n % 70) for n in range(200_000)]
    for first in range(0, len(records), 10_000):
        driver.send_records(*records[first : first + 10_000], first=first)
    assert driver.run(200_000) == {n: b"%d\n" % (n % 70) for n in range(200_000)}
    assert driver.failures() == []
    assert all(0 <= seconds < TIMEOUT_SECONDS for seconds in driver.seconds())


def test_call_executor_encodes_return_values(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        VALUES = dict(text="t\u00e4t", raw=b"\\xff", nothing=None, yes=True, big=2**70, parts=[1, {"a": "\u00e4"}],
                      odd=object(), lone="\\ud800", buffer=bytearray(b"b"), real=1.5, minus=-3, empty="")
        def value(task): return VALUES[task]
    """)
    driver = start(path + ":value")
    driver.send_records(
        "text", "raw", "nothing", "yes", "big", "parts", "odd", "lone", "buffer", "real", "minus", "empty"
    )
    outputs = driver.run(12)
    assert [outputs[task] for task in range(12)] == [
        "t\u00e4t\n".encode(), b"\xff\n", b"", b"true\n", b"1180591620717411303424\n",
        '[1, {"a": "\u00e4"}]\n'.encode(),
        b"", b"", b"b\n", b"1.5\n", b"-3\n", b"\n",
    ]  # fmt: skip
    odd, lone = driver.failures()
    assert (odd.task, odd.kind) == (6, "exception")
    assert odd.text == "TypeError: Object of type object is not JSON serializable"
    assert (lone.task, lone.text.split(":")[0]) == (7, "UnicodeEncodeError")


def test_call_executor_exception_fails_only_its_task(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task):
            if task == "exit": sys.exit(4)
            if task == "stop": raise KeyboardInterrupt
            return 10 // int(task)
    """)
    driver = start(path + ":value")
    driver.send_records("5", "0", "x", "exit", "stop", "2")
    assert driver.run(6) == {0: b"2\n", 1: b"", 2: b"", 3: b"", 4: b"", 5: b"5\n"}
    assert [
        (failure.task, failure.kind, failure.code, failure.text.split(":")[0]) for failure in driver.failures()
    ] == [
        (1, "exception", 1, "ZeroDivisionError"),
        (2, "exception", 1, "ValueError"),
        (3, "exception", 1, "SystemExit"),
        (4, "exception", 1, "KeyboardInterrupt"),
    ]
    assert "Traceback" in driver.stderr()
    assert "in value" in driver.stderr()
    assert "warm_process.py" not in driver.stderr()
    assert driver.records() == {1: b"0", 2: b"x", 3: b"exit", 4: b"stop"}
    assert driver.failures()[0].stderr_tail.startswith("Traceback")
    assert driver.failures()[0].stderr_tail.endswith("by zero\n")


def test_call_executor_non_utf8_record_is_text(start: StartDriver) -> None:
    driver = start("builtins:len", slots=1)
    driver.send_records("abc", b"\xff\xfe", "\u00e4\r\x0b\u2028", "")
    assert driver.run(4) == {0: b"3\n", 1: b"2\n", 2: b"4\n", 3: b"0\n"}
    assert driver.failures() == []


def test_call_executor_respects_the_record_format(start: StartDriver) -> None:
    driver = start("builtins:len", slots=1)
    driver.executor.send(Port.EXECUTOR, RecordFormat(zero=True))
    driver.send_records("a\nb", "", terminator=b"\0")
    assert driver.run(2) == {0: b"3\n", 1: b"0\n"}
    driver.executor.send(Port.EXECUTOR, RecordFormat(block=True))
    driver.executor.send(Port.EXECUTOR, Chunk("r", 0, 0, 2, 1, b"a\nb\n"))
    assert driver.run(3)[2] == b"4\n"


@pytest.mark.parametrize(
    ("end", "kind", "code", "text"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal", 11, "killed by SIGSEGV"),
        ("os._exit(7)", "lost", 7, "exited with 7"),
        ("os._exit(0)", "lost", 0, "exited with 0"),
    ],
)
def test_call_executor_crash_fails_only_the_running_task(
    start: StartDriver, module: Callable[[str], str], end: str, kind: str, code: int, text: str
) -> None:
    path = module(f"""
        def value(task):
            if task == "bad": {end}
            if task == "worse": raise ValueError(task)
            return task
    """)
    driver = start(path + ":value")
    records = [str(n) for n in range(500)]
    records[100], records[99], records[101], records[300] = "bad", "worse", "worse", "bad"
    driver.send_records(*records)
    outputs = driver.run(500)
    assert [n for n in range(500) if outputs[n] != f"{n}\n".encode()] == [99, 100, 101, 300]
    assert [(failure.task, failure.kind, failure.code, failure.text) for failure in driver.failures()] == [
        (99, "exception", 1, "ValueError: worse"),
        (100, kind, code, text),
        (101, "exception", 1, "ValueError: worse"),
        (300, kind, code, text),
    ]
    assert driver.records() == {99: b"worse", 100: b"bad", 101: b"worse", 300: b"bad"}


def test_call_executor_merges_batches_of_short_tasks(
    start: StartDriver, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "REPORT_INTERVAL_SECONDS", 1000.0)
    driver = start(module("def value(task): time.sleep(0.001); return task") + ":value")
    driver.send_records(*(str(n) for n in range(600)))
    assert driver.run(600) == {n: b"%d\n" % n for n in range(600)}
    assert len(driver.finished_messages()) <= 30  # of 60 batches or more: one for each half of the rest, and the last


def test_call_executor_cancels_a_part_of_what_waits_to_be_reported(
    start: StartDriver, module: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(outcomes, "REPORT_INTERVAL_SECONDS", 1000.0)
    path = module(f"""
        def value(task):
            if task == "wait":
                open({str(tmp_path / "started")!r}, "w").close()
                while not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.001)
            return task
    """)
    driver = start(path + ":value", slots=1)
    driver.send_records("0", "1", "2", "3", "4", "wait", *(str(n) for n in range(6, 100)))
    driver.run_until((tmp_path / "started").exists)
    driver.executor.send(Port.EXECUTOR, CancelTasks(((1, 3),)))
    (tmp_path / "go").touch()
    driver.run(98)
    assert driver.outputs().keys() == {n for n in range(100) if n not in {1, 2}}


def test_call_executor_many_failures_are_split(start: StartDriver) -> None:
    driver = start("builtins:int")
    driver.send_records(*(f"x{n}" for n in range(6000)))
    driver.run(6000)
    assert driver.records() == {n: b"x%d" % n for n in range(6000)}
    assert (
        max(len(report.failures) for report in driver.finished_messages()) <= MAX_REPORTED_FAILURES
    )  # fewer, where it looked in between


def test_call_executor_failed_block_keeps_its_bytes(start: StartDriver) -> None:
    driver = start("builtins:int", slots=1)
    driver.executor.send(Port.EXECUTOR, RecordFormat(block=True))
    driver.executor.send(Port.EXECUTOR, Chunk("r", 0, 0, 2, 1, b"a\nb\n"))
    driver.run(1)
    assert driver.records() == {2: b"a\nb\n"}


def test_call_executor_too_large_result_fails_alone(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task): return "x" * int(task) if task != "7" else 10 ** 40
    """)
    driver = start(path + ":value", limits=TaskLimits(max_output_bytes=21))
    driver.send_records("20", "21", "7", "1")
    assert driver.run(4) == {0: b"x" * 20 + b"\n", 1: b"", 2: b"", 3: b"x\n"}
    assert driver.failures() == [
        TaskFailure(task, "size", 0, "wrote more than 21 bytes", "", record_size=size)
        for task, size in ((1, 2), (2, 1))
    ]
    assert driver.records() == {1: b"21", 2: b"7"}


def test_call_executor_timeout_fails_only_the_slow_task(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        def value(task):
            if task == "plain": time.sleep(1000)
            if task == "stubborn":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                os.system("sleep 1000 & echo $! > {tmp_path}/pid")
                time.sleep(1000)
            return task
    """)
    driver = start(path + ":value", slots=1, limits=TaskLimits(Timeout(seconds=0.5), grace_seconds=0.1))
    records = [str(n) for n in range(300)]
    records[100], records[200] = "plain", "stubborn"
    driver.send_records(*records)
    outputs = driver.run(300)
    assert [n for n in range(300) if outputs[n] != f"{n}\n".encode()] == [100, 200]
    text = "timed out after 0.5 s"
    assert driver.failures() == [
        TaskFailure(100, "timeout", 15, text, "", record_size=5),
        TaskFailure(200, "timeout", 9, text, "", record_size=8),
    ]
    assert driver.records() == {100: b"plain", 200: b"stubborn"}
    driver.run_until(lambda: not is_alive(int((tmp_path / "pid").read_text())))


def test_call_executor_end_in_grace_is_still_a_timeout(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def asked(*_): raise InterruptedError
        signal.signal(signal.SIGTERM, asked)
        def value(task):
            signal.signal(signal.SIGTERM, asked)
            if task == "wait":
                try: time.sleep(1000)
                except InterruptedError: return "late"
            return task
    """)
    driver = start(path + ":value", slots=1, limits=TaskLimits(Timeout(seconds=0.3), grace_seconds=1000.0))
    driver.send_records("a", "wait", "b", "wait")
    assert driver.run(4) == {0: b"a\n", 1: b"", 2: b"b\n", 3: b""}
    assert [(failure.task, failure.kind) for failure in driver.failures()] == [(1, "timeout"), (3, "timeout")]


def test_call_executor_timeout_in_percent_uses_samples(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        def value(task):
            while task == "wait" and not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
            return task
    """)
    driver = start(path + ":value", slots=2, limits=TaskLimits(Timeout(median_factor=3.0)))
    driver.send_records("wait")
    driver.run_until(
        lambda: (
            driver.executor._pool.slots[0].timeout_watch.task == 0
            or driver.executor._pool.slots[1].timeout_watch.task == 0
        )
    )
    driver.send_records("a", first=1)
    assert driver.run(2) == {0: b"", 1: b"a\n"}
    assert [(failure.task, failure.kind) for failure in driver.failures()] == [(0, "timeout")]


def test_call_executor_frees_memory_of_large_outputs(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task): return task[-1] * int(task[:-1])
    """)
    driver = start(path + ":value", slots=1)
    sizes = [1, 100 << 20, 3, 700_000, 700_000, 700_000, 2 << 20, 5]
    driver.send_records(*(f"{size}z" for size in sizes))
    outputs = driver.run(len(sizes))
    assert [len(outputs[task]) - 1 for task in range(len(sizes))] == sizes
    assert outputs[1].count(b"z") == 100 << 20
    sizes_now = [
        int(os.fstat(shared_batch.descriptor).st_size)
        for slot in driver.executor._pool.slots
        for shared_batch in slot.shared_batches
    ]
    assert max(sizes_now) <= 8 << 20


def test_call_executor_long_task_delays_no_other(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        def value(task):
            while task == "wait" and not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
            return task
    """)
    driver = start(path + ":value")
    records = [str(n) for n in range(3000)]
    records[1000] = "wait"
    driver.send_records(*records)
    outputs = driver.run(2999)
    assert 1000 not in outputs
    (tmp_path / "go").touch()
    assert driver.run(3000)[1000] == b"wait\n"


def test_call_executor_release_returns_unstarted_tasks(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        def value(task):
            if task == "wait": pathlib.Path({str(tmp_path / "begun")!r}).touch()
            while task == "wait" and not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
            pathlib.Path({str(tmp_path)!r}, "ran" + task).touch()
            return task
    """)
    driver = start(path + ":value", slots=1)
    driver.send_records(*map(str, range(100)), "wait", *map(str, range(101, 400)))
    driver.run(100)
    wait_until((tmp_path / "begun").exists)
    driver.executor.send(Port.EXECUTOR, ReleaseQueued())
    (tmp_path / "go").touch()
    driver.run(101)
    (returned,) = (message for message in driver.messages if isinstance(message, TasksReleased))
    assert returned.ranges == ((101, 400),)
    driver.send_records("last", first=400)
    assert driver.run(102)[400] == b"last\n"
    assert len(list(tmp_path.glob("ran*"))) == 102


def test_call_executor_cancel_kills_only_running_task(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        def value(task):
            if task == "wait":
                pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
                time.sleep(1000)
            return task
    """)
    driver = start(path + ":value", slots=1)
    records = [str(n) for n in range(60)]
    records[40] = "wait"
    driver.send_records(*records)
    pid = tmp_path / "pid"
    driver.run_until(lambda: pid.exists() and pid.read_text() != "")
    driver.executor.send(Port.EXECUTOR, CancelTasks(((40, 42), (50, 51))))
    outputs = driver.run(57)
    assert sorted(outputs) == [n for n in range(60) if n not in (40, 41, 50)]
    assert driver.failures() == []
    assert not is_alive(int(pid.read_text()))


@pytest.mark.parametrize("seconds", [0.0, 0.2])
def test_call_executor_cancelled_task_can_run_again(
    start: StartDriver, module: Callable[[str], str], tmp_path: Path, seconds: float
) -> None:
    """The second case cancels during the grace period."""
    asked, began = tmp_path / "asked", tmp_path / "began"
    path = module(f"""
        def value(task):
            if task == "new": return task
            signal.signal(signal.SIGTERM, lambda *_: pathlib.Path({str(asked)!r}).touch())
            pathlib.Path({str(began)!r}).touch()
            while True: time.sleep(0.01)
    """)
    driver = start(path + ":value", slots=1, limits=TaskLimits(Timeout(seconds=seconds), grace_seconds=1000.0))
    driver.send_records("old")
    driver.run_until((asked if seconds else began).exists)
    driver.executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
    driver.send_records("new")
    assert driver.run(1) == {0: b"new\n"}
    assert driver.failures() == []
