"""CommandExecutor with real processes."""

from __future__ import annotations

import os
import re
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from pipeline.executor import outcomes
from pipeline.executor.command_executor import CommandExecutor
from pipeline.executor.limits import TaskLimits
from pipeline.model.errors import UsageError
from pipeline.model.events import CancelTasks, ReleaseQueued, TasksReleased
from pipeline.model.messages import RecordFormat, TaskFailure
from pipeline.model.state_machine import NEVER, Port
from tests.support.processes import is_alive, wait_until
from tests.unit.executor.command_driver import make_driver, read_pid

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("command", [("printf", "<%s>", "{}"), ("printf '<%s>' {}",), ("printf '<%s>'",)])
def test_command_executor_returns_each_task_output(command: tuple[str, ...]) -> None:
    records = [b"", b"a b", b"it's $HOME", b"\xff\xfe", b"*", b"-n", *(b"%d" % n for n in range(20))]
    with make_driver(*command) as driver:
        outputs = driver.run_records(*records)
    assert outputs == [b"<" + record + b">" for record in records]
    assert driver.failures == {}
    assert sum(result.count for result in driver.finished_messages()) == len(records)


def test_command_executor_merges_short_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes, "REPORT_INTERVAL_SECONDS", 1000.0)
    with make_driver("echo {}") as driver:
        driver.run_records(*(b"%d" % n for n in range(200)))
    assert len(driver.finished_messages()) <= 16  # one for each half of the rest, and the last ones
    assert all(seconds > 0 for seconds in driver.seconds())


def test_command_executor_reports_what_has_ended_before_a_reply(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(outcomes, "REPORT_INTERVAL_SECONDS", 1000.0)
    log = tmp_path / "log"
    with make_driver(f"echo >> {log}", slots=1) as driver:
        driver.send_records(*(b"%d" % n for n in range(200)))
        driver.run_until(lambda: log.exists() and log.read_text().count("\n") >= 20)
        driver.executor.send(Port.EXECUTOR, ReleaseQueued())
        driver.send_records(*[b"more"] * 200, first=1000)  # while these wait, other reports would wait, too
        driver.run_until(lambda: any(isinstance(message, TasksReleased) for message in driver.messages))
        assert len(driver.outputs) >= 18  # all but the last ones, which may just end


def test_command_executor_returns_large_output_whole() -> None:
    with make_driver("head -c {} /dev/zero") as driver:
        outputs = driver.run_records(b"3000000", b"0", b"65536", b"65537")
    assert [len(text) for text in outputs] == [3_000_000, 0, 65_536, 65_537]


def test_command_executor_idle_slot_is_reported_at_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with make_driver("sh", "-c", '[ "$1" = slow ] && read x < "$2"; echo "$1"', "sh", "{}", str(gate)) as driver:
        driver.send_records(b"slow", b"quick")
        driver.run_until(lambda: driver.outputs == {1: b"quick\n"})
        gate.write_text("go\n")
        driver.run_until(lambda: driver.outputs == {0: b"slow\n", 1: b"quick\n"})


def test_command_executor_exit_code_fails_only_its_task() -> None:
    with make_driver("echo {}; echo e{} >&2; exit {}", slots=1) as driver:
        assert driver.run_records(b"0", b"3", b"0") == [b"0\n", b"3\n", b"0\n"]
    assert driver.stderr == b"e0\ne3\ne0\n"
    assert driver.failures == {1: TaskFailure(1, "exit", 3, "exit 3: echo 3; echo e3 >&2; exit 3", "e3\n", 1)}
    assert driver.records == {1: b"3"}


def test_command_executor_failure_names_the_signal() -> None:
    with make_driver("kill -{} $$") as driver:
        driver.run_records(b"SEGV", b"KILL", b"0")
    assert {task: (failure.kind, failure.code) for task, failure in driver.failures.items()} == {
        0: ("signal", signal.SIGSEGV),
        1: ("signal", signal.SIGKILL),
    }
    assert driver.failures[0].text == "SIGSEGV: kill -SEGV $$"


def test_command_executor_failure_shortens_long_commands() -> None:
    with make_driver("false") as driver:
        driver.run_records(b"x" * 5000)
    assert len(driver.failures[0].text) < 250
    assert driver.failures[0].text.startswith("exit 1: false xxx")


def test_command_executor_invalid_argument_fails_alone() -> None:
    with make_driver("echo", "{}") as driver:
        outputs = driver.run_records(b"a", b"nul\0inside", b"b", b"x" * (1 << 18), b"c")
    assert outputs == [b"a\n", b"", b"b\n", b"", b"c\n"]
    assert {task: failure.kind for task, failure in driver.failures.items()} == {1: "exception", 3: "exit"}
    assert "NUL" in driver.failures[1].text
    assert "argument list too long: echo" in driver.failures[3].text
    assert b"NUL" not in driver.stderr  # an exception is shown: on stderr it would be shown twice
    assert driver.records == {1: b"nul\0inside", 3: b"x" * (1 << 18)}


def test_command_executor_reports_all_failed_starts() -> None:
    with make_driver("{}", "x") as driver:
        driver.run_records(*[b"no-such-command-%d" % n for n in range(50)])
    assert {failure.code for failure in driver.failures.values()} == {127}
    assert "command not found: no-such-command-7" in driver.failures[7].text
    assert b"command not found: no-such-command-49\n" in driver.stderr


def test_command_executor_not_executable_exits_126(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    with make_driver("{}", "x") as driver:
        driver.run_records(os.fsencode(tmp_path / "plain"))
    assert (driver.failures[0].kind, driver.failures[0].code) == ("exit", 126)


def test_command_executor_script_without_shebang_runs(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0: $1"\n')
    script.chmod(0o700)
    with make_driver(f"{script} -{{}}") as driver:
        assert driver.run_records(b"a b") == [b"%b: -a b\n" % os.fsencode(script)]


@pytest.mark.parametrize(
    ("command", "text", "hint"),
    [
        (("no-such-command {}",), "command not found: no-such-command", "no directory of PATH contains it"),
        (("no-such-command", "x"), "command not found: no-such-command", "no directory of PATH contains it"),
        (("./no/such", "x"), "command not found: ./no/such", ""),
        (("/usr", "x"), "/usr is a directory, not a command", ""),
        (
            ("/etc/passwd", "x"),
            "/etc/passwd is not executable",
            "run `chmod +x /etc/passwd`, or put its interpreter before it",
        ),
    ],
)
def test_command_executor_command_not_found_raises(command: tuple[str, ...], text: str, hint: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(text)}$") as raised:
        CommandExecutor(command, 1)
    assert raised.value.hint == hint


def test_command_executor_stdin_is_empty_by_default() -> None:
    with make_driver("wc -c; echo {}") as driver:
        assert driver.run_records(b"x") == [b"0\nx\n"]


def test_command_executor_stdin_has_no_terminator() -> None:
    with make_driver("cat", stdin=True, record_format=RecordFormat(zero=True)) as driver:
        assert driver.run_records(b"a\nb", b"", b"\xff" * 300_000, terminator=b"\0") == [
            b"a\nb",
            b"",
            b"\xff" * 300_000,
        ]


def test_command_executor_stdin_block_is_unchanged() -> None:
    with make_driver("cat", stdin=True, record_format=RecordFormat(block=True)) as driver:
        assert driver.run_records(b"a\nb\n", terminator=b"") == [b"a\nb\n"]


def test_command_executor_unread_stdin_is_harmless() -> None:
    with make_driver("true", stdin=True) as driver:
        assert driver.run_records(b"x" * 300_000, b"y") == [b"", b""]
    assert driver.failures == {}


def test_command_executor_tasks_have_default_signals() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with make_driver(
            "grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f6 /proc/$$/stat; echo $$ {}"
        ) as driver:
            words = driver.run_records(b"x")[0].split()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    reserved = 0b11 << 31  # the C library uses 32 and 33, and inherits them as they are
    assert (int(words[1], 16), int(words[3], 16) & ~reserved) == (0, 0)
    assert words[4] == words[5]


def test_command_executor_leaks_no_descriptor() -> None:
    before = os.listdir("/proc/self/fd")
    ours = {int(fd) for fd in before if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(int(fd))}
    with make_driver("ls /proc/self/fd; : {}", stdin=True) as driver:
        for output in driver.run_records(b"x", b"y"):
            assert {int(fd) for fd in output.split()} - {3} <= ours | {0, 1, 2}
        driver.send_records(b"sleep", first=9)
        driver.executor.receive()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_command_executor_too_much_output_kills_session(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = f"case {{}} in flood) set -m; sleep 1000 & echo $! > {pid}; yes;; *) head -c {{}} /dev/zero;; esac"
    with make_driver(command, limits=TaskLimits(max_output_bytes=100_000)) as driver:
        assert [len(text) for text in driver.run_records(b"100000", b"100001", b"flood", b"5")] == [100_000, 0, 0, 5]
        driver.run_until(lambda: not is_alive(read_pid(pid)))
    assert {task: (failure.kind, failure.code) for task, failure in driver.failures.items()} == {
        1: ("size", 0),
        2: ("size", 0),
    }
    assert driver.failures[1].text.startswith("wrote more than 100000 bytes: case ")
    assert driver.records == {1: b"100001", 2: b"flood"}


def test_command_executor_failure_has_record_and_stderr() -> None:
    command = "head -c 5000 /dev/zero | tr '\\0' x >&2; printf 'the \\377 end' >&2; exit {}"
    with make_driver(command, slots=1) as driver:
        driver.run_records(b"1", b"0", b"2")
    for task, record in ((0, b"1"), (2, b"2")):
        assert driver.failures[task].stderr_tail == "x" * 2039 + "the \ufffd end"
        assert driver.records[task] == record
    assert sorted(driver.failures) == [0, 2]


def test_command_executor_failed_block_keeps_its_bytes() -> None:
    with make_driver("false", stdin=True, record_format=RecordFormat(block=True)) as driver:
        driver.run_records(b"a\nb\n", terminator=b"")
    assert driver.records == {0: b"a\nb\n"}


def test_command_executor_ignores_background_processes(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with make_driver(f"sleep 60 & echo $! > {pid}; echo {{}}", slots=1) as driver:
        assert driver.run_records(b"a", b"b") == [b"a\n", b"b\n"]
        assert is_alive(read_pid(pid))
        os.kill(read_pid(pid), signal.SIGKILL)


def test_command_executor_runs_at_most_slots_tasks(tmp_path: Path) -> None:
    body = f"touch {tmp_path}/{{}}; ls {tmp_path} | wc -l; rm {tmp_path}/{{}}"
    with make_driver(body, slots=3) as driver:
        outputs = driver.run_records(*(b"%d" % n for n in range(30)))
    assert max(int(text) for text in outputs) <= 3


def test_command_executor_release_returns_unstarted_tasks(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with make_driver("read x < {}; echo $x", slots=1) as driver:
        driver.send_records(*[os.fsencode(gate)] * 3, first=4)
        driver.run_until(lambda: driver.executor.deadline != 0.0)
        driver.executor.send(Port.EXECUTOR, ReleaseQueued())
        driver.run_until(lambda: bool(driver.messages))
        assert driver.messages == [TasksReleased(((5, 7),))]
        gate.write_text("done\n")
        driver.run_until(lambda: driver.outputs == {4: b"done\n"})
        driver.executor.send(Port.EXECUTOR, ReleaseQueued())
        driver.run_until(lambda: driver.messages[-1] == TasksReleased(()))


def test_command_executor_cancel_kills_without_report(tmp_path: Path) -> None:
    with make_driver(f"sh -c 'echo $$ > {tmp_path}/$1; [ $1 = c ] || exec sleep 60' sh {{}}") as driver:
        driver.send_records(b"a", b"b", b"b", b"c")
        driver.run_until(lambda: bool(read_pid(tmp_path / "a") and read_pid(tmp_path / "b")))
        pids = [read_pid(tmp_path / name) for name in "ab"]
        driver.executor.send(Port.EXECUTOR, CancelTasks(((0, 3),)))
        driver.run_until(lambda: 3 in driver.outputs)
        driver.run_until(lambda: not any(map(is_alive, pids)))
        driver.send_records(b"c", first=1)
        driver.run_until(lambda: 1 in driver.outputs)
    assert sorted(driver.outputs) == [1, 3]
    assert driver.failures == {}


def test_command_executor_cancelled_task_can_run_again(tmp_path: Path) -> None:
    once = tmp_path / "once"
    with make_driver(
        f"if mkdir {once}; then echo $$ > {once}/pid; echo old; sleep 1000; fi; echo new {{}}", slots=1
    ) as driver:
        driver.send_records(b"a")
        driver.run_until(lambda: bool(read_pid(once / "pid")))
        driver.executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
        driver.send_records(b"b")
        driver.run_until(lambda: 0 in driver.outputs)
    assert driver.outputs == {0: b"new b\n"}
    assert not is_alive(read_pid(once / "pid"))


def test_command_executor_cancel_drops_ended_tasks() -> None:
    with make_driver("echo {}", slots=1) as driver:
        driver.send_records(*[b"x"] * 200)
        driver.run_until(lambda: bool(driver.outputs))
        outputs = set(driver.outputs)
        driver.executor.send(Port.EXECUTOR, CancelTasks(((0, 199),)))
        driver.run_until(lambda: 199 in driver.outputs)
    assert set(driver.outputs) == outputs | {199}


def test_command_executor_close_kills_all_processes(tmp_path: Path) -> None:
    with make_driver(f"sleep 60 & echo $$ > {tmp_path}/parent; echo $! > {tmp_path}/child; wait; : {{}}") as driver:
        driver.send_records(b"x")
        driver.run_until(lambda: bool(read_pid(tmp_path / "child")))
        pids = [read_pid(tmp_path / "parent"), read_pid(tmp_path / "child")]
    wait_until(lambda: not any(map(is_alive, pids)))
    driver.executor.close()
    assert driver.executor.deadline == NEVER


def test_command_executor_retries_when_short_of_files() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with make_driver("echo {}", slots=20) as driver:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 8, before[1]))
        try:
            outputs = driver.run_records(*(b"%d" % n for n in range(30)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert outputs == [b"%d\n" % n for n in range(30)]


def test_command_executor_lasting_shortage_fails_task() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with make_driver("echo {}") as driver:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            driver.send_records(b"a")
            for message in driver.executor.receive():
                driver.handle(message)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert driver.failures[0].kind == "exception"
    assert "Too many open files" in driver.failures[0].text
