"""Status of a run as text."""

from __future__ import annotations

from typing import get_args

import pytest

from pipeline.cli import status_view
from pipeline.model.messages import BlockReason, RunningTask, RunStatus, WorkerActivity, WorkerStatus
from pipeline.model.structs import replace

STATUS = RunStatus("ab12", "feeding", 1234, 3, 10_000, -1, (), ())


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (replace(STATUS, tasks_per_second=567.0), "1,234 of 10,000 done, 3 failed, 567/s, 0:15 left"),
        (STATUS, "1,234 of 10,000 done, 3 failed"),
        (
            replace(STATUS, total=-1, tasks_per_second=0.5, retry_count=2),
            "1,234 done, 3 failed, 2 to retry, 0.50/s",
        ),
        (
            replace(STATUS, settled_count=10_000, failed_count=0, tasks_per_second=1e6),
            "10,000 of 10,000 done, 1,000,000/s, 0:00 left",
        ),
        (replace(STATUS, tasks_per_second=0.5), "1,234 of 10,000 done, 3 failed, 0.50/s, 4:52:12 left"),
    ],
)
def test_progress(status: RunStatus, expected: str) -> None:
    assert status_view.progress(status) == expected


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (80, "[###...........................]  12% 1,234 of 10,000 done, 3 failed"),
        (50, "[#...........]  12% 1,234 of 10,000 done, 3 failed"),
        (36, " 12% 1,234 of 10,000 done, 3 failed"),
        (12, " 12% 1,234 o"),
    ],
)
def test_progress_bar_fits_the_width(width: int, expected: str) -> None:
    assert status_view.progress_bar(STATUS, width) == expected
    assert len(expected) <= width


def test_progress_bar_needs_a_total() -> None:
    assert status_view.progress_bar(replace(STATUS, total=-1), 80) == "1,234 done, 3 failed"
    assert status_view.progress_bar(replace(STATUS, total=0, settled_count=0, failed_count=0), 80) == "0 of 0 done"


@pytest.mark.parametrize(
    ("settled", "total", "elapsed", "expected"),
    [
        (100, 100, 5.2, "100 tasks, 0 failed, 5.2 s, 19.2 tasks/s"),
        (1, 1, 0.1, "1 task, 0 failed, 0.1 s, 10.0 tasks/s"),
        (0, 0, 0.0, "0 tasks, 0 failed, 0.0 s, 0.00 tasks/s"),
        (40, 100, 4.0, "40 of 100 tasks, 0 failed, 4.0 s, 10.0 tasks/s"),
        (7200, -1, 3600.0, "7,200 tasks, 0 failed, 1:00:00, 2.00 tasks/s"),
    ],
)
def test_summary(settled: int, total: int, elapsed: float, expected: str) -> None:
    assert status_view.summary(replace(STATUS, settled_count=settled, total=total, failed_count=0), elapsed) == expected


def test_status_text_of_a_run() -> None:
    doing = (RunningTask(3, 1, 0.25, "gzip\x1b[2J four"), RunningTask(1_000_000, 2, 75.0, "gzip b"))
    members = (
        WorkerStatus("host-1-ab", "gzip\t{}", 2, 1, 617, 0.24, 1.5, 250_000_000, doing[:1]),
        WorkerStatus("h2", "gzip {}", 16, 16, 1_234_567, 3.0, 12.0, 1_500_000_000, doing[1:]),
    )
    status = replace(STATUS, next_in_order=16, workers=members, waiting_for=("host-1-ab", "h2"), blocked_on="turn")
    assert status_view.status_text(status).splitlines() == [
        "run ab12, reading tasks: 1,234 of 10,000 done, 3 failed",
        "no task is running; next in order: task 17",
        "waiting for host-1-ab, h2 to disconnect",
        "",
        "WORKER     SLOTS  BUSY         DONE   CPU    MEMORY  SILENT  COMMAND",
        "host-1-ab      2     1          617   1.5    250 MB   0.2 s  gzip?{}",
        "  task 4, 0.2 s: gzip?[2J four",
        "h2            16    16    1,234,567  12.0    1.5 GB   3.0 s  gzip {}",
        "  task 1,000,001, 1:15: gzip b",
    ]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("worker", "no worker connected; start one with `pipe work --name x COMMAND`"),
        ("ventilator", "no ventilator connected; start one with `pipe ventilate --name x FILE`"),
        ("slots", "all 2 slots are busy"),
        ("output", "output is blocked: slow reader or full disk"),
        ("spill", "--spill-limit reached; paused until task 8 finishes (results are written in order)"),
        ("input", "waiting for input"),
        ("turn", "no task is running; next in order: task 8"),
    ],
)
def test_blocked_text_of_each_reason(reason: BlockReason, expected: str) -> None:
    status = replace(STATUS, blocked_on=reason, next_in_order=7, workers=(WorkerStatus("w", "c", 2, 2, 0, 0.0),))
    assert status_view.blocked_text(status, " --name x") == expected
    assert expected in status_view.status_text(status, " --name x").splitlines()


def test_blocked_text_of_a_single_slot() -> None:
    assert (
        status_view.blocked_text(
            replace(STATUS, blocked_on="slots", workers=(WorkerStatus("w", "c", 1, 1, 0, 0.0),)), ""
        )
        == "the only slot is busy"
    )


def test_every_block_reason_has_a_text() -> None:
    reasons = get_args(BlockReason)[1:]
    assert all(status_view.blocked_text(replace(STATUS, blocked_on=reason), None) != reason for reason in reasons)


def test_worker_text_shows_running_tasks() -> None:
    seen = WorkerActivity("h.1.a", 1.25, 2_000_000, (RunningTask(0, 1, 2.0, "sleep 9"),))
    assert status_view.worker_text(seen) == "worker h.1.a: 1.2 CPUs, 2 MB, 1 task running\n  task 1, 2.0 s: sleep 9"


def test_worker_table_shows_longest_tasks_first() -> None:
    doing = tuple(RunningTask(number, number, float(number), f"sleep {number}") for number in range(9))
    members = (
        WorkerStatus("a", "c", 9, 5, 0, 0.0, running_tasks=doing[:5]),
        WorkerStatus("b", "c", 9, 4, 0, 0.0, running_tasks=doing[5:]),
    )
    lines = status_view.worker_table(members, 6)
    assert [line.split()[0] for line in lines] == ["WORKER", "a", "b", "task", "task", "and"]
    assert lines[3:] == ["  task 9, 8.0 s: sleep 8", "  task 8, 7.0 s: sleep 7", "and 7 more tasks"]
    assert [line.split()[0] for line in status_view.worker_table(members, 2)] == ["WORKER", "and"]
    assert status_view.worker_table(members, 2)[1] == "and 2 more workers"
    assert all(len(status_view.worker_table(members, room)) <= room for room in range(2, 20))
    assert len(status_view.worker_table(members)) == 12


def test_changes_between_two_statuses() -> None:
    ann, bob = WorkerStatus("ann", "wc", 2, 0, 0, 0.0), WorkerStatus("bob", "wc", 1, 0, 0, 0.0)
    before = replace(STATUS, workers=(ann,))
    after = replace(STATUS, workers=(bob,), failed_count=5, retry_count=1, blocked_on="input")
    assert status_view.changes(None, before, None) == [
        "worker ann connected: 2 slots, wc",
        "3 tasks failed (3 in total)",
    ]
    assert status_view.changes(before, after, None) == [
        "worker bob connected: 1 slot, wc",
        "worker ann disconnected",
        "2 tasks failed (5 in total)",
        "1 task failed, will be retried",
        "waiting for input",
    ]
    assert status_view.changes(after, after, None) == []
