"""The executor of callables: every task is told once, as it ended."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import callables
import pytest
from callables import PATIENCE, Start, gone

from pipeline.errands import Cancel, Release, Returned
from pipeline.messages import Chunk, Recipe
from pipeline.station import Port

start, module = callables.start, callables.module


def test_many_records_come_back_right(start: Start) -> None:
    driver = start("builtins:len")
    records = ["x" * (n % 70) for n in range(200_000)]
    for first in range(0, len(records), 10_000):
        driver.give(*records[first : first + 10_000], first=first)
    assert driver.run(200_000) == {n: b"%d\n" % (n % 70) for n in range(200_000)}
    assert driver.notes() == []
    assert all(0 <= done.seconds < PATIENCE for done in driver.dones())


def test_values_become_bytes(start: Start, module: Callable[[str], str]) -> None:
    path = module("""
        VALUES = dict(text="t\u00e4t", raw=b"\\xff", nothing=None, yes=True, big=2**70, parts=[1, {"a": "\u00e4"}],
                      odd=object(), lone="\\ud800", buffer=bytearray(b"b"), real=1.5, minus=-3, empty="")
        def value(task): return VALUES[task]
    """)
    driver = start(path + ":value")
    driver.give("text", "raw", "nothing", "yes", "big", "parts", "odd", "lone", "buffer", "real", "minus", "empty")
    outputs = driver.run(12)
    assert [outputs[task] for task in range(12)] == [
        "t\u00e4t\n".encode(), b"\xff\n", b"", b"true\n", b"1180591620717411303424\n",
        '[1, {"a": "\u00e4"}]\n'.encode(),
        b"", b"", b"b\n", b"1.5\n", b"-3\n", b"\n",
    ]  # fmt: skip
    odd, lone = driver.notes()
    assert (odd.task, odd.kind) == (6, "exception")
    assert odd.text == "TypeError: Object of type object is not JSON serializable"
    assert (lone.task, lone.text.split(":")[0]) == (7, "UnicodeEncodeError")


def test_an_exception_fails_its_task_alone(start: Start, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task):
            if task == "exit": sys.exit(4)
            if task == "stop": raise KeyboardInterrupt
            return 10 // int(task)
    """)
    driver = start(path + ":value")
    driver.give("5", "0", "x", "exit", "stop", "2")
    assert driver.run(6) == {0: b"2\n", 1: b"", 2: b"", 3: b"", 4: b"", 5: b"5\n"}
    assert [(note.task, note.kind, note.code, note.text.split(":")[0]) for note in driver.notes()] == [
        (1, "exception", 1, "ZeroDivisionError"),
        (2, "exception", 1, "ValueError"),
        (3, "exception", 1, "SystemExit"),
        (4, "exception", 1, "KeyboardInterrupt"),
    ]
    assert "Traceback" in driver.errors()
    assert "in value" in driver.errors()
    assert "warm.py" not in driver.errors()


def test_a_record_that_is_no_text_fails_alone(start: Start) -> None:
    driver = start("builtins:len", slots=1)
    driver.give("abc", b"\xff\xfe", "\u00e4\r\x0b\u2028", "")
    assert driver.run(4) == {0: b"3\n", 1: b"", 2: b"4\n", 3: b"0\n"}
    assert [(note.task, note.text.split(":")[0]) for note in driver.notes()] == [(1, "UnicodeDecodeError")]


def test_records_end_as_the_recipe_says(start: Start) -> None:
    driver = start("builtins:len", slots=1)
    driver.edge.send(Port.EXECUTOR, Recipe(zero=True))
    driver.give("a\nb", "", mark=b"\0")
    assert driver.run(2) == {0: b"3\n", 1: b"0\n"}
    driver.edge.send(Port.EXECUTOR, Recipe(block=True))
    driver.edge.send(Port.EXECUTOR, Chunk("r", 0, 0, 2, 1, b"a\nb\n"))
    assert driver.run(3)[2] == b"4\n"


@pytest.mark.parametrize(
    ("end", "kind", "code", "text"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal", 11, "killed by SIGSEGV"),
        ("os._exit(7)", "lost", 7, "exited with 7"),
        ("os._exit(0)", "lost", 0, "exited with 0"),
    ],
)
def test_a_death_convicts_exactly_its_task(
    start: Start, module: Callable[[str], str], end: str, kind: str, code: int, text: str
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
    driver.give(*records)
    outputs = driver.run(500)
    assert [n for n in range(500) if outputs[n] != f"{n}\n".encode()] == [99, 100, 101, 300]
    assert [(note.task, note.kind, note.code, note.text) for note in driver.notes()] == [
        (99, "exception", 1, "ValueError: worse"),
        (100, kind, code, text),
        (101, "exception", 1, "ValueError: worse"),
        (300, kind, code, text),
    ]


def test_large_outputs_pass_and_their_memory_is_given_back(start: Start, module: Callable[[str], str]) -> None:
    path = module("""
        def value(task): return task[-1] * int(task[:-1])
    """)
    driver = start(path + ":value", slots=1)
    sizes = [1, 100 << 20, 3, 700_000, 700_000, 700_000, 2 << 20, 5]
    driver.give(*(f"{size}z" for size in sizes))
    outputs = driver.run(len(sizes))
    assert [len(outputs[task]) - 1 for task in range(len(sizes))] == sizes
    assert outputs[1].count(b"z") == 100 << 20
    held = [int(os.fstat(arena.descriptor).st_size) for slot in driver.edge._crew.slots for arena in slot.arenas]
    assert max(held) <= 8 << 20


def test_a_long_task_holds_back_nobody(start: Start, module: Callable[[str], str], tmp_path: Path) -> None:
    path = module(f"""
        def value(task):
            while task == "wait" and not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
            return task
    """)
    driver = start(path + ":value")
    records = [str(n) for n in range(3000)]
    records[1000] = "wait"
    driver.give(*records)
    outputs = driver.run(2999)
    assert 1000 not in outputs
    (tmp_path / "go").touch()
    assert driver.run(3000)[1000] == b"wait\n"


def test_release_gives_back_all_that_has_not_started(
    start: Start, module: Callable[[str], str], tmp_path: Path
) -> None:
    path = module(f"""
        def value(task):
            while task == "wait" and not os.path.exists({str(tmp_path / "go")!r}): time.sleep(0.01)
            pathlib.Path({str(tmp_path)!r}, "ran" + task).touch()
            return task
    """)
    driver = start(path + ":value", slots=1)
    driver.give(*map(str, range(100)), "wait", *map(str, range(101, 400)))
    driver.run(100)
    driver.edge.send(Port.EXECUTOR, Release())
    (tmp_path / "go").touch()
    driver.run(101)
    (returned,) = (message for message in driver.said if isinstance(message, Returned))
    assert returned.ranges == ((101, 400),)
    driver.give("last", first=400)
    assert driver.run(102)[400] == b"last\n"
    assert len(list(tmp_path.glob("ran*"))) == 102


def test_cancel_kills_the_running_and_nobody_else(start: Start, module: Callable[[str], str], tmp_path: Path) -> None:
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
    driver.give(*records)
    pid = tmp_path / "pid"
    driver.until(lambda: pid.exists() and pid.read_text() != "")
    driver.edge.send(Port.EXECUTOR, Cancel(((40, 42), (50, 51))))
    outputs = driver.run(57)
    assert sorted(outputs) == [n for n in range(60) if n not in (40, 41, 50)]
    assert driver.notes() == []
    assert gone(int(pid.read_text()))
