"""The whole line for those who look on, and why nothing runs."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.sink.attempts import Attempts, Retrying
from pipeline.sink.audience import Audience
from pipeline.sink.ledger import Ledger
from pipeline.sink.live import Live
from pipeline.sink.view import View
from pipeline.sink.writing import Limits, Writing
from pipeline.words.facts import Began, Ended, Fact, Settled
from pipeline.words.messages import Glance, Kill, Pulse, Result, Status
from pipeline.words.parts import Doing, Member
from pipeline.words.station import Port, Send
from pipeline.words.structs import replace

PULSE = Pulse("ann", 1, "r", "d", "wc", 2, 1, 0, 2, (), (), 0, 0.0, 5)
FACTS: tuple[Fact, ...] = (
    Began("r", "print"), Settled(((0, 2),), ((1, 2),), spilled=False, sizes=()),
    Settled(((3, 4),), (), spilled=True, sizes=()), Ended(9, ""),
)  # fmt: skip


class Scene:
    """A sink that has heard its ventilator and ann, and writes in order."""

    def __init__(self, *facts: Fact, ordered: bool = True, met: bool = True) -> None:
        self.ledger = Ledger(facts)
        self.audience = Audience(self.ledger, 10.0, 0.0)
        limits = Limits(spill=1, keep_order=ordered)
        live = Live(self.ledger, ordered=ordered)
        self.writing = Writing(self.ledger, Attempts(Retrying()), live, limits)
        self.view = View(self.ledger, self.audience, self.writing, 0.0, ordered=ordered)
        if met:
            self.audience.fed(0.0)

    def why(self, *holding: tuple[int, int]) -> str:
        self.audience.pulsed(replace(PULSE, holding=holding), 0.0)
        return self.view.status(1.0, None).why


def test_it_is_the_whole_line() -> None:
    ours = Scene(*FACTS)
    ours.audience.pulsed(PULSE, 0.0)
    ours.audience.glanced(Glance("ann", 1.5, 4096, (Doing(2, 1, 0.5, "wc 2"),)))
    ours.audience.glanced(Glance("bob", 1.5, 4096, ()))
    members = (Member("ann", "wc", 2, 0, 5, 0.5, 1.5, 4096, (Doing(2, 1, 0.5, "wc 2"),)),)
    status = Status("r", "ended", 3, 1, 9, 2, members, (), elapsed=0.5, why="turn")
    assert ours.view.status(0.5, None) == status
    ours.audience.pulsed(PULSE, 0.0)  # what a worker runs is still known after its next pulse
    assert ours.view.status(0.5, None) == status
    kill = Kill("r", "soon", "^C", 130)
    ended = replace(status, state="soon", awaited=("ann", "ventilator"), why="")
    assert ours.view.beat(0.5, kill) == [Send(Port.CONTROL, ended), Send(Port.TOLD, ended)]


def test_the_rate_is_that_of_the_last_beats_and_time_begins_with_the_run() -> None:
    ours = Scene()

    def status(now: float) -> Any:
        return ours.view.beat(now, None)[0].message

    assert (status(1.0).elapsed, status(5.0).rate) == (0.0, 0.0)
    ours.ledger.apply(Began("r", "print"))
    ours.ledger.apply(Settled(((0, 20),), (), spilled=False, sizes=()))
    assert (status(9.0).elapsed, status(9.0).rate) == (4.0, 20 / 8)


@pytest.mark.parametrize(
    ("holding", "why"), [((), "turn"), (((2, 3),), ""), (((2, 4),), "slots"), (((2, 99),), "slots")]
)
def test_where_something_runs_and_slots_are_free_there_is_no_reason(holding: Any, why: str) -> None:
    assert Scene(*FACTS).why(*holding) == why


def test_nobody_to_read_or_to_run() -> None:
    assert Scene(met=False).view.status(1.0, None).why == "ventilator"
    assert Scene(*FACTS).view.status(1.0, None).why == "worker"


def test_an_input_that_is_silent_is_a_reason_only_while_nothing_runs() -> None:
    ours = Scene(*FACTS[:2], ordered=False)
    ours.view.starved = True
    assert ours.why() == "input"
    assert ours.why((2, 3)) == ""


def test_an_output_that_takes_nothing_for_a_beat_is_stuck() -> None:
    ours = Scene(*FACTS, ordered=False)
    ours.audience.pulsed(PULSE, 0.0)
    ours.writing.take(Result("r", "ann", 5, 1, b"x", b"\1\0\0\0", b"", ()))
    first, second = (ours.view.beat(now, None)[0].message for now in (1.0, 2.0))
    assert isinstance(first, Status)
    assert isinstance(second, Status)
    assert (first.why, second.why) == ("", "output")


def test_a_full_spill_is_a_reason_whatever_runs() -> None:
    ours = Scene(*FACTS)
    ours.writing.take(Result("r", "ann", 5, 1, b"xx", b"\2\0\0\0", b"", ()))
    assert ours.why((2, 3)) == "spill"
