"""Who gets another try, and when."""

from __future__ import annotations

import pytest

from pipeline.model.messages import AttemptRange, FailureKind, Result, RetryRange, TaskFailure
from pipeline.model.ranges import AttemptCounts
from pipeline.model.state_machine import VENTILATOR
from pipeline.sink.retries import MAX_BACKOFF_SECONDS, RetryPolicy, RetryQueue


def result(*kinds: tuple[int, FailureKind], tries: int = 0, worker: str = "ann") -> Result:
    """Tasks 0 to 9, of which these failed."""
    notes = tuple(TaskFailure(task, kind, 1, "", "", 0) for task, kind in kinds)
    return Result("r", worker, 0, 10, b"", bytes(40), b"", notes, tries)


@pytest.mark.parametrize("kind", ["exit", "signal", "exception", "timeout", "size", "lost"])
def test_a_failed_task_is_tried_again_until_its_tries_are_used_up(kind: FailureKind) -> None:
    attempts = RetryQueue(RetryPolicy(retries=2))
    assert attempts.next_attempts(result((3, kind))) == [AttemptRange(3, 4, 1)]
    assert attempts.next_attempts(result((3, kind), tries=1)) == [AttemptRange(3, 4, 2)]
    assert attempts.next_attempts(result((3, kind), tries=2)) == []


def test_who_ended_well_is_not_tried_again_nor_is_anybody_without_retries() -> None:
    assert RetryQueue(RetryPolicy(retries=2)).next_attempts(result()) == []
    assert RetryQueue(RetryPolicy()).next_attempts(result((3, "exit"))) == []


def test_each_failed_task_of_a_result_is_named_in_order() -> None:
    attempts = RetryQueue(RetryPolicy(retries=1))
    assert attempts.next_attempts(result((8, "exit"), (2, "signal"))) == [AttemptRange(2, 3, 1), AttemptRange(8, 9, 1)]


def test_who_takes_its_executor_along_is_given_up_sooner() -> None:
    attempts = RetryQueue(RetryPolicy(retries=9, crash_limit=2))
    assert attempts.next_attempts(result((3, "lost"), (4, "exit"))) == [AttemptRange(3, 4, 1), AttemptRange(4, 5, 1)]
    assert attempts.next_attempts(result((3, "lost"), (4, "exit"), tries=1)) == [AttemptRange(4, 5, 2)]


def test_what_the_ventilator_has_judged_is_final() -> None:
    attempts = RetryQueue(RetryPolicy(retries=9))
    assert attempts.next_attempts(result((3, "poison"), worker=VENTILATOR)) == []
    assert attempts.next_attempts(result((3, "size"), worker=VENTILATOR)) == []


def test_pauses_double_and_part_those_that_failed_together() -> None:
    retrying = RetryPolicy(retries=9, delay=1.0)
    for tries in (1, 2, 3, 4):
        pauses = {retrying.backoff_seconds(task, tries) for task in range(1000)}
        assert 0.5 * 2 ** (tries - 1) <= min(pauses) < max(pauses) <= 2 ** (tries - 1)
        assert len(pauses) > 990
    assert retrying.backoff_seconds(5, 2) == retrying.backoff_seconds(
        5, 2
    )  # the lot is the task's number: nothing is drawn
    assert MAX_BACKOFF_SECONDS / 2 <= retrying.backoff_seconds(5, 1 << 20) <= MAX_BACKOFF_SECONDS
    assert RetryPolicy(retries=9).backoff_seconds(5, 3) == 0.0


def scene(delay: float, *tried: AttemptRange) -> tuple[RetryQueue, AttemptCounts]:
    """These were known for good at 10.0."""
    attempts = RetryQueue(RetryPolicy(retries=9, delay=delay))
    for each in tried:
        attempts.schedule(each, 10.0)
    return attempts, AttemptCounts(tried)


def test_those_that_wait_as_long_are_told_as_runs() -> None:
    attempts, tries = scene(
        0.0, AttemptRange(3, 5, 1), AttemptRange(5, 6, 1), AttemptRange(6, 7, 2), AttemptRange(9, 10, 2)
    )
    assert len(attempts) == 5
    said = (RetryRange(3, 6, 1, 0.0), RetryRange(6, 7, 2, 0.0), RetryRange(9, 10, 2, 0.0))
    assert attempts.retries(tries, 10.0, 100) == said
    assert attempts.retries(tries, 10.0, 2) == said[:2]


def test_what_waits_is_told_with_the_seconds_that_are_left() -> None:
    attempts, tries = scene(4.0, AttemptRange(3, 4, 1))
    (at_once,) = attempts.retries(tries, 10.0, 100)
    assert 2.0 <= at_once.delay_seconds <= 4.0
    (later,) = attempts.retries(tries, 11.0, 100)
    assert later.delay_seconds == pytest.approx(at_once.delay_seconds - 1.0, abs=0.002)
    assert attempts.retries(tries, 99.0, 100) == (RetryRange(3, 4, 1, 0.0),)


def test_what_is_not_known_for_good_is_not_told() -> None:
    attempts, _ = scene(0.0, AttemptRange(3, 4, 1))
    tries = AttemptCounts([AttemptRange(3, 5, 1), AttemptRange(7, 8, 1)])  # 4 and 7: on their way to the journal
    assert attempts.retries(tries, 10.0, 100) == (RetryRange(3, 4, 1, 0.0),)


@pytest.mark.parametrize("high", [8, 1 << 60])
def test_what_is_settled_is_not_tried_again(high: int) -> None:
    attempts, tries = scene(0.0, AttemptRange(3, 5, 1), AttemptRange(6, 8, 1))
    attempts.settle(((0, 4), (7, high)))
    assert len(attempts) == 2
    assert attempts.retries(tries, 10.0, 100) == (RetryRange(4, 5, 1, 0.0), RetryRange(6, 7, 1, 0.0))
