"""Whom the sink hears."""

from __future__ import annotations

from pipeline.model.journal_events import RunStarted
from pipeline.model.messages import AttemptRange, Heartbeat, ResendRequest, Result, WorkerStatus
from pipeline.model.state_machine import VENTILATOR as NAME
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger
from pipeline.sink.peers import PeerTable

PULSE = Heartbeat(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=1, last_sequence=0, credit_limit=4,
    unfinished=(),
    unacked=(), last_ack_number=0, seconds_per_task=0.0, done_count=0,
)  # fmt: skip


def audience(run: str = "r") -> PeerTable:
    """Of a sink that has result 2 on its way, and knows that task 6 has failed once."""
    ledger = Ledger([RunStarted(run, "print")] if run else [])
    ledger.accept(Result(run, "bob", 2, 1, b"", b"\0\0\0\0", b"", ()))
    ledger.record_attempt(AttemptRange(6, 7, 1))
    return PeerTable(ledger, 10.0, 0.0)


def test_what_a_pulse_has_finished_and_never_came_is_asked_for() -> None:
    here = audience()
    assert not here.on_heartbeat(PULSE, 1.0)
    assert here.resend_requests() == ()
    assert here.on_heartbeat(replace(PULSE, number=2, unacked=((1, 4),)), 2.0)
    assert here.resend_requests() == (ResendRequest("ann", 2, ((1, 2), (3, 4))),)
    assert here.on_heartbeat(replace(PULSE, worker="bob", number=8, unacked=((9, 10),)), 2.0)
    assert not here.on_heartbeat(replace(PULSE, number=3, unacked=((2, 3),)), 3.0)
    assert here.resend_requests() == (ResendRequest("bob", 8, ((9, 10),)),)


def test_a_try_that_has_failed_is_not_asked_for_and_the_next_is() -> None:
    here = audience()
    assert not here.on_heartbeat(replace(PULSE, unacked=((6, 7),)), 1.0)
    assert here.on_heartbeat(replace(PULSE, number=2, unacked=((6, 7),), attempts=(AttemptRange(6, 7, 1),)), 2.0)
    assert here.resend_requests() == (ResendRequest("ann", 2, ((6, 7),)),)


def test_what_was_finished_in_another_run_is_not() -> None:
    assert not audience().on_heartbeat(replace(PULSE, run="old", unacked=((1, 4),)), 1.0)


def test_who_said_goodbye_is_not_awaited_and_not_heard_again() -> None:
    here = audience("")
    here.on_heartbeat(replace(PULSE, run="", unacked=((1, 2),)), 1.0)
    here.on_heartbeat(replace(PULSE, run="", worker="bob"), 1.0)
    assert here.waiting_for(2.0) == ("ann", "bob")
    here.on_goodbye("ann", 1.0, is_run_over=False)
    assert not here.on_heartbeat(replace(PULSE, number=9), 3.0)
    assert (here.waiting_for(3.0), here.resend_requests()) == (("bob",), ())
    assert [member.worker for member in here.workers(3.0)] == ["bob"]


def test_the_silent_are_not_awaited() -> None:
    here = audience("")
    here.on_heartbeat(PULSE, 1.0)
    assert here.waiting_for(11.0) == ("ann",)
    assert here.waiting_for(11.1) == ()


def test_who_is_silent_for_three_times_the_liveness_is_forgotten_and_its_results_not_asked_for() -> None:
    here = audience()
    here.on_heartbeat(replace(PULSE, unacked=((1, 2),)), 1.0)
    here.on_heartbeat(replace(PULSE, worker="bob", unacked=((3, 4),)), 2.0)
    here.expire_silent(31.0)
    assert [member.worker for member in here.workers(31.0)] == ["ann", "bob"]
    here.expire_silent(31.5)
    assert [member.worker for member in here.workers(31.5)] == ["bob"]
    assert here.resend_requests() == (ResendRequest("bob", 1, ((3, 4),)),)


def test_a_ventilator_may_come_back_until_the_run_is_over() -> None:
    here = audience("")
    assert here.waiting_for(0.0) == ()
    here.on_ventilator_state(1.0)
    here.on_goodbye(NAME, 1.0, is_run_over=False)
    assert (here.waiting_for(11.0), here.waiting_for(11.1)) == ((NAME,), ())
    here.on_ventilator_state(20.0)
    here.on_goodbye(NAME, 1.0, is_run_over=True)
    assert here.waiting_for(20.0) == ()


def test_dead_ventilator_is_not_awaited_and_silent_workers_are_not_for_long() -> None:
    here = audience("")
    here.on_heartbeat(PULSE, 1.0)
    here.on_ventilator_dead()
    here.on_ventilator_state(1.0)  # sent before it died
    assert (here.waiting_for(3.5), here.waiting_for(3.6)) == (("ann",), ())


def test_dead_ventilator_restarted_sink_waits_a_moment_for_workers_to_reconnect() -> None:
    here = audience()
    here.on_ventilator_dead()
    assert here.on_ventilator_state(1.0) == []
    assert (here.waiting_for(2.5), here.waiting_for(2.6)) == ((NAME,), ())
    assert here.ventilator_monitor.tick(2.5) == []  # nobody is told that it is missing


def test_a_sink_that_comes_back_awaits_the_ventilator_of_its_run() -> None:
    assert audience().waiting_for(10.0) == (NAME,)


def test_members_are_as_their_last_pulse_says() -> None:
    here = audience()
    here.on_heartbeat(replace(PULSE, unfinished=((0, 1), (5, 9)), done_count=7), 1.0)
    assert here.workers(3.5) == (WorkerStatus("ann", "wc", 2, 2, 7, 2.5),)
