"""The peers of the sink."""

from __future__ import annotations

from pipeline.model.journal_events import RunStarted
from pipeline.model.messages import AttemptRange, Heartbeat, ResendRequest, Result, WorkerStatus
from pipeline.model.state_machine import VENTILATOR as NAME
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger
from pipeline.sink.peers import PeerTable

HEARTBEAT = Heartbeat(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=1, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip


def make_peers(run: str = "r") -> PeerTable:
    """Return those of a sink with a pending result 2 and one failed attempt of task 6."""
    ledger = Ledger([RunStarted(run, "print")] if run else [])
    ledger.accept(Result(run, "bob", 2, 1, b"", b"\0\0\0\0", b"", ()))
    ledger.record_attempt(AttemptRange(6, 7, 1))
    return PeerTable(ledger, 10.0, 0.0)


def test_lost_results_are_requested_again() -> None:
    peers = make_peers()
    assert not peers.on_heartbeat(HEARTBEAT, 1.0)
    assert peers.resend_requests() == ()
    assert peers.on_heartbeat(replace(HEARTBEAT, number=2, unacked=((1, 4),)), 2.0)
    assert peers.resend_requests() == (ResendRequest("ann", 2, ((1, 2), (3, 4))),)
    assert peers.on_heartbeat(replace(HEARTBEAT, worker="bob", number=8, unacked=((9, 10),)), 2.0)
    assert not peers.on_heartbeat(replace(HEARTBEAT, number=3, unacked=((2, 3),)), 3.0)
    assert peers.resend_requests() == (ResendRequest("bob", 8, ((9, 10),)),)


def test_outdated_attempt_is_not_requested() -> None:
    peers = make_peers()
    assert not peers.on_heartbeat(replace(HEARTBEAT, unacked=((6, 7),)), 1.0)
    assert peers.on_heartbeat(replace(HEARTBEAT, number=2, unacked=((6, 7),), attempts=(AttemptRange(6, 7, 1),)), 2.0)
    assert peers.resend_requests() == (ResendRequest("ann", 2, ((6, 7),)),)


def test_result_of_other_run_is_not_requested() -> None:
    assert not make_peers().on_heartbeat(replace(HEARTBEAT, run="old", unacked=((1, 4),)), 1.0)


def test_departed_worker_is_ignored() -> None:
    peers = make_peers("")
    peers.on_heartbeat(replace(HEARTBEAT, run="", unacked=((1, 2),)), 1.0)
    peers.on_heartbeat(replace(HEARTBEAT, run="", worker="bob"), 1.0)
    assert peers.waiting_for(2.0) == ("ann", "bob")
    peers.on_goodbye("ann", 1.0, is_run_over=False)
    assert not peers.on_heartbeat(replace(HEARTBEAT, number=9), 3.0)
    assert (peers.waiting_for(3.0), peers.resend_requests()) == (("bob",), ())
    assert [worker.worker for worker in peers.workers(3.0)] == ["bob"]


def test_silent_worker_is_not_awaited() -> None:
    peers = make_peers("")
    peers.on_heartbeat(HEARTBEAT, 1.0)
    assert peers.waiting_for(11.0) == ("ann",)
    assert peers.waiting_for(11.1) == ()


def test_worker_silent_for_three_timeouts_is_removed() -> None:
    peers = make_peers()
    peers.on_heartbeat(replace(HEARTBEAT, unacked=((1, 2),)), 1.0)
    peers.on_heartbeat(replace(HEARTBEAT, worker="bob", unacked=((3, 4),)), 2.0)
    peers.expire_silent(31.0)
    assert [worker.worker for worker in peers.workers(31.0)] == ["ann", "bob"]
    peers.expire_silent(31.5)
    assert [worker.worker for worker in peers.workers(31.5)] == ["bob"]
    assert peers.resend_requests() == (ResendRequest("bob", 1, ((3, 4),)),)


def test_goodbye_of_ventilator_counts_at_end_of_run() -> None:
    peers = make_peers("")
    assert peers.waiting_for(0.0) == ()
    peers.on_ventilator_state(1.0)
    peers.on_goodbye(NAME, 1.0, is_run_over=False)
    assert (peers.waiting_for(11.0), peers.waiting_for(11.1)) == ((NAME,), ())
    peers.on_ventilator_state(20.0)
    peers.on_goodbye(NAME, 1.0, is_run_over=True)
    assert peers.waiting_for(20.0) == ()


def test_dead_ventilator_shortens_wait_for_silent_workers() -> None:
    peers = make_peers("")
    peers.on_heartbeat(HEARTBEAT, 1.0)
    peers.on_ventilator_dead()
    peers.on_ventilator_state(1.0)  # sent before it died
    assert (peers.waiting_for(3.5), peers.waiting_for(3.6)) == (("ann",), ())


def test_dead_ventilator_restarted_sink_waits_a_moment() -> None:
    peers = make_peers()
    peers.on_ventilator_dead()
    assert peers.on_ventilator_state(1.0) == []
    assert (peers.waiting_for(2.5), peers.waiting_for(2.6)) == ((NAME,), ())
    assert peers.ventilator_monitor.tick(2.5) == []  # its silence is not reported


def test_restarted_sink_awaits_ventilator() -> None:
    assert make_peers().waiting_for(10.0) == (NAME,)


def test_worker_status_shows_last_heartbeat() -> None:
    peers = make_peers()
    peers.on_heartbeat(replace(HEARTBEAT, unfinished=((0, 1), (5, 9)), done_count=7), 1.0)
    assert peers.workers(3.5) == (WorkerStatus("ann", "wc", 2, 2, 7, 2.5),)
