"""What is on the way on a lane, and when it should have come."""

from __future__ import annotations

from pipeline.ventilator.lane import MIN_BYTES_PER_SECOND, STALL_SECONDS, InFlight


def test_what_is_sent_is_on_the_way_until_it_is_seen() -> None:
    transit = InFlight(0.0)
    for sequence, size in ((1, 10), (2, 20), (3, 30)):
        transit.on_sent(sequence, size, 1.0)
    assert transit.size == 60
    transit.acknowledge(2, 2.0)
    assert transit.size == 30
    transit.acknowledge(2, 2.0)
    assert transit.size == 30
    transit.acknowledge(3, 3.0)
    assert (transit.size, transit.is_stalled(99.0, 99.0)) == (0, False)


def test_the_oldest_is_overdue_after_its_time_if_its_worker_was_heard_since() -> None:
    transit = InFlight(0.0)
    transit.on_sent(1, int(2 * MIN_BYTES_PER_SECOND), 10.0)
    patience = STALL_SECONDS + 2
    assert not transit.is_stalled(11.0, 10.0 + patience)
    assert transit.is_stalled(11.0, 10.1 + patience)
    assert not transit.is_stalled(10.0, 10.1 + patience)  # nothing was heard: it is the worker that is silent


def test_each_that_is_seen_starts_the_clock_anew() -> None:
    transit = InFlight(0.0)
    transit.on_sent(1, 0, 0.0)
    transit.on_sent(2, 0, 0.0)
    transit.acknowledge(1, 2.9)
    assert not transit.is_stalled(5.0, 5.8)
    assert transit.is_stalled(5.0, 6.0)


def test_each_repair_in_a_row_doubles_the_patience_and_a_chunk_that_comes_ends_the_row() -> None:
    transit = InFlight(0.0)
    for patience in (STALL_SECONDS, 2 * STALL_SECONDS, 4 * STALL_SECONDS):
        transit.on_sent(1, 5, 0.0)
        assert not transit.is_stalled(1.0, patience)
        assert transit.is_stalled(1.0, patience + 0.1)
        transit.reset()
        assert transit.size == 0
    transit.on_sent(1, 0, 0.0)
    transit.acknowledge(1, 1.0)
    transit.on_sent(2, 0, 1.0)
    assert transit.is_stalled(2.0, 1.1 + STALL_SECONDS)
