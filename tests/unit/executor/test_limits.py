"""TaskLimits and TimeoutWatch."""

from __future__ import annotations

import signal

import pytest

from pipeline.executor.limits import (
    MAX_CHECK_SECONDS,
    MAX_SAMPLES,
    MIN_CHECK_SECONDS,
    MIN_TIMEOUT_SECONDS,
    UNLIMITED_BYTES,
    TaskLimits,
    TimeoutWatch,
    timeout_text,
    too_large_text,
)
from pipeline.model.messages import TaskFailure
from pipeline.model.option_values import Timeout
from pipeline.model.state_machine import NEVER


def test_task_limits_default_to_no_timeout() -> None:
    limits = TaskLimits()
    limits.add_sample(1.0)
    assert (limits.timeout_seconds, limits.has_timeout, limits.max_output_bytes) == (NEVER, False, UNLIMITED_BYTES)
    assert TaskLimits(max_output_bytes=5).max_output_bytes == 5


def test_task_limits_in_seconds_are_fixed() -> None:
    limits = TaskLimits(Timeout(seconds=2.5), grace_seconds=1.0)
    limits.add_sample(100.0)
    assert (limits.timeout_seconds, limits.has_timeout, limits.grace_seconds) == (2.5, True, 1.0)


def test_task_limits_in_percent_follow_the_median() -> None:
    limits = TaskLimits(Timeout(median_factor=2.0))
    assert (limits.timeout_seconds, limits.has_timeout) == (NEVER, True)
    for seconds in (1.0, 50.0, 3.0):
        limits.add_sample(seconds)
    assert limits.timeout_seconds == 6.0
    limits.add_sample(5.0, task_count=10**9)
    assert limits.timeout_seconds == 10.0
    limits.add_sample(7.0, task_count=0)
    limits.add_sample(7.0, task_count=MAX_SAMPLES // 2)
    assert limits.timeout_seconds == 10.0
    limits.add_sample(7.0)
    assert limits.timeout_seconds == 14.0
    limits.add_sample(0.0, task_count=MAX_SAMPLES)
    assert limits.timeout_seconds == MIN_TIMEOUT_SECONDS


def test_timeout_watch_counts_from_first_observation() -> None:
    watch, limits = TimeoutWatch(), TaskLimits(Timeout(seconds=1.0), grace_seconds=3.0)
    assert watch.due_signal(-1, limits, 90.0) == 0
    assert watch.deadline(limits, 100.0) == NEVER
    assert watch.due_signal(7, limits, 100.0) == watch.due_signal(7, limits, 100.9) == 0
    assert watch.deadline(limits, 100.9) == 100.9 + MAX_CHECK_SECONDS
    assert watch.due_signal(7, limits, 101.0) == signal.SIGTERM
    assert watch.due_signal(8, limits, 101.1) == watch.due_signal(8, limits, 102.0) == 0
    assert watch.due_signal(8, limits, 102.1) == signal.SIGTERM


def test_timeout_watch_kills_once_after_grace() -> None:
    watch, limits = TimeoutWatch(), TaskLimits(Timeout(seconds=1.0), grace_seconds=3.0)
    assert watch.due_signal(8, limits, 101.0) == 0
    watch.mark_stopped(limits, 102.0)
    assert watch.due_signal(8, limits, 104.9) == 0
    assert watch.deadline(limits, 104.9) == 105.0
    assert watch.due_signal(8, limits, 105.0) == signal.SIGKILL
    assert watch.due_signal(8, limits, 106.0) == 0
    assert watch.deadline(limits, 106.0) == NEVER


def test_timeout_watch_kills_idle_process_at_once() -> None:
    watch, limits = TimeoutWatch(), TaskLimits(Timeout(seconds=1.0), grace_seconds=3.0)
    watch.observe(8, 101.0)
    watch.mark_stopped(limits, 102.0)
    assert watch.due_signal(-1, limits, 102.1) == signal.SIGKILL


def test_timeout_watch_checks_short_limits_more_often() -> None:
    watch = TimeoutWatch()
    watch.observe(1, 0.0)
    assert watch.deadline(TaskLimits(Timeout(seconds=0.4)), 0.0) == 0.05
    assert watch.deadline(TaskLimits(Timeout(seconds=0.01)), 0.0) == MIN_CHECK_SECONDS
    assert watch.deadline(TaskLimits(Timeout(median_factor=2.0)), 0.0) == MAX_CHECK_SECONDS


@pytest.mark.parametrize(
    ("status", "code"), [(signal.SIGTERM, 15), (signal.SIGKILL, 9), (signal.SIGKILL | 0x80, 9), (3 << 8, 15)]
)
def test_timeout_failure_names_the_last_signal(status: int, code: int) -> None:
    watch = TimeoutWatch()
    watch.observe(4, 0.0)
    watch.mark_stopped(TaskLimits(Timeout(seconds=1.25)), 1.3)
    assert watch.timeout_failure(status) == TaskFailure(4, "timeout", code, "timed out after 1.25 s", "", 0)


def test_limit_texts_format_seconds_and_bytes() -> None:
    assert [timeout_text(seconds) for seconds in (1.2, 5.0, 0.12345, 3600.0, 10_000_000.0)] == [
        "timed out after 1.2 s",
        "timed out after 5 s",
        "timed out after 0.12 s",
        "timed out after 3600 s",
        "timed out after 10000000 s",
    ]
    assert [too_large_text(size) for size in (10 << 20, 1 << 30, 3 << 29, 1 << 10, 1000)] == [
        "wrote more than 10 MiB",
        "wrote more than 1 GiB",
        "wrote more than 1536 MiB",
        "wrote more than 1 KiB",
        "wrote more than 1000 bytes",
    ]
