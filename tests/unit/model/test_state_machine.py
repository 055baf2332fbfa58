"""PeerMonitor: reports, timeouts and reconnects."""

from __future__ import annotations

from pipeline.model.events import Waiting
from pipeline.model.state_machine import NEVER, NOTIFY_AFTER_SECONDS, PeerMonitor, Port, Send

MISSING, PRESENT = [Send(Port.USER, Waiting("sink"))], [Send(Port.USER, Waiting("sink", active=False))]


def test_missing_peer_is_reported_once() -> None:
    watch = PeerMonitor("sink", 100.0, peer_timeout=10.0)
    assert watch.deadline == 100.0 + NOTIFY_AFTER_SECONDS
    assert watch.tick(101.9) == []
    assert watch.tick(102.0) == MISSING
    assert (watch.tick(1000.0), watch.deadline) == ([], NEVER)
    assert not watch.is_lost(1000.0)
    assert watch.record_message(1001.0) == PRESENT
    assert watch.has_been_seen


def test_peer_in_time_is_not_reported() -> None:
    watch = PeerMonitor("sink", 100.0, peer_timeout=10.0)
    assert watch.record_message(101.0) == []
    assert watch.record_message(102.0) == []
    assert watch.tick(103.9) == []


def test_seen_peer_has_one_more_interval() -> None:
    watch = PeerMonitor("sink", 0.0, peer_timeout=10.0)
    watch.record_message(1.0)
    assert watch.deadline == 1.0 + NOTIFY_AFTER_SECONDS + 1.0
    assert watch.tick(3.9) == []
    assert watch.tick(4.0) == MISSING
    assert watch.tick(5.0) == []
    assert watch.record_message(6.0) == PRESENT
    assert watch.tick(9.0) == MISSING


def test_only_seen_peer_is_lost() -> None:
    watch = PeerMonitor("sink", 0.0, peer_timeout=10.0)
    watch.record_message(5.0)
    assert not watch.is_lost(15.0)
    assert watch.is_lost(15.1)
    watch.record_message(16.0)
    assert not watch.is_lost(17.0)


def test_restart_counts_silence_from_now() -> None:
    watch = PeerMonitor("sink", 0.0, peer_timeout=10.0)
    assert watch.tick(5.0) == MISSING
    watch.restart(50.0)
    assert watch.deadline == 52.0
    assert watch.is_silent_for(60.0, 9.0)
    assert not watch.is_silent_for(60.0, 10.0)
    assert watch.record_message(51.0) == []


def test_reconnect_is_due_once_per_period() -> None:
    watch = PeerMonitor("sink", 0.0, peer_timeout=100.0)
    times = [3.0, 3.1, 5.0, 6.1, 6.2, 9.2, 9.3]
    assert [now for now in times if watch.is_reconnect_due(now, 3.0)] == [3.1, 6.2, 9.3]
    watch.record_message(20.0)
    assert not watch.is_reconnect_due(23.0, 3.0)
    assert watch.is_reconnect_due(23.1, 3.0)
