"""Signals to this very process, and to kept ones."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from pipeline.model.events import VENTILATOR_DEAD
from pipeline.system.signals import FORWARDED_SIGNALS, SignalPipe, reset_in_child

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def told_to_a_kept_one(*signums: int, before: int = 0) -> list[int]:
    """What a kept process's Signals tell of these; the first `before` come before it listens."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            reset_in_child()
            for signum in signums[:before]:
                os.kill(os.getpid(), signum)
            with SignalPipe() as signals:
                for signum in signums[before:]:
                    os.kill(os.getpid(), signum)
                os.write(write, bytes(signals.read()))
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb") as told:
        answer = list(told.read())
    assert os.waitpid(pid, 0)[1] == 0
    return answer


@pytest.fixture
def hup_ignored() -> Iterator[None]:
    before = signal.signal(HUP, signal.SIG_IGN)
    yield
    signal.signal(HUP, before)


def test_signals_are_told_once_and_in_their_order() -> None:
    with SignalPipe() as signals:
        assert signals.read() == []
        for signum in (TERM, INT, INT, HUP, HUP):
            os.kill(os.getpid(), signum)
        assert signals.read() == [TERM, INT, INT, TERM]
        assert signals.read() == []


def test_what_is_passed_on_fast_is_not_taken_for_one() -> None:
    assert told_to_a_kept_one(*[FORWARDED_SIGNALS[TERM]] * 3, before=3) == [TERM] * 3


def test_a_signal_wakes_a_poll_until_it_is_taken() -> None:
    with SignalPipe() as signals:
        assert select.select([signals], [], [], 0)[0] == []
        os.kill(os.getpid(), INT)
        assert select.select([signals], [], [], 5)[0] == [signals]
        assert signals.read() == [INT]
        assert select.select([signals], [], [], 0)[0] == []


def test_afterwards_all_is_as_before() -> None:
    before = [signal.getsignal(signum) for signum in (INT, TERM, HUP)]
    open_files = os.listdir("/proc/self/fd")
    with SignalPipe(ignore=(INT,)):
        assert signal.getsignal(INT) is signal.SIG_IGN
    assert [signal.getsignal(signum) for signum in (INT, TERM, HUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert os.listdir("/proc/self/fd") == open_files


@pytest.mark.usefixtures("hup_ignored")
def test_what_nohup_ignores_stays_ignored() -> None:
    with SignalPipe() as signals:
        os.kill(os.getpid(), HUP)
        assert signals.read() == []


def test_a_kept_process_hears_only_what_its_keeper_passes_on() -> None:
    assert told_to_a_kept_one(INT, HUP) == []
    assert told_to_a_kept_one(INT, FORWARDED_SIGNALS[INT], HUP, FORWARDED_SIGNALS[TERM]) == [INT, TERM]


def test_what_was_passed_on_early_waits_for_a_listener() -> None:
    assert told_to_a_kept_one(FORWARDED_SIGNALS[INT], before=1) == [INT]


def test_dead_ventilator_is_passed_on_even_before_there_is_a_listener() -> None:
    assert told_to_a_kept_one(VENTILATOR_DEAD, before=1) == [VENTILATOR_DEAD]
    assert told_to_a_kept_one(FORWARDED_SIGNALS[TERM], VENTILATOR_DEAD) == [TERM, VENTILATOR_DEAD]


def test_a_term_to_the_whole_group_counts_once() -> None:
    assert told_to_a_kept_one(TERM) == [TERM]
    assert told_to_a_kept_one(TERM, FORWARDED_SIGNALS[TERM]) == [TERM]
    assert told_to_a_kept_one(FORWARDED_SIGNALS[TERM], TERM, TERM) == [TERM, TERM]
