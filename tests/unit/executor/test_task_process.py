"""Metrics and tags of ended tasks."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from pipeline.executor.limits import TaskLimits
from pipeline.model.messages import RecordFormat
from pipeline.model.option_values import Timeout
from tests.unit.executor.command_driver import make_driver

if TYPE_CHECKING:
    from pathlib import Path

WITH_METRICS = RecordFormat(collect_metrics=True)


def test_metrics_match_kernel_usage() -> None:
    memory = "x=$(head -c 50000000 /dev/zero | tr '\\0' x)"
    before = time.time()
    with make_driver(
        f"{memory}; i=0; while [ $i -lt 100000 ]; do i=$((i + 1)); done; echo {{}} >&2; sleep 0.05",
        record_format=WITH_METRICS,
    ) as driver:
        driver.run_records(b"a b")
        after = time.time()
    metrics = driver.metrics[0]
    assert before <= metrics.started_at <= after
    assert 0 <= metrics.queued_seconds <= after - before
    assert 0.05 <= metrics.seconds <= after - before
    assert metrics.cpu_seconds > 0
    assert metrics.max_rss > 50_000_000
    assert (metrics.slot, metrics.stderr_size, metrics.record) == (1, len(b"a b\n"), b"a b")
    assert metrics.command.startswith(b"x=$(head -c ")
    assert b"echo 'a b' >&2" in metrics.command


def test_metrics_count_waiting_for_a_slot_as_queued() -> None:
    with make_driver("sleep 0.1; echo $PIPE_SLOT", slots=1, record_format=WITH_METRICS) as driver:
        driver.run_records(b"a", b"b")
    assert driver.metrics[1].queued_seconds >= driver.metrics[0].seconds >= 0.1
    assert driver.metrics[1].started_at >= driver.metrics[0].started_at + 0.1


def test_metrics_of_failed_tasks_are_reported(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    with make_driver(slots=1, limits=TaskLimits(Timeout(seconds=0.2), 5.0), record_format=WITH_METRICS) as driver:
        records = [b"no-such-command x", b"%a" % plain, b"kill -9 $$", b"exit 3", b"sleep 1000", b"echo nul\0", b"echo"]
        driver.run_records(*(record.replace(b"b'", b"").replace(b"'", b"") for record in records))
    assert len(driver.metrics) == len(records)
    assert {task: failure.kind for task, failure in driver.failures.items()} == {
        0: "exit", 1: "exit", 2: "signal", 3: "exit", 4: "timeout", 5: "exception"
    }  # fmt: skip
    assert {metrics.slot for metrics in driver.metrics.values()} == {1}
    assert driver.metrics[0].command == b"no-such-command x"
    assert driver.metrics[0].stderr_size == len(b"exit 127: command not found: no-such-command\n")
    assert driver.metrics[4].seconds >= 0.2
    assert all(driver.metrics[task].queued_seconds >= driver.metrics[4].seconds for task in (5, 6))


def test_metrics_of_script_without_shebang_show_command(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("exit 3\n")
    script.chmod(0o700)
    with make_driver(f"{script} {{}}", record_format=WITH_METRICS) as driver:
        driver.run_records(b"a")
    assert driver.metrics[0].command.decode() == f"{script} a"
    assert driver.failures[0].text == f"exit 3: {script} a"


def test_metrics_not_collected_are_empty() -> None:
    with make_driver("echo") as driver:
        driver.run_records(b"a")
    assert driver.metrics == {}


@pytest.mark.parametrize(("tag", "prefix"), [("", b"a b"), ("{#}-{}:{%}", b"1-a b:1")])
def test_tag_precedes_each_line_of_stdout_and_stderr(tag: str, prefix: bytes) -> None:
    with make_driver(
        "printf '1\\n\\n2'; echo oh >&2; exit 3 # {}", tag=tag, slots=1, record_format=WITH_METRICS
    ) as driver:
        (output,) = driver.run_records(b"a b")
    assert output == prefix + b"\t1\n" + prefix + b"\t\n" + prefix + b"\t2"
    assert driver.stderr == prefix + b"\toh\n"
    assert driver.metrics[0].stderr_size == len(driver.stderr)
    assert driver.failures[0].stderr_tail == "oh\n"


def test_tag_is_not_added_to_empty_output() -> None:
    with make_driver("true", tag="") as driver:
        assert driver.run_records(b"a") == [b""]
    assert driver.stderr == b""
