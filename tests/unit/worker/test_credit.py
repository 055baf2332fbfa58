"""What a worker asks for: late binding for long tasks, a round trip ahead for short ones."""

from __future__ import annotations

from pipeline.worker.heartbeat import LONG_TASK_SECONDS, MAX_PREFETCH_CHUNKS, CreditEstimator


def short(slots: int, pace: float = 0.001) -> CreditEstimator:
    """A worker that has measured short tasks."""
    credit = CreditEstimator(slots)
    credit.on_tasks_finished(1, pace)
    return credit


def test_before_anything_is_measured_each_idle_slot_gets_a_chunk() -> None:
    assert [CreditEstimator(3).chunks_to_request(unfinished) for unfinished in (0, 1, 3, 9)] == [3, 2, 0, 0]


def test_long_tasks_are_never_asked_ahead() -> None:
    credit = short(3, LONG_TASK_SECONDS * 1.01)
    assert [credit.chunks_to_request(unfinished) for unfinished in (0, 1, 3, 9)] == [3, 2, 0, 0]


def test_short_tasks_are_asked_ahead_by_one_round_trip() -> None:
    credit = short(2)
    assert credit.prefetch_chunks() == 5  # 2 ms there and back, 0.5 ms a chunk of one task on two slots, and one
    assert [credit.chunks_to_request(unfinished) for unfinished in (0, 2, 6, 7, 50)] == [7, 5, 1, 0, 0]


def test_however_short_there_is_a_limit() -> None:
    credit = short(1, 0.0)
    for sequence in range(1, 9):
        credit.on_heartbeat_sent(sequence, 0.0)
        credit.on_chunk(sequence, 1, 60.0)  # a slow input looks like a slow lane
    assert credit.prefetch_chunks() == MAX_PREFETCH_CHUNKS
    assert short(1, LONG_TASK_SECONDS).prefetch_chunks() == 2


def test_chunks_are_counted_not_tasks() -> None:
    credit = short(2, 0.0001)
    for sequence in range(1, 50):
        credit.on_chunk(sequence, 100, 0.0)
    assert credit.prefetch_chunks() == 2  # 100 tasks of 0.1 ms on two slots take longer than the round trip
    assert [credit.chunks_to_request(unfinished) for unfinished in (0, 90, 110, 290, 310, 500)] == [4, 3, 2, 1, 0, 0]


def test_a_round_trip_is_from_the_pulse_to_the_chunk_that_it_allowed() -> None:
    credit = short(1)
    credit.on_heartbeat_sent(5, 10.0)
    credit.on_heartbeat_sent(6, 10.5)  # of several, the first is measured
    credit.on_chunk(4, 1, 11.0)  # was allowed before
    assert credit.prefetch_chunks() == 3
    credit.on_chunk(5, 1, 10.010)
    assert credit.prefetch_chunks() == 5  # a quarter of the way from 2 ms to 10 ms: 4 ms
    credit.on_chunk(6, 1, 20.0)  # nothing is being measured
    assert credit.prefetch_chunks() == 5


def test_the_pace_follows_slowly_and_faster_with_many_tasks() -> None:
    credit = short(1, 0.010)
    credit.on_tasks_finished(1, 0.020)
    assert round(credit.seconds_per_task, 6) == 0.011
    credit.on_tasks_finished(100, 3.1)
    assert round(credit.seconds_per_task, 6) == 0.021
