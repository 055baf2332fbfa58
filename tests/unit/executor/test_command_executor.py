"""Commands, with real processes: outputs, failures, signals, stdin, grandchildren, cancelling and shortage."""

from __future__ import annotations

import os
import re
import resource
import signal
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.executor import task_process
from pipeline.executor.command_executor import CommandExecutor
from pipeline.executor.limits import TaskLimits
from pipeline.model.errors import UsageError
from pipeline.model.events import CancelTasks, ReleaseQueued, TasksReleased
from pipeline.model.messages import RecordFormat, TaskFailure
from pipeline.model.state_machine import NEVER, Port
from tests.unit.executor.command_driver import TIMEOUT_SECONDS, is_alive, make_driver, read_pid

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("command", [("printf", "<%s>", "{}"), ("printf '<%s>' {}",), ("printf '<%s>'",)])
def test_each_task_has_its_own_output(command: tuple[str, ...]) -> None:
    records = [b"", b"a b", b"it's $HOME", b"\xff\xfe", b"*", b"-n", *(b"%d" % n for n in range(20))]
    with make_driver(*command) as it:
        told = it.run_records(*records)
    assert told == [b"<" + record + b">" for record in records]
    assert it.failures == {}
    assert sum(done.count for done in it.finished_messages()) == len(records)


def test_many_short_tasks_are_told_together() -> None:
    with make_driver("echo {}") as it:
        it.run_records(*(b"%d" % n for n in range(100)))
    assert len(it.finished_messages()) < 60
    assert all(seconds > 0 for seconds in it.seconds())


def test_large_output_comes_whole() -> None:
    with make_driver("head -c {} /dev/zero") as it:
        told = it.run_records(b"3000000", b"0", b"65536", b"65537")
    assert [len(text) for text in told] == [3_000_000, 0, 65_536, 65_537]


def test_an_idle_slot_is_told_at_once(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with make_driver("sh", "-c", '[ "$1" = slow ] && read x < "$2"; echo "$1"', "sh", "{}", str(gate)) as it:
        it.send_records(b"slow", b"quick")
        it.run_until(lambda: it.outputs == {1: b"quick\n"})
        gate.write_text("go\n")
        it.run_until(lambda: it.outputs == {0: b"slow\n", 1: b"quick\n"})


def test_failures_are_noted_and_neighbours_are_fine() -> None:
    with make_driver("echo {}; echo e{} >&2; exit {}", slots=1) as it:
        assert it.run_records(b"0", b"3", b"0") == [b"0\n", b"3\n", b"0\n"]
    assert it.stderr == b"e0\ne3\ne0\n"
    assert it.failures == {1: TaskFailure(1, "exit", 3, "exit 3: echo 3; echo e3 >&2; exit 3", "e3\n", 1)}
    assert it.records == {1: b"3"}


def test_signals_are_named() -> None:
    with make_driver("kill -{} $$") as it:
        it.run_records(b"SEGV", b"KILL", b"0")
    assert {task: (note.kind, note.code) for task, note in it.failures.items()} == {
        0: ("signal", signal.SIGSEGV),
        1: ("signal", signal.SIGKILL),
    }
    assert it.failures[0].text == "SIGSEGV: kill -SEGV $$"


def test_long_commands_are_cut_in_notes() -> None:
    with make_driver("false") as it:
        it.run_records(b"x" * 5000)
    assert len(it.failures[0].text) < 250
    assert it.failures[0].text.startswith("exit 1: false xxx")


def test_what_cannot_be_an_argument_fails_alone() -> None:
    with make_driver("echo", "{}") as it:
        told = it.run_records(b"a", b"nul\0inside", b"b", b"x" * (1 << 18), b"c")
    assert told == [b"a\n", b"", b"b\n", b"", b"c\n"]
    assert {task: note.kind for task, note in it.failures.items()} == {1: "exception", 3: "exception"}
    assert "NUL" in it.failures[1].text
    assert "Argument list too long" in it.failures[3].text
    assert it.stderr == b""  # the notes are shown: said there, it would be said twice
    assert it.records == {1: b"nul\0inside", 3: b"x" * (1 << 18)}


def test_many_that_cannot_start_are_all_told() -> None:
    with make_driver("{}", "x") as it:
        it.run_records(*[b"no-such-command-%d" % n for n in range(50)])
    assert {note.code for note in it.failures.values()} == {127}
    assert "command not found: no-such-command-7" in it.failures[7].text
    assert b"command not found: no-such-command-49\n" in it.stderr


def test_not_executable(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    with make_driver("{}", "x") as it:
        it.run_records(os.fsencode(tmp_path / "plain"))
    assert (it.failures[0].kind, it.failures[0].code) == ("exit", 126)


def test_a_script_without_its_first_line_is_run_by_the_shell(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text('echo "$0: $1"\n')
    script.chmod(0o700)
    with make_driver(f"{script} -{{}}") as it:
        assert it.run_records(b"a b") == [b"%b: -a b\n" % os.fsencode(script)]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("no-such-command {}",), "command not found: no-such-command; no folder of PATH has it"),
        (("no-such-command", "x"), "command not found: no-such-command; no folder of PATH has it"),
        (("./no/such", "x"), "command not found: ./no/such"),
        (("/usr", "x"), "/usr is a folder, not a command"),
        (("/etc/passwd", "x"), "/etc/passwd is not executable: chmod +x it, or name what runs it before it"),
    ],
)
def test_command_not_found_is_told_before_the_first_task(command: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(said)}$"):
        CommandExecutor(command, 1)


def test_stdin_is_empty_unless_asked_for() -> None:
    with make_driver("wc -c; echo {}") as it:
        assert it.run_records(b"x") == [b"0\nx\n"]


def test_the_record_on_stdin_is_without_its_end() -> None:
    with make_driver("cat", stdin=True, record_format=RecordFormat(zero=True)) as it:
        assert it.run_records(b"a\nb", b"", b"\xff" * 300_000, terminator=b"\0") == [b"a\nb", b"", b"\xff" * 300_000]


def test_a_block_on_stdin_is_as_it_is() -> None:
    with make_driver("cat", stdin=True, record_format=RecordFormat(block=True)) as it:
        assert it.run_records(b"a\nb\n", terminator=b"") == [b"a\nb\n"]


def test_who_does_not_read_stdin_disturbs_nobody() -> None:
    with make_driver("true", stdin=True) as it:
        assert it.run_records(b"x" * 300_000, b"y") == [b"", b""]
    assert it.failures == {}


def test_children_have_default_signals_and_a_session() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with make_driver("grep -E '^Sig(Blk|Ign)' /proc/self/status; cut -d' ' -f6 /proc/$$/stat; echo $$ {}") as it:
            words = it.run_records(b"x")[0].split()
    finally:
        signal.signal(signal.SIGINT, before)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    reserved = 0b11 << 31  # 32 and 33 are the C library's own, and as it inherited them
    assert (int(words[1], 16), int(words[3], 16) & ~reserved) == (0, 0)
    assert words[4] == words[5]


def test_no_descriptor_is_inherited_or_left() -> None:
    before = os.listdir("/proc/self/fd")
    ours = {int(fd) for fd in before if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(int(fd))}
    with make_driver("ls /proc/self/fd; : {}", stdin=True) as it:
        for told in it.run_records(b"x", b"y"):
            assert {int(fd) for fd in told.split()} - {3} <= ours | {0, 1, 2}
        it.send_records(b"sleep", first=9)
        it.executor.receive()
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_both_ends_of_a_long_stderr_are_kept() -> None:
    size = 5 << 20
    with make_driver("{ echo start; head -c 5242880 /dev/zero; echo end; } >&2; echo {}") as it:
        assert it.run_records(b"x") == [b"x\n"]
    mark = b"\n[... %d bytes of stderr left out ...]\n" % (size + len(b"start\nend\n") - task_process.MAX_STDERR_BYTES)
    assert it.stderr.startswith(b"start\n\0")
    assert it.stderr.endswith(b"\0end\n")
    assert mark in it.stderr
    assert len(it.stderr) == task_process.MAX_STDERR_BYTES + len(mark)


def test_who_writes_too_much_is_killed_with_all_its_session_and_its_output_dropped(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = f"case {{}} in flood) set -m; sleep 1000 & echo $! > {pid}; yes;; *) head -c {{}} /dev/zero;; esac"
    with make_driver(command, limits=TaskLimits(max_output_bytes=100_000)) as it:
        assert [len(text) for text in it.run_records(b"100000", b"100001", b"flood", b"5")] == [100_000, 0, 0, 5]
        it.run_until(lambda: not is_alive(read_pid(pid)))
    assert {task: (note.kind, note.code) for task, note in it.failures.items()} == {1: ("size", 0), 2: ("size", 0)}
    assert it.failures[1].text.startswith("wrote more than 100000 bytes: case ")
    assert it.records == {1: b"100001", 2: b"flood"}


def test_a_failed_task_brings_its_record_and_the_end_of_its_stderr() -> None:
    command = "head -c 5000 /dev/zero | tr '\\0' x >&2; printf 'the \\377 end' >&2; exit {}"
    with make_driver(command, slots=1) as it:
        it.run_records(b"1", b"0", b"2")
    for task, record in ((0, b"1"), (2, b"2")):
        assert it.failures[task].stderr_tail == "x" * 2039 + "the \ufffd end"
        assert it.records[task] == record
    assert sorted(it.failures) == [0, 2]


def test_a_block_that_fails_brings_all_its_bytes() -> None:
    with make_driver("false", stdin=True, record_format=RecordFormat(block=True)) as it:
        it.run_records(b"a\nb\n", terminator=b"")
    assert it.records == {0: b"a\nb\n"}


def test_a_grandchild_that_holds_the_pipe_holds_back_nobody(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with make_driver(f"sleep 60 & echo $! > {pid}; echo {{}}", slots=1) as it:
        assert it.run_records(b"a", b"b") == [b"a\n", b"b\n"]
        assert is_alive(read_pid(pid))
        os.kill(read_pid(pid), signal.SIGKILL)


def test_slots_bound_what_runs(tmp_path: Path) -> None:
    body = f"touch {tmp_path}/{{}}; ls {tmp_path} | wc -l; rm {tmp_path}/{{}}"
    with make_driver(body, slots=3) as it:
        told = it.run_records(*(b"%d" % n for n in range(30)))
    assert max(int(text) for text in told) <= 3


def test_release_gives_back_what_has_not_started(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with make_driver("read x < {}; echo $x", slots=1) as it:
        it.send_records(*[os.fsencode(gate)] * 3, first=4)
        it.run_until(lambda: it.executor.deadline != 0.0)
        it.executor.send(Port.EXECUTOR, ReleaseQueued())
        it.run_until(lambda: bool(it.messages))
        assert it.messages == [TasksReleased(((5, 7),))]
        gate.write_text("done\n")
        it.run_until(lambda: it.outputs == {4: b"done\n"})
        it.executor.send(Port.EXECUTOR, ReleaseQueued())
        it.run_until(lambda: it.messages[-1] == TasksReleased(()))


def test_cancelled_tasks_are_killed_and_never_told(tmp_path: Path) -> None:
    with make_driver(f"sh -c 'echo $$ > {tmp_path}/$1; [ $1 = c ] || exec sleep 60' sh {{}}") as it:
        it.send_records(b"a", b"b", b"b", b"c")
        it.run_until(lambda: bool(read_pid(tmp_path / "a") and read_pid(tmp_path / "b")))
        pids = [read_pid(tmp_path / name) for name in "ab"]
        it.executor.send(Port.EXECUTOR, CancelTasks(((0, 3),)))
        it.run_until(lambda: 3 in it.outputs)
        it.run_until(lambda: not any(map(is_alive, pids)))
        it.send_records(b"c", first=1)
        it.run_until(lambda: 1 in it.outputs)
    assert sorted(it.outputs) == [1, 3]
    assert it.failures == {}


def test_a_cancelled_task_may_come_again_and_runs_anew(tmp_path: Path) -> None:
    once = tmp_path / "once"
    with make_driver(
        f"if mkdir {once}; then echo $$ > {once}/pid; echo old; sleep 1000; fi; echo new {{}}", slots=1
    ) as it:
        it.send_records(b"a")
        it.run_until(lambda: bool(read_pid(once / "pid")))
        it.executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
        it.send_records(b"b")
        it.run_until(lambda: 0 in it.outputs)
    assert it.outputs == {0: b"new b\n"}
    assert not is_alive(read_pid(once / "pid"))


def test_cancelled_outcomes_are_not_told() -> None:
    with make_driver("echo {}", slots=1) as it:
        it.send_records(*[b"x"] * 200)
        it.run_until(lambda: bool(it.outputs))
        told = set(it.outputs)
        it.executor.send(Port.EXECUTOR, CancelTasks(((0, 199),)))
        it.run_until(lambda: 199 in it.outputs)
    assert set(it.outputs) == told | {199}


def test_close_leaves_no_process(tmp_path: Path) -> None:
    with make_driver(f"sleep 60 & echo $$ > {tmp_path}/parent; echo $! > {tmp_path}/child; wait; : {{}}") as it:
        it.send_records(b"x")
        it.run_until(lambda: bool(read_pid(tmp_path / "child")))
        pids = [read_pid(tmp_path / "parent"), read_pid(tmp_path / "child")]
    limit = time.monotonic() + TIMEOUT_SECONDS
    while any(map(is_alive, pids)):
        assert time.monotonic() < limit
    it.executor.close()
    assert it.executor.deadline == NEVER


def test_a_shortage_is_waited_out() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with make_driver("echo {}", slots=20) as it:
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 8, before[1]))
        try:
            told = it.run_records(*(b"%d" % n for n in range(30)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert told == [b"%d\n" % n for n in range(30)]


def test_a_shortage_with_nothing_to_wait_for_fails_the_task() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with make_driver("echo {}") as it:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            it.send_records(b"a")
            for message in it.executor.receive():
                it.handle(message)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert it.failures[0].kind == "exception"
    assert "Too many open files" in it.failures[0].text
