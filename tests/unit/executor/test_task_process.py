"""What is told of a child when it has ended: what it cost, where it ran, and what it wrote, tagged."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pipeline.executor import task_process
from pipeline.executor.limits import TaskLimits
from pipeline.model.messages import RecordFormat
from pipeline.model.option_values import Timeout
from tests.unit.executor.command_driver import make_driver

if TYPE_CHECKING:
    from pathlib import Path

ACCOUNT = RecordFormat(collect_metrics=True)


def test_an_account_says_what_the_kernel_says() -> None:
    memory = "x=$(head -c 50000000 /dev/zero | tr '\\0' x)"
    before = time.time()
    with make_driver(
        f"{memory}; i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; echo {{}} >&2; sleep 0.05",
        record_format=ACCOUNT,
    ) as it:
        it.run_records(b"a b")
        after = time.time()
    told = it.metrics[0]
    assert before <= told.started_at <= after
    assert 0 <= told.queued_seconds <= after - before
    assert 0.05 <= told.seconds <= after - before
    assert told.cpu_seconds > 0
    assert told.max_rss > 50_000_000
    assert (told.slot, told.stderr_size, told.record) == (1, len(b"a b\n"), b"a b")
    assert told.command.startswith(b"x=$(head -c ")
    assert b"echo 'a b' >&2" in told.command


def test_who_waits_for_a_slot_is_queued() -> None:
    with make_driver("sleep 0.1; echo $PIPE_SLOT", slots=1, record_format=ACCOUNT) as it:
        it.run_records(b"a", b"b")
    assert it.metrics[1].queued_seconds >= it.metrics[0].seconds >= 0.1
    assert it.metrics[1].started_at >= it.metrics[0].started_at + 0.1


def test_accounts_come_with_all_that_fails_too(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    with make_driver(slots=1, limits=TaskLimits(Timeout(seconds=0.2), 5.0), record_format=ACCOUNT) as it:
        records = [b"no-such-command x", b"%a" % plain, b"kill -9 $$", b"exit 3", b"sleep 1000", b"echo nul\0", b"echo"]
        it.run_records(*(record.replace(b"b'", b"").replace(b"'", b"") for record in records))
    assert len(it.metrics) == len(records)
    assert {task: note.kind for task, note in it.failures.items()} == {
        0: "exit", 1: "exit", 2: "signal", 3: "exit", 4: "timeout", 5: "exception"
    }  # fmt: skip
    assert {account.slot for account in it.metrics.values()} == {1}
    assert it.metrics[0].command == b"no-such-command x"
    assert it.metrics[0].stderr_size == len(b"exit 127: command not found: no-such-command\n")
    assert it.metrics[4].seconds >= 0.2
    assert all(it.metrics[task].queued_seconds >= it.metrics[4].seconds for task in (5, 6))


def test_a_script_without_its_first_line_is_shown_as_it_was_typed(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("exit 3\n")
    script.chmod(0o700)
    with make_driver(f"{script} {{}}", record_format=ACCOUNT) as it:
        it.run_records(b"a")
    assert it.metrics[0].command.decode() == f"{script} a"
    assert it.failures[0].text == f"exit 3: {script} a"


def test_no_account_is_told_to_who_has_not_asked() -> None:
    with make_driver("echo") as it:
        it.run_records(b"a")
    assert it.metrics == {}


@pytest.mark.parametrize(("tag", "mark"), [("", b"a b"), ("{#}-{}:{%}", b"1-a b:1")])
def test_each_line_of_stdout_and_stderr_begins_with_the_tag(tag: str, mark: bytes) -> None:
    with make_driver("printf '1\\n\\n2'; echo oh >&2; exit 3 # {}", tag=tag, slots=1, record_format=ACCOUNT) as it:
        (told,) = it.run_records(b"a b")
    assert told == mark + b"\t1\n" + mark + b"\t\n" + mark + b"\t2"
    assert it.stderr == mark + b"\toh\n"
    assert it.metrics[0].stderr_size == len(it.stderr)
    assert it.failures[0].stderr_tail == "oh\n"


def test_who_gets_too_large_by_its_tags_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(task_process, "MAX_OUTPUT_BYTES", 10)
    with make_driver("echo {}; echo {}", tag="") as it:
        assert it.run_records(b"a", b"bc") == [b"a\ta\na\ta\n", b""]
    assert {task: note.kind for task, note in it.failures.items()} == {1: "size"}


def test_no_output_has_no_tag() -> None:
    with make_driver("true", tag="") as it:
        assert it.run_records(b"a") == [b""]
    assert it.stderr == b""
