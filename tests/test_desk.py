"""The desk: who gets a lane, who is refused, who is lost, and all that is said on the way."""

from __future__ import annotations

import pytest

from pipeline.ventilator.desk import Desk
from pipeline.ventilator.lanes import Lane
from pipeline.ventilator.stock import Span, Stock
from pipeline.words.errands import Open, Opened, Shut
from pipeline.words.messages import Bye, Kill, Pulse, Welcome
from pipeline.words.notices import Lost, Refused, Waiting
from pipeline.words.parts import Recipe
from pipeline.words.station import Caller, Port, Send
from pipeline.words.structs import replace

WORD = Welcome("r", "run", "", Recipe(), 0, "", "ipc://sink", "ipc://control", 1.0, 10.0)
ANN = Pulse(
    worker="ann", number=1, run="", digest="d", command="wc", slots=2, lane=0, seen=0, allowed=4, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip
BOB = replace(ANN, worker="bob")


def span(first: int, count: int, lane: int = 0, sequence: int = 0) -> Span:
    return Span(first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), lane, sequence)


@pytest.fixture
def stock() -> Stock:
    return Stock(Recipe())


@pytest.fixture
def desk(stock: Stock) -> Desk:
    """A desk where ann has lane 1 and bob lane 2."""
    made = Desk(stock, WORD, 0.0, patience=600.0)
    for number, pulse in enumerate((ANN, BOB), start=1):
        assert made.pulsed(pulse.worker.encode(), pulse, judged=True, now=0.0) == [Send(Port.LANES, Open(number))]
        assert made.opened(Opened(number, f"ipc://{number}")) == [welcome(pulse.worker, number)]
    return made


def welcome(worker: str, lane: int, word: Welcome = WORD) -> Send:
    return Send(Caller(worker.encode()), replace(word, lane=lane, lane_at=f"ipc://{lane}"))


def lane_of(desk: Desk, worker: str) -> Lane:
    """The lane of a worker that has one."""
    lane = desk.lanes.of(worker)
    assert lane
    return lane


def back(stock: Stock) -> list[Span]:
    """All that would be sent again."""
    spans = []
    while (taken := stock.next_back(lambda _: True)) is not None:
        spans.append(stock.take_back(taken, taken.count))
    return spans


def test_a_welcome_is_said_only_to_who_does_not_know_it(desk: Desk) -> None:
    knows = replace(ANN, run="r", lane=1)
    assert desk.pulsed(b"ann", knows, judged=True, now=1.0) == []
    assert desk.pulsed(b"ann", replace(knows, lane=0), judged=True, now=1.0) == [welcome("ann", 1)]
    assert desk.pulsed(b"ann", replace(knows, run="old"), judged=True, now=1.0) == [welcome("ann", 1)]
    assert desk.welcome_all() == [welcome("ann", 1), welcome("bob", 2)]


def test_who_calls_before_there_is_a_run_is_answered_when_there_is_one(stock: Stock) -> None:
    desk = Desk(stock, replace(WORD, run=""), 0.0, patience=600.0)
    for _ in range(2):
        assert desk.pulsed(b"ann", ANN, judged=True, now=1.0) == []
    assert desk.pulsed(b"bob", BOB, judged=True, now=2.0) == []
    assert (len(desk.lanes), desk.expire(100.0)) == (0, [])
    assert desk.pulsed(b"cid", replace(ANN, worker="cid"), judged=True, now=100.0) == []
    assert desk.pulsed(b"bob", BOB, judged=True, now=100.0) == []
    assert desk.pulsed(b"dan", replace(ANN, worker="dan"), judged=True, now=100.0) == []
    assert desk.left(Bye("dan"), 1.0) == []
    # ann has been silent for longer than the liveness, and dan has left
    assert desk.begin("r", Recipe(), 101.0) == [Send(Port.LANES, Open(1)), Send(Port.LANES, Open(2))]
    assert desk.opened(Opened(1, "ipc://1")) == [welcome("bob", 1)]  # it was the first to call


def test_it_says_that_no_worker_comes(stock: Stock) -> None:
    desk = Desk(stock, WORD, 0.0, patience=600.0)
    assert desk.expire(1.9) == []
    assert desk.expire(2.0) == [Send(Port.TOLD, Waiting("worker"))]
    assert desk.expire(2.1) == []
    assert desk.pulsed(b"ann", ANN, judged=True, now=3.0) == [
        Send(Port.TOLD, Waiting("worker", active=False)), Send(Port.LANES, Open(1)),
    ]  # fmt: skip


def test_nothing_is_said_of_a_lane_before_it_is_bound(stock: Stock) -> None:
    desk = Desk(stock, WORD, 0.0, patience=600.0)
    desk.pulsed(b"ann", ANN, judged=True, now=0.0)
    assert desk.pulsed(b"ann", ANN, judged=True, now=0.1) == []
    assert desk.welcome_all() == []


def test_a_lane_that_nobody_wants_any_more_is_shut(desk: Desk) -> None:
    assert desk.opened(Opened(77, "ipc://77")) == [Send(Port.LANES, Shut(77))]


def test_a_worker_with_another_command_is_refused_by_name(desk: Desk) -> None:
    reason = "it would run 'rm', this run is 'wc'"
    eve = replace(ANN, worker="eve", digest="e", command="rm")
    assert desk.pulsed(b"eve", eve, judged=True, now=1.0) == [
        Send(Caller(b"eve"), replace(WORD, state="refused", reason=reason)),
        Send(Port.TOLD, Refused("eve", reason)),
    ]
    assert desk.lanes.of("eve") is None


def test_the_command_of_a_run_that_goes_on_is_the_one_it_began_with(stock: Stock) -> None:
    desk = Desk(stock, WORD, 0.0, patience=600.0)
    desk.admission.know("", "")
    desk.admission.know("d", "wc")
    eve = replace(ANN, worker="eve", digest="e", command="rm")
    reason = "it would run 'rm', this run is 'wc'"
    assert Send(Port.TOLD, Refused("eve", reason)) in desk.pulsed(b"eve", eve, judged=True, now=1.0)
    assert Send(Port.LANES, Open(1)) in desk.pulsed(b"ann", ANN, judged=True, now=1.0)


def test_what_a_worker_does_not_hold_any_more_goes_back(desk: Desk, stock: Stock) -> None:
    lane_of(desk, "ann").carry(span(0, 4), 1.0)
    pulse = replace(ANN, run="r", lane=1, seen=1, holding=((0, 1), (3, 4)))
    assert desk.pulsed(b"ann", pulse, judged=False, now=2.0) == []  # its Ack is newer than ours: who knows
    assert back(stock) == []
    assert desk.pulsed(b"ann", pulse, judged=True, now=2.0) == []
    assert back(stock) == [span(1, 2, 1, 1)]
    assert desk.lanes.claimed().ranges() == ((0, 1), (3, 4))


def test_what_a_worker_of_another_run_holds_says_nothing(desk: Desk, stock: Stock) -> None:
    lane_of(desk, "ann").carry(span(0, 4), 1.0)
    stock.put_back(span(8, 1))
    old = replace(ANN, run="old", lane=1, seen=9, holding=((8, 9),))
    assert desk.pulsed(b"ann", old, judged=True, now=2.0) == [welcome("ann", 1)]
    assert list(lane_of(desk, "ann").out.values()) == [span(0, 4, 1, 1)]
    assert back(stock) == [span(8, 1)]


def test_who_leaves_gives_back_all_but_what_others_hold(desk: Desk, stock: Stock) -> None:
    desk.pulsed(b"bob", replace(BOB, run="r", lane=2, holding=((1, 2),)), judged=True, now=1.0)
    lane_of(desk, "ann").carry(span(0, 4), 1.0)
    assert desk.left(Bye("ann"), 1.0) == [Send(Port.LANES, Shut(1))]
    assert desk.left(Bye("ann"), 1.0) == []
    assert back(stock) == [span(0, 1, 1, 1), span(2, 2, 1, 1)]
    assert list(lane_of(desk, "bob").out.values()) == [span(1, 1)]


def test_silence_loses_a_worker(desk: Desk, stock: Stock) -> None:
    lane_of(desk, "ann").carry(span(0, 4), 1.0)
    desk.pulsed(b"bob", replace(BOB, run="r", lane=2), judged=True, now=5.0)
    assert desk.expire(7.9) == []
    assert desk.expire(10.0) == [Send(Port.TOLD, Waiting("worker"))]
    assert desk.expire(10.1) == [Send(Port.LANES, Shut(1)), Send(Port.TOLD, Lost("ann", 4))]
    assert back(stock) == [span(0, 4, 1, 1)]
    assert [lane.worker for lane in desk.lanes] == ["bob"]


def test_only_who_is_lost_makes_suspects_of_what_it_held(desk: Desk) -> None:
    lane_of(desk, "ann").carry(span(0, 2), 1.0)
    lane_of(desk, "bob").carry(span(4, 2), 1.0)
    desk.left(Bye("bob"), 1.0)
    desk.expire(10.1)
    assert [desk.lanes.suspects.level(task) for task in range(6)] == [1, 1, 0, 0, 0, 0]
    desk.pulsed(b"ann", replace(ANN, run="r", lane=1), judged=True, now=11.0)
    assert len(desk.lanes.suspects) == 0


def test_who_cannot_be_reached_is_lost_sooner_unless_it_calls_again(desk: Desk) -> None:
    desk.unreachable(b"ann", 1.0)
    desk.unreachable(b"ann", 2.5)  # said again, it counts from the first time
    desk.unreachable(b"bob", 1.0)
    assert desk.expire(2.9) == []
    desk.pulsed(b"bob's new", replace(BOB, run="r", lane=2), judged=True, now=2.9)
    desk.unreachable(b"bob", 2.95)
    assert desk.expire(3.1) == [Send(Port.LANES, Shut(1)), Send(Port.TOLD, Lost("ann", 0))]
    assert desk.expire(5.8) == []


def test_a_lane_that_swallows_chunks_is_replaced(desk: Desk, stock: Stock) -> None:
    lane_of(desk, "ann").carry(span(0, 1), 1.0)
    knows = replace(ANN, run="r", lane=1)
    desk.pulsed(b"ann", knows, judged=True, now=4.5)
    assert desk.expire(4.6) == [Send(Port.LANES, Shut(1)), Send(Port.LANES, Open(3))]
    assert desk.opened(Opened(3, "ipc://3")) == [welcome("ann", 3)]
    assert desk.pulsed(b"ann", knows, judged=True, now=4.7) == [welcome("ann", 3)]
    assert back(stock) == []
    assert desk.pulsed(b"ann", replace(knows, lane=3), judged=True, now=4.8) == []
    assert back(stock) == [span(0, 1, 1, 1)]


def test_what_a_returning_worker_holds_is_adopted_and_its_lane_is_newer(desk: Desk, stock: Stock) -> None:
    stock.put_back(span(5, 3))
    eve = replace(ANN, worker="eve", run="r", lane=7, seen=20, allowed=22, holding=((5, 6),), finished=((7, 8),))
    assert desk.pulsed(b"eve", eve, judged=True, now=1.0) == [Send(Port.LANES, Open(8))]
    assert list(lane_of(desk, "eve").out.values()) == [span(5, 1), span(7, 1)]
    assert back(stock) == [span(6, 1)]
    desk.opened(Opened(8, "ipc://8"))
    assert lane_of(desk, "eve").room() == 2


def test_when_it_is_over_everybody_is_told_and_nobody_gets_a_lane(desk: Desk) -> None:
    over = replace(WORD, state="over", reason="pipe kill")
    assert desk.over(Kill("r", "now", "pipe kill", 0)) == [welcome("ann", 1, over), welcome("bob", 2, over)]
    eve = replace(ANN, worker="eve")
    assert desk.pulsed(b"eve", eve, judged=True, now=1.0) == [Send(Caller(b"eve"), over)]
    assert desk.lanes.of("eve") is None
