"""Credit of a worker: late binding for long tasks, a round trip ahead for short ones."""

from __future__ import annotations

from pipeline.worker.heartbeat import LONG_TASK_SECONDS, MAX_PREFETCH_CHUNKS, CreditEstimator


def estimator_with_pace(slots: int, seconds_per_task: float = 0.001) -> CreditEstimator:
    """Make one that has measured short tasks."""
    estimator = CreditEstimator(slots)
    estimator.on_tasks_finished(1, seconds_per_task)
    return estimator


def test_credit_before_measurement_is_idle_slots() -> None:
    assert [CreditEstimator(3).chunks_to_request(unfinished) for unfinished in (0, 1, 3, 9)] == [3, 2, 0, 0]


def test_credit_for_long_tasks_is_idle_slots() -> None:
    estimator = estimator_with_pace(3, LONG_TASK_SECONDS * 1.01)
    assert [estimator.chunks_to_request(unfinished) for unfinished in (0, 1, 3, 9)] == [3, 2, 0, 0]


def test_credit_for_short_tasks_covers_round_trip() -> None:
    estimator = estimator_with_pace(2)
    assert estimator.prefetch_chunks() == 5  # 2 ms round trip, 0.5 ms a chunk of one task on two slots, and one
    assert [estimator.chunks_to_request(unfinished) for unfinished in (0, 2, 6, 7, 50)] == [7, 5, 1, 0, 0]


def test_prefetch_is_limited_for_shortest_tasks() -> None:
    estimator = estimator_with_pace(1, 0.0)
    for sequence in range(1, 9):
        estimator.on_heartbeat_sent(sequence, 0.0)
        estimator.on_chunk(sequence, 1, 60.0)  # a slow input looks like a slow lane
    assert estimator.prefetch_chunks() == MAX_PREFETCH_CHUNKS
    assert estimator_with_pace(1, LONG_TASK_SECONDS).prefetch_chunks() == 2


def test_credit_counts_chunks_not_tasks() -> None:
    estimator = estimator_with_pace(2, 0.0001)
    for sequence in range(1, 50):
        estimator.on_chunk(sequence, 100, 0.0)
    assert estimator.prefetch_chunks() == 2  # 100 tasks of 0.1 ms on two slots take longer than the round trip
    assert [estimator.chunks_to_request(unfinished) for unfinished in (0, 90, 110, 290, 310, 500)] == [4, 3, 2, 1, 0, 0]


def test_round_trip_ends_at_newly_allowed_chunk() -> None:
    estimator = estimator_with_pace(1)
    estimator.on_heartbeat_sent(5, 10.0)
    estimator.on_heartbeat_sent(6, 10.5)  # of several, the first is measured
    estimator.on_chunk(4, 1, 11.0)  # allowed before
    assert estimator.prefetch_chunks() == 3
    estimator.on_chunk(5, 1, 10.010)
    assert estimator.prefetch_chunks() == 5  # a quarter of the way from 2 ms to 10 ms: 4 ms
    estimator.on_chunk(6, 1, 20.0)  # nothing is measured
    assert estimator.prefetch_chunks() == 5


def test_seconds_per_task_follows_faster_with_many_tasks() -> None:
    estimator = estimator_with_pace(1, 0.010)
    estimator.on_tasks_finished(1, 0.020)
    assert round(estimator.seconds_per_task, 6) == 0.011
    estimator.on_tasks_finished(100, 3.1)
    assert round(estimator.seconds_per_task, 6) == 0.021
