"""How long is too long: fixed limits, those of the median, and what is said."""

from __future__ import annotations

import signal

import pytest

from pipeline.executor.limits import COARSEST, FINEST, LEAST, MOST_OUTPUT, SAMPLE, Limits, Watch, too_large, too_long
from pipeline.words.kinds import Timeout
from pipeline.words.parts import Note
from pipeline.words.station import NEVER


def test_without_options_nothing_is_too_long_and_much_is_too_large() -> None:
    limits = Limits()
    limits.learn(1.0)
    assert (limits.seconds, limits.timed, limits.output) == (NEVER, False, MOST_OUTPUT)
    assert Limits(output=1 << 40).output == MOST_OUTPUT
    assert Limits(output=5).output == 5


def test_seconds_are_as_they_were_set() -> None:
    limits = Limits(Timeout(seconds=2.5), grace=1.0)
    limits.learn(100.0)
    assert (limits.seconds, limits.timed, limits.grace) == (2.5, True, 1.0)


def test_a_limit_in_percent_follows_the_median_of_the_latest() -> None:
    limits = Limits(Timeout(times=2.0))
    assert (limits.seconds, limits.timed) == (NEVER, True)
    for seconds in (1.0, 50.0, 3.0):
        limits.learn(seconds)
    assert limits.seconds == 6.0
    limits.learn(5.0, tasks=10**9)
    assert limits.seconds == 10.0
    limits.learn(7.0, tasks=0)
    limits.learn(7.0, tasks=SAMPLE // 2)
    assert limits.seconds == 10.0
    limits.learn(7.0)
    assert limits.seconds == 14.0
    limits.learn(0.0, tasks=SAMPLE)
    assert limits.seconds == LEAST


def test_a_watch_counts_from_the_first_sight_of_each_task() -> None:
    watch, limits = Watch(), Limits(Timeout(seconds=1.0), grace=3.0)
    assert watch.wants(-1, limits, 90.0) == 0
    assert watch.deadline(limits, 100.0) == NEVER
    assert watch.wants(7, limits, 100.0) == watch.wants(7, limits, 100.9) == 0
    assert watch.deadline(limits, 100.9) == 100.9 + COARSEST
    assert watch.wants(7, limits, 101.0) == signal.SIGTERM
    assert watch.wants(8, limits, 101.1) == watch.wants(8, limits, 102.0) == 0
    assert watch.wants(8, limits, 102.1) == signal.SIGTERM


def test_who_was_asked_to_end_is_killed_once_after_its_grace() -> None:
    watch, limits = Watch(), Limits(Timeout(seconds=1.0), grace=3.0)
    assert watch.wants(8, limits, 101.0) == 0
    watch.stop(limits, 102.0)
    assert watch.wants(8, limits, 104.9) == 0
    assert watch.deadline(limits, 104.9) == 105.0
    assert watch.wants(8, limits, 105.0) == signal.SIGKILL
    assert watch.wants(8, limits, 106.0) == 0
    assert watch.deadline(limits, 106.0) == NEVER


def test_who_was_asked_to_end_and_is_idle_is_killed_at_once() -> None:
    watch, limits = Watch(), Limits(Timeout(seconds=1.0), grace=3.0)
    watch.see(8, 101.0)
    watch.stop(limits, 102.0)
    assert watch.wants(-1, limits, 102.1) == signal.SIGKILL


def test_short_limits_are_looked_at_more_often() -> None:
    watch = Watch()
    watch.see(1, 0.0)
    assert watch.deadline(Limits(Timeout(seconds=0.4)), 0.0) == 0.05
    assert watch.deadline(Limits(Timeout(seconds=0.01)), 0.0) == FINEST
    assert watch.deadline(Limits(Timeout(times=2.0)), 0.0) == COARSEST


@pytest.mark.parametrize(
    ("status", "code"), [(signal.SIGTERM, 15), (signal.SIGKILL, 9), (signal.SIGKILL | 0x80, 9), (3 << 8, 15)]
)
def test_the_verdict_names_the_signal_that_was_needed(status: int, code: int) -> None:
    watch = Watch()
    watch.see(4, 0.0)
    watch.stop(Limits(Timeout(seconds=1.25)), 1.3)
    assert watch.verdict(status) == Note(4, "timeout", code, "timed out after 1.25 s", "", 0)


def test_what_is_said() -> None:
    assert [too_long(seconds) for seconds in (1.2, 5.0, 0.12345, 3600.0, 10_000_000.0)] == [
        "timed out after 1.2 s",
        "timed out after 5 s",
        "timed out after 0.12 s",
        "timed out after 3600 s",
        "timed out after 10000000 s",
    ]
    assert [too_large(size) for size in (10 << 20, 1 << 30, 3 << 29, 1 << 10, 1000)] == [
        "wrote more than 10 MiB",
        "wrote more than 1 GiB",
        "wrote more than 1536 MiB",
        "wrote more than 1 KiB",
        "wrote more than 1000 bytes",
    ]
