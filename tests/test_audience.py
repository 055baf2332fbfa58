"""Whom the sink hears."""

from __future__ import annotations

from pipeline.sink.audience import Audience
from pipeline.sink.ledger import Ledger
from pipeline.words.facts import Began
from pipeline.words.messages import Pulse, Result
from pipeline.words.parts import Again, Member, Tried
from pipeline.words.station import VENTILATOR as NAME
from pipeline.words.structs import replace

PULSE = Pulse(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=1, seen=0, allowed=4, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip


def audience(run: str = "r") -> Audience:
    """Of a sink that has result 2 on its way, and knows that task 6 has failed once."""
    ledger = Ledger([Began(run, "print")] if run else [])
    ledger.accept(Result(run, "bob", 2, 1, b"", b"\0\0\0\0", b"", ()))
    ledger.again(Tried(6, 7, 1))
    return Audience(ledger, 10.0, 0.0)


def test_what_a_pulse_has_finished_and_never_came_is_asked_for() -> None:
    here = audience()
    assert not here.pulsed(PULSE, 1.0)
    assert here.asked_again() == ()
    assert here.pulsed(replace(PULSE, number=2, finished=((1, 4),)), 2.0)
    assert here.asked_again() == (Again("ann", 2, ((1, 2), (3, 4))),)
    assert here.pulsed(replace(PULSE, worker="bob", number=8, finished=((9, 10),)), 2.0)
    assert not here.pulsed(replace(PULSE, number=3, finished=((2, 3),)), 3.0)
    assert here.asked_again() == (Again("bob", 8, ((9, 10),)),)


def test_a_try_that_has_failed_is_not_asked_for_and_the_next_is() -> None:
    here = audience()
    assert not here.pulsed(replace(PULSE, finished=((6, 7),)), 1.0)
    assert here.pulsed(replace(PULSE, number=2, finished=((6, 7),), tried=(Tried(6, 7, 1),)), 2.0)
    assert here.asked_again() == (Again("ann", 2, ((6, 7),)),)


def test_what_was_finished_in_another_run_is_not() -> None:
    assert not audience().pulsed(replace(PULSE, run="old", finished=((1, 4),)), 1.0)


def test_who_said_goodbye_is_not_awaited_and_not_heard_again() -> None:
    here = audience("")
    here.pulsed(replace(PULSE, run="", finished=((1, 2),)), 1.0)
    here.pulsed(replace(PULSE, run="", worker="bob"), 1.0)
    assert here.awaited(2.0) == ("ann", "bob")
    here.left("ann", 1.0, over=False)
    assert not here.pulsed(replace(PULSE, number=9), 3.0)
    assert (here.awaited(3.0), here.asked_again()) == (("bob",), ())
    assert [member.worker for member in here.members(3.0)] == ["bob"]


def test_the_silent_are_not_awaited() -> None:
    here = audience("")
    here.pulsed(PULSE, 1.0)
    assert here.awaited(11.0) == ("ann",)
    assert here.awaited(11.1) == ()


def test_who_is_silent_for_three_times_the_liveness_is_forgotten_and_its_results_not_asked_for() -> None:
    here = audience()
    here.pulsed(replace(PULSE, finished=((1, 2),)), 1.0)
    here.pulsed(replace(PULSE, worker="bob", finished=((3, 4),)), 2.0)
    here.forget(31.0)
    assert [member.worker for member in here.members(31.0)] == ["ann", "bob"]
    here.forget(31.5)
    assert [member.worker for member in here.members(31.5)] == ["bob"]
    assert here.asked_again() == (Again("bob", 1, ((3, 4),)),)


def test_a_ventilator_may_come_back_until_the_run_is_over() -> None:
    here = audience("")
    assert here.awaited(0.0) == ()
    here.fed(1.0)
    here.left(NAME, 1.0, over=False)
    assert (here.awaited(11.0), here.awaited(11.1)) == ((NAME,), ())
    here.fed(20.0)
    here.left(NAME, 1.0, over=True)
    assert here.awaited(20.0) == ()


def test_dead_ventilator_is_not_awaited_and_silent_workers_are_not_for_long() -> None:
    here = audience("")
    here.pulsed(PULSE, 1.0)
    here.on_ventilator_dead()
    here.fed(1.0)  # sent before it died
    assert (here.awaited(3.5), here.awaited(3.6)) == (("ann",), ())


def test_dead_ventilator_restarted_sink_waits_a_moment_for_workers_to_reconnect() -> None:
    here = audience()
    here.on_ventilator_dead()
    assert here.fed(1.0) == []
    assert (here.awaited(2.5), here.awaited(2.6)) == ((NAME,), ())
    assert here.ventilator.tick(2.5) == []  # nobody is told that it is missing


def test_a_sink_that_comes_back_awaits_the_ventilator_of_its_run() -> None:
    assert audience().awaited(10.0) == (NAME,)


def test_members_are_as_their_last_pulse_says() -> None:
    here = audience()
    here.pulsed(replace(PULSE, holding=((0, 1), (5, 9)), done=7), 1.0)
    assert here.members(3.5) == (Member("ann", "wc", 2, 2, 7, 2.5),)
