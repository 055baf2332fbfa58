"""Chunks in flight on a lane, and when they are overdue."""

from __future__ import annotations

from pipeline.ventilator.lane import MIN_BYTES_PER_SECOND, STALL_SECONDS, InFlight


def test_in_flight_size_falls_when_acknowledged() -> None:
    in_flight = InFlight(0.0)
    for sequence, size in ((1, 10), (2, 20), (3, 30)):
        in_flight.on_sent(sequence, size, 1.0)
    assert in_flight.size == 60
    in_flight.acknowledge(2, 2.0)
    assert in_flight.size == 30
    in_flight.acknowledge(2, 2.0)
    assert in_flight.size == 30
    in_flight.acknowledge(3, 3.0)
    assert (in_flight.size, in_flight.is_stalled(99.0, 99.0)) == (0, False)


def test_oldest_chunk_stalls_only_with_heartbeats() -> None:
    in_flight = InFlight(0.0)
    in_flight.on_sent(1, int(2 * MIN_BYTES_PER_SECOND), 10.0)
    timeout = STALL_SECONDS + 2
    assert not in_flight.is_stalled(11.0, 10.0 + timeout)
    assert in_flight.is_stalled(11.0, 10.1 + timeout)
    assert not in_flight.is_stalled(10.0, 10.1 + timeout)  # no heartbeat since: the worker is silent


def test_acknowledge_restarts_stall_time() -> None:
    in_flight = InFlight(0.0)
    in_flight.on_sent(1, 0, 0.0)
    in_flight.on_sent(2, 0, 0.0)
    in_flight.acknowledge(1, 2.9)
    assert not in_flight.is_stalled(5.0, 5.8)
    assert in_flight.is_stalled(5.0, 6.0)


def test_reset_doubles_stall_time_until_acknowledged() -> None:
    in_flight = InFlight(0.0)
    for timeout in (STALL_SECONDS, 2 * STALL_SECONDS, 4 * STALL_SECONDS):
        in_flight.on_sent(1, 5, 0.0)
        assert not in_flight.is_stalled(1.0, timeout)
        assert in_flight.is_stalled(1.0, timeout + 0.1)
        in_flight.reset()
        assert in_flight.size == 0
    in_flight.on_sent(1, 0, 0.0)
    in_flight.acknowledge(1, 1.0)
    in_flight.on_sent(2, 0, 1.0)
    assert in_flight.is_stalled(2.0, 1.1 + STALL_SECONDS)
