"""What is on the way on a lane, and when it should have come."""

from __future__ import annotations

from pipeline.ventilator.transit import SPEED, UNSEEN, Transit


def test_what_is_sent_is_on_the_way_until_it_is_seen() -> None:
    transit = Transit(0.0)
    for sequence, size in ((1, 10), (2, 20), (3, 30)):
        transit.sent(sequence, size, 1.0)
    assert transit.size == 60
    transit.seen(2, 2.0)
    assert transit.size == 30
    transit.seen(2, 2.0)
    assert transit.size == 30
    transit.seen(3, 3.0)
    assert (transit.size, transit.is_overdue(99.0, 99.0)) == (0, False)


def test_the_oldest_is_overdue_after_its_time_if_its_worker_was_heard_since() -> None:
    transit = Transit(0.0)
    transit.sent(1, int(2 * SPEED), 10.0)
    patience = UNSEEN + 2
    assert not transit.is_overdue(11.0, 10.0 + patience)
    assert transit.is_overdue(11.0, 10.1 + patience)
    assert not transit.is_overdue(10.0, 10.1 + patience)  # nothing was heard: it is the worker that is silent


def test_each_that_is_seen_starts_the_clock_anew() -> None:
    transit = Transit(0.0)
    transit.sent(1, 0, 0.0)
    transit.sent(2, 0, 0.0)
    transit.seen(1, 2.9)
    assert not transit.is_overdue(5.0, 5.8)
    assert transit.is_overdue(5.0, 6.0)


def test_each_repair_in_a_row_doubles_the_patience_and_a_chunk_that_comes_ends_the_row() -> None:
    transit = Transit(0.0)
    for patience in (UNSEEN, 2 * UNSEEN, 4 * UNSEEN):
        transit.sent(1, 5, 0.0)
        assert not transit.is_overdue(1.0, patience)
        assert transit.is_overdue(1.0, patience + 0.1)
        transit.restart()
        assert transit.size == 0
    transit.sent(1, 0, 0.0)
    transit.seen(1, 1.0)
    transit.sent(2, 0, 1.0)
    assert transit.is_overdue(2.0, 1.1 + UNSEEN)
