"""Which failed tasks are retried, and when."""

from __future__ import annotations

import pytest

from pipeline.model.messages import AttemptRange, FailureKind, Result, RetryRange, TaskFailure
from pipeline.model.ranges import AttemptCounts
from pipeline.model.state_machine import VENTILATOR
from pipeline.sink.retries import MAX_BACKOFF_SECONDS, RetryPolicy, RetryQueue


def result(*kinds: tuple[int, FailureKind], attempt: int = 0, worker: str = "ann") -> Result:
    """Return tasks 0 to 9, of which these failed."""
    failures = tuple(TaskFailure(task, kind, 1, "", "", 0) for task, kind in kinds)
    return Result("r", worker, 0, 10, b"", bytes(40), b"", failures, attempt)


@pytest.mark.parametrize("kind", ["exit", "signal", "exception", "timeout", "size", "lost"])
def test_failed_task_is_retried_until_limit(kind: FailureKind) -> None:
    retry_queue = RetryQueue(RetryPolicy(retries=2))
    assert retry_queue.next_attempts(result((3, kind))) == [AttemptRange(3, 4, 1)]
    assert retry_queue.next_attempts(result((3, kind), attempt=1)) == [AttemptRange(3, 4, 2)]
    assert retry_queue.next_attempts(result((3, kind), attempt=2)) == []


def test_successful_task_is_not_retried() -> None:
    assert RetryQueue(RetryPolicy(retries=2)).next_attempts(result()) == []
    assert RetryQueue(RetryPolicy()).next_attempts(result((3, "exit"))) == []


def test_failed_tasks_of_result_are_sorted() -> None:
    retry_queue = RetryQueue(RetryPolicy(retries=1))
    assert retry_queue.next_attempts(result((8, "exit"), (2, "signal"))) == [
        AttemptRange(2, 3, 1),
        AttemptRange(8, 9, 1),
    ]


def test_crashing_task_has_lower_limit() -> None:
    retry_queue = RetryQueue(RetryPolicy(retries=9, crash_limit=2))
    assert retry_queue.next_attempts(result((3, "lost"), (4, "exit"))) == [AttemptRange(3, 4, 1), AttemptRange(4, 5, 1)]
    assert retry_queue.next_attempts(result((3, "lost"), (4, "exit"), attempt=1)) == [AttemptRange(4, 5, 2)]


def test_failure_reported_by_ventilator_is_final() -> None:
    retry_queue = RetryQueue(RetryPolicy(retries=9))
    assert retry_queue.next_attempts(result((3, "poison"), worker=VENTILATOR)) == []
    assert retry_queue.next_attempts(result((3, "size"), worker=VENTILATOR)) == []


def test_backoff_doubles_with_jitter() -> None:
    policy = RetryPolicy(retries=9, delay=1.0)
    for attempt in (1, 2, 3, 4):
        delays = {policy.backoff_seconds(task, attempt) for task in range(1000)}
        assert 0.5 * 2 ** (attempt - 1) <= min(delays) < max(delays) <= 2 ** (attempt - 1)
        assert len(delays) > 990
    assert policy.backoff_seconds(5, 2) == policy.backoff_seconds(5, 2)  # computed from the task number
    assert MAX_BACKOFF_SECONDS / 2 <= policy.backoff_seconds(5, 1 << 20) <= MAX_BACKOFF_SECONDS
    assert RetryPolicy(retries=9).backoff_seconds(5, 3) == 0.0


def make_queue(delay: float, *attempt_ranges: AttemptRange) -> tuple[RetryQueue, AttemptCounts]:
    """Return a queue in which these were scheduled at 10.0."""
    retry_queue = RetryQueue(RetryPolicy(retries=9, delay=delay))
    for each in attempt_ranges:
        retry_queue.schedule(each, 10.0)
    return retry_queue, AttemptCounts(attempt_ranges)


def test_retries_with_equal_delay_are_one_range() -> None:
    retry_queue, counts = make_queue(
        0.0, AttemptRange(3, 5, 1), AttemptRange(5, 6, 1), AttemptRange(6, 7, 2), AttemptRange(9, 10, 2)
    )
    assert len(retry_queue) == 5
    expected = (RetryRange(3, 6, 1, 0.0), RetryRange(6, 7, 2, 0.0), RetryRange(9, 10, 2, 0.0))
    assert retry_queue.retries(counts, 10.0, 100) == expected
    assert retry_queue.retries(counts, 10.0, 2) == expected[:2]


def test_retry_delay_is_remaining_time() -> None:
    retry_queue, counts = make_queue(4.0, AttemptRange(3, 4, 1))
    (first,) = retry_queue.retries(counts, 10.0, 100)
    assert 2.0 <= first.delay_seconds <= 4.0
    (later,) = retry_queue.retries(counts, 11.0, 100)
    assert later.delay_seconds == pytest.approx(first.delay_seconds - 1.0, abs=0.002)
    assert retry_queue.retries(counts, 99.0, 100) == (RetryRange(3, 4, 1, 0.0),)


def test_uncommitted_attempt_is_not_announced() -> None:
    retry_queue, _ = make_queue(0.0, AttemptRange(3, 4, 1))
    counts = AttemptCounts([AttemptRange(3, 5, 1), AttemptRange(7, 8, 1)])  # 4 and 7 are not committed yet
    assert retry_queue.retries(counts, 10.0, 100) == (RetryRange(3, 4, 1, 0.0),)


@pytest.mark.parametrize("high", [8, 1 << 60])
def test_settled_task_is_not_retried(high: int) -> None:
    retry_queue, counts = make_queue(0.0, AttemptRange(3, 5, 1), AttemptRange(6, 8, 1))
    retry_queue.settle(((0, 4), (7, high)))
    assert len(retry_queue) == 2
    assert retry_queue.retries(counts, 10.0, 100) == (RetryRange(4, 5, 1, 0.0), RetryRange(6, 7, 1, 0.0))
