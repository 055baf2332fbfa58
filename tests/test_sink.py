"""The sink: what it answers to each word, from the first Run to its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline import errors
from pipeline.errands import Durable, Entry, Fetch, Keep, Kept, Spilled, Write, Written
from pipeline.messages import Ack, Again, Bye, Kill, Note, Pulse, Result, Run, Status, Stop
from pipeline.notices import Missing
from pipeline.sink import Order, Sink
from pipeline.station import VENTILATOR as NAME
from pipeline.station import Port, Send

NONE = Ack("", -1, "", "one", 101, 0, (), 0, -1, full=False, again=())
RUN = Run("r", 1, "print", "feeding", -1, "")
ACK = Ack("r", 1, "print", "one", 102, 0, (), 0, -1, full=False, again=())
STATUS = Status("", "feeding", 0, 0, -1, -1, (), ())
PULSE = Pulse(
    worker="ann", number=3, run="r", digest="d", command="wc", slots=1, lane=1, seen=0, allowed=1, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip


def result(first: int, *, failed: bool = False) -> Result:
    return Result("r", "ann", first, 1, b"x", b"\1\0\0\0", b"", (Note(first, "exit", 1, ""),) if failed else ())


def control(*words: Ack | Kill | Status) -> list[Send]:
    return [Send(Port.CONTROL, word) for word in words]


def said(status: Status) -> list[Send]:
    return [Send(Port.CONTROL, status), Send(Port.TOLD, status)]


def fresh(*, keep_order: bool = False, patience: float = 600.0) -> Sink:
    ours = Sink(Order(keep_order=keep_order, patience=patience), "one", 100, 0.0)
    assert ours.tick(0.0) == [*said(STATUS), *control(NONE)]
    return ours


def fed(*, keep_order: bool = False, patience: float = 600.0) -> Sink:
    """It knows its run, and has said so, at 0.1."""
    ours = fresh(keep_order=keep_order, patience=patience)
    assert ours.receive(RUN, 0.1) == []
    assert ours.deadline == 0.1
    assert ours.tick(0.1) == control(ACK)
    return ours


def safe(ours: Sink, number: int, now: float) -> None:
    """Output and journal have all up to this number."""
    sends = ours.receive(Written(number), now)
    for send in sends:
        assert isinstance(send.message, Entry)
        assert ours.receive(Durable(send.message.number), now) == []


def test_a_result_is_written_journaled_and_only_then_acked() -> None:
    ours = fed()
    assert ours.receive(result(0, failed=True), 0.2) == [Send(Port.OUTPUT, Write(1, result(0, failed=True)))]
    assert ours.receive(result(0), 0.2) == []
    assert ours.receive(Written(1), 0.3) == [
        Send(Port.JOURNAL, Entry(1, "r", "print", ((0, 1),), spilled=False, failed=1, total=-1))
    ]
    assert ours.deadline == 1.0
    assert ours.receive(Durable(1), 0.4) == []
    assert ours.tick(ours.deadline) == control(replace(ACK, number=103, low=1, failed=1))


def test_results_of_other_runs_are_dropped() -> None:
    ours = fed()
    assert ours.receive(replace(result(0), run="x"), 0.2) == []
    assert not ours.ledger.pending.tasks


def test_the_first_run_is_the_one() -> None:
    ours = fed()
    assert ours.receive(replace(RUN, run="x", number=7, state="stopped"), 0.2) == []
    assert ours.tick(0.2) == control(replace(ACK, number=103, heard=7))


def test_all_is_said_again_at_each_interval() -> None:
    ours = fed()
    ours.receive(PULSE, 0.2)
    ours.tick(0.2)
    (status, told, ack) = ours.tick(1.0)
    assert isinstance(told.message, Status)
    assert [member.worker for member in told.message.members] == ["ann"]
    assert (status.message, ack) == (told.message, control(replace(ACK, number=103))[0])


def test_what_a_pulse_has_finished_and_never_came_is_asked_for() -> None:
    ours = fed()
    assert ours.receive(replace(PULSE, finished=((4, 5),)), 0.2) == []
    assert ours.tick(0.2) == control(replace(ACK, number=103, again=(Again("ann", 3, ((4, 5),)),)))


def test_when_all_is_safe_it_says_kill_and_goes_when_everybody_has() -> None:
    ours = fed()
    ours.receive(PULSE, 0.2)
    ours.receive(result(0), 0.2)
    safe(ours, 1, 0.3)
    ours.tick(0.3)
    assert ours.receive(replace(RUN, number=2, state="ended", total=1), 0.4) == [
        Send(Port.JOURNAL, Entry(2, "r", "print", (), spilled=False, failed=0, total=1))
    ]
    assert Kill("r", "done", "", 0) not in [send.message for send in ours.tick(0.4)]
    ours.receive(Durable(2), 0.5)
    assert control(Kill("r", "done", "", 0))[0] in ours.tick(0.5)
    ours.receive(Bye("ann", ""), 0.6)
    assert control(Kill("r", "done", "", 0))[0] in ours.tick(1.0)  # repeated: the ventilator is still there
    ours.receive(Bye(NAME, ""), 1.1)
    assert not ours.done
    assert ours.tick(1.1) == said(Status("r", "done", 1, 0, 1, -1, (), ()))
    assert (ours.done, ours.outcome) == (True, errors.OK)


def test_a_worker_that_never_says_goodbye_is_awaited_for_a_liveness() -> None:
    ours = fed()
    ours.receive(PULSE, 0.5)
    ours.receive(Stop("now", "^C"), 0.5)
    ours.receive(Bye(NAME, ""), 0.6)
    ours.tick(10.5)
    assert not ours.done
    ours.tick(10.6)
    assert (ours.done, ours.outcome) == (True, errors.INTERRUPTED)


def test_in_order_a_result_ahead_of_its_turn_is_settled_when_it_is_kept() -> None:
    ours = fed(keep_order=True)
    assert ours.receive(result(1), 0.2) == [Send(Port.SPILL, Keep(1, result(1)))]
    assert ours.receive(Spilled(1), 0.2) == [
        Send(Port.JOURNAL, Entry(1, "r", "print", ((1, 2),), spilled=True, failed=0, total=-1))
    ]
    ours.receive(Durable(1), 0.2)
    assert ours.tick(0.2) == control(replace(ACK, number=103, ranges=((1, 2),)))
    assert ours.receive(result(0), 0.3) == [Send(Port.OUTPUT, Write(2, result(0))), Send(Port.SPILL, Fetch(1))]
    assert ours.receive(Kept(result(1)), 0.3) == [Send(Port.OUTPUT, Write(3, result(1)))]


@pytest.mark.parametrize(
    ("failure", "outcome"), [("disk full", errors.INCOMPLETE), (errors.CLOSED, errors.STDOUT_CLOSED)]
)
def test_an_output_that_fails_ends_the_run_now(failure: str, outcome: int) -> None:
    ours = fed()
    ours.receive(result(0), 0.2)
    assert ours.receive(Written(0, failure), 0.3) == control(Kill("r", "now", failure, 0))
    assert ours.receive(result(1), 0.3) == []
    ours.receive(Bye(NAME, ""), 0.4)
    ours.tick(0.4)
    assert (ours.done, ours.outcome, ours.reason) == (True, outcome, failure)


def test_somebody_may_end_it_and_harder() -> None:
    ours = fed()
    assert ours.receive(Stop("soon", "pipe kill"), 0.2) == control(Kill("r", "soon", "pipe kill", 0))
    assert ours.receive(Stop("soon", "pipe kill"), 0.3) == []
    assert ours.receive(Stop("now", "^C"), 0.4) == control(Kill("r", "now", "^C", 0))


def test_a_ventilator_that_gives_up_ends_it() -> None:
    ours = fed()
    assert ours.receive(replace(RUN, state="stopped", reason="no worker came back"), 0.2) == control(
        Kill("r", "soon", "no worker came back", 0)
    )


def test_a_ventilator_that_never_comes_is_told_of_and_one_that_was_there_not_waited_for_for_ever() -> None:
    assert Send(Port.TOLD, Missing("ventilator")) in fresh().tick(2.0)
    ours = fed(patience=30.0)
    assert Send(Port.TOLD, Missing("ventilator")) in ours.tick(3.1)
    assert control(Kill("r", "soon", "the ventilator did not come back", 0))[0] in ours.tick(30.2)


def test_at_an_early_end_what_stands_behind_a_gap_is_written_before_it_goes() -> None:
    ours = fed(keep_order=True)
    ours.receive(result(2), 0.2)
    ours.receive(Spilled(1), 0.2)
    ours.receive(Stop("soon", "^C"), 0.3)
    ours.receive(Bye(NAME, ""), 0.4)
    assert Send(Port.SPILL, Fetch(2)) in ours.tick(0.4)
    assert ours.receive(Kept(result(2)), 0.5) == [Send(Port.OUTPUT, Write(2, result(2)))]
    ours.tick(0.5)
    assert not ours.done
    ours.receive(Written(2), 0.6)
    ours.tick(0.6)
    assert ours.done
