"""The executor of callables, driven as the worker's loop drives it, with real children."""

from __future__ import annotations

import os
import select
import signal
import struct
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.calls import Calls
from pipeline.errors import UsageError
from pipeline.messages import Broken, Cancel, Chunk, Done, Message, Note, Recipe, Release, Returned
from pipeline.station import Port

PATIENCE = 20.0


class Driver:
    """An edge in a loop, and all that it has said."""

    def __init__(self, call: str, init: str = "", slots: int = 2) -> None:
        self.edge = Calls(call, init, slots)
        self.said: list[Message] = []
        self.edge.send(Port.EXECUTOR, Recipe())

    def give(self, *records: str | bytes, first: int = 0, mark: bytes = b"\n") -> None:
        """Send these records as one chunk."""
        body = b"".join((record.encode() if isinstance(record, str) else record) + mark for record in records)
        self.edge.send(Port.EXECUTOR, Chunk("r", 0, 0, first, len(records), body))

    def until(self, condition: Callable[[], bool]) -> None:
        """Drive the edge until the condition holds."""
        poll = select.poll()
        poll.register(self.edge.files()[0], select.POLLIN)  # type: ignore[arg-type]
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.said
            poll.poll(max(0.0, min(0.05, self.edge.deadline - time.monotonic())) * 1000)
            self.said += self.edge.receive()

    def run(self, count: int) -> dict[int, bytes]:
        """Drive until `count` tasks are done; their outputs."""
        self.until(lambda: sum(done.count for done in self.dones()) >= count)
        return self.outputs()

    def dones(self) -> list[Done]:
        return [message for message in self.said if isinstance(message, Done)]

    def outputs(self) -> dict[int, bytes]:
        """Each task's output; every task at most once."""
        found: dict[int, bytes] = {}
        for done in self.dones():
            ends = struct.unpack(f"<{done.count}I", done.ends)
            assert ends[-1] == len(done.output)
            for index, (start, stop) in enumerate(zip((0, *ends), ends, strict=False)):
                assert done.first + index not in found
                found[done.first + index] = done.output[start:stop]
        return found

    def notes(self) -> list[Note]:
        return sorted((note for done in self.dones() for note in done.notes), key=lambda note: note.task)

    def errors(self) -> str:
        return b"".join(done.errors for done in self.dones()).decode()

    def broken(self) -> Broken:
        """Drive until it breaks."""
        self.until(lambda: any(isinstance(message, Broken) for message in self.said))
        (broken,) = (message for message in self.said if isinstance(message, Broken))
        return broken


Start = Callable[..., Driver]


@pytest.fixture
def start() -> Iterator[Start]:
    """Drivers, closed at the end."""
    drivers: list[Driver] = []

    def make(call: str, init: str = "", slots: int = 2) -> Driver:
        drivers.append(Driver(call, init, slots))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.edge.close()


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], str]:
    """Writes a module, answers its file's name."""

    def write(text: str) -> str:
        path = tmp_path / "theirs.py"
        path.write_text("import os, sys, time, signal, pathlib\n" + textwrap.dedent(text))
        return str(path)

    return write


def gone(pid: int) -> bool:
    """Whether no such process runs any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


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
        ("os._exit(7)", "exit", 7, "exited with 7"),
        ("os._exit(0)", "exit", 0, "exited with 0"),
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
        ("math:pi", "pi is a float, which cannot be called"),
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
