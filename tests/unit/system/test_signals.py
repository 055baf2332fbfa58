"""Signals to this process, and to processes with a monitor."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator

import pytest

from pipeline.model.events import VENTILATOR_DEAD
from pipeline.system.signals import FORWARDED_SIGNALS, SignalPipe, reset_in_child

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def read_under_monitor(*signums: int, before: int = 0) -> list[int]:
    """Return what a process with a monitor reads of these; the first `before` arrive before it has a SignalPipe."""
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
    with open(read, "rb") as file:
        received = list(file.read())
    assert os.waitpid(pid, 0)[1] == 0
    return received


@pytest.fixture
def hup_ignored() -> Iterator[None]:
    before = signal.signal(HUP, signal.SIG_IGN)
    yield
    signal.signal(HUP, before)


def test_read_returns_each_signal_once_in_order() -> None:
    with SignalPipe() as signals:
        assert signals.read() == []
        for signum in (TERM, INT, INT, HUP, HUP):
            os.kill(os.getpid(), signum)
        assert signals.read() == [TERM, INT, INT, TERM]
        assert signals.read() == []


def test_forwarded_signals_in_a_row_count_separately() -> None:
    assert read_under_monitor(*[FORWARDED_SIGNALS[TERM]] * 3, before=3) == [TERM] * 3


def test_fileno_is_readable_until_signal_is_read() -> None:
    with SignalPipe() as signals:
        assert select.select([signals], [], [], 0)[0] == []
        os.kill(os.getpid(), INT)
        assert select.select([signals], [], [], 5)[0] == [signals]
        assert signals.read() == [INT]
        assert select.select([signals], [], [], 0)[0] == []


def test_exit_restores_handlers_and_descriptors() -> None:
    before = [signal.getsignal(signum) for signum in (INT, TERM, HUP)]
    open_files = os.listdir("/proc/self/fd")
    with SignalPipe(ignore=(INT,)):
        assert signal.getsignal(INT) is signal.SIG_IGN
    assert [signal.getsignal(signum) for signum in (INT, TERM, HUP)] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert os.listdir("/proc/self/fd") == open_files


@pytest.mark.usefixtures("hup_ignored")
def test_sighup_ignored_by_nohup_stays_ignored() -> None:
    with SignalPipe() as signals:
        os.kill(os.getpid(), HUP)
        assert signals.read() == []


def test_monitored_process_reads_forwarded_signals_only() -> None:
    assert read_under_monitor(INT, HUP) == []
    assert read_under_monitor(INT, FORWARDED_SIGNALS[INT], HUP, FORWARDED_SIGNALS[TERM]) == [INT, TERM]


def test_forwarded_signal_before_enter_is_read_later() -> None:
    assert read_under_monitor(FORWARDED_SIGNALS[INT], before=1) == [INT]


def test_ventilator_dead_before_enter_is_read_later() -> None:
    assert read_under_monitor(VENTILATOR_DEAD, before=1) == [VENTILATOR_DEAD]
    assert read_under_monitor(FORWARDED_SIGNALS[TERM], VENTILATOR_DEAD) == [TERM, VENTILATOR_DEAD]


def test_sigterm_to_whole_group_counts_once() -> None:
    assert read_under_monitor(TERM) == [TERM]
    assert read_under_monitor(TERM, FORWARDED_SIGNALS[TERM]) == [TERM]
    assert read_under_monitor(FORWARDED_SIGNALS[TERM], TERM, TERM) == [TERM, TERM]
