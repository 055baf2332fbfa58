"""From the source to the lanes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.desk import Desk
from pipeline.errands import Opened, Records, Want
from pipeline.feeding import BLOCK, MOST_RANGES, Feeding
from pipeline.messages import Chunk, Pulse, Recipe, Welcome
from pipeline.ranges import RangeSet
from pipeline.station import Lane, Port, Send
from pipeline.stock import Span

WORD = Welcome("r", "run", "", Recipe(), 0, "", "ipc://sink", "ipc://control", 1.0, 10.0)
WANT = [Send(Port.SOURCE, Want(BLOCK))]
PULSE = Pulse(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=0, seen=0, allowed=2, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip


def body(first: int, count: int) -> bytes:
    return b"".join(b"%d\n" % task for task in range(first, first + count))


def chunk(lane: int, sequence: int, first: int, count: int = 1) -> Send:
    return Send(Lane(lane), Chunk("r", lane, sequence, first, count, body(first, count)))


def scene(chunk: int | None = None, window: int = 1 << 20) -> tuple[Feeding, Desk]:
    """With ann on lane 1 and bob on lane 2, each of whom may be sent two chunks."""
    feeding = Feeding(Recipe(), window, chunk)
    desk = Desk(feeding.stock, WORD, 0.0, 600.0)
    for number, name in enumerate(("ann", "bob"), start=1):
        desk.pulsed(name.encode(), replace(PULSE, worker=name), judged=True, now=0.0)
        desk.opened(Opened(number, f"ipc://{number}"))
    return feeding, desk


def test_it_reads_when_it_has_nothing_and_asks_once() -> None:
    feeding, desk = scene()
    assert feeding.dispatch("r", desk, 0.0) == WANT
    assert feeding.dispatch("r", desk, 0.0) == []
    feeding.read(Records(0, 1, body(0, 1)), desk)
    assert feeding.dispatch("r", desk, 0.0) == [chunk(1, 1, 0), *WANT]


def test_lanes_are_fed_in_turn_and_no_more_than_they_asked_for() -> None:
    feeding, desk = scene()
    feeding.read(Records(0, 9, body(0, 9)), desk)
    assert feeding.dispatch("r", desk, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 1), chunk(1, 2, 2), chunk(2, 2, 3)]
    assert feeding.dispatch("r", desk, 0.0) == []
    desk.pulsed(
        b"bob", replace(PULSE, worker="bob", lane=2, seen=2, allowed=3, holding=((1, 4),)), judged=True, now=1.0
    )
    assert feeding.dispatch("r", desk, 1.0) == [chunk(2, 3, 4)]


def test_the_size_of_a_chunk_can_be_fixed() -> None:
    feeding, desk = scene(chunk=3)
    feeding.read(Records(0, 7, body(0, 7)), desk)
    assert feeding.dispatch("r", desk, 0.0) == [chunk(1, 1, 0, 3), chunk(2, 1, 3, 3), chunk(1, 2, 6, 1), *WANT]


def test_nothing_is_read_past_the_window() -> None:
    feeding, desk = scene(window=4)
    feeding.read(Records(0, 2, body(0, 2)), desk)
    assert feeding.dispatch("r", desk, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 1)]  # 4 bytes are on the way
    feeding.settle(RangeSet(((1, 2),)), desk)
    assert feeding.dispatch("r", desk, 0.0) == WANT


def test_after_the_end_nothing_is_read() -> None:
    feeding, desk = scene()
    feeding.ended()
    assert feeding.dispatch("r", desk, 0.0) == []


@pytest.mark.parametrize("why", ["full", "ranges"])
def test_what_must_go_out_again_goes_even_when_nothing_new_may(why: str) -> None:
    feeding, desk = scene()
    feeding.read(Records(0, 9, body(0, 9)), desk)
    if why == "full":
        feeding.full = True
    else:
        feeding.settled.update((at, at + 1) for at in range(100, 100 + 2 * MOST_RANGES, 2))
    assert feeding.dispatch("r", desk, 0.0) == []
    feeding.stock.put_back(Span(20, 1, body(20, 1)))
    assert feeding.dispatch("r", desk, 0.0) == [chunk(1, 1, 20)]


def test_what_is_settled_or_held_already_is_read_but_not_sent() -> None:
    feeding, desk = scene()
    desk.pulsed(b"bob", replace(PULSE, worker="bob", lane=2, holding=((3, 4),)), judged=True, now=1.0)
    feeding.settle(RangeSet(((0, 2),)), desk)
    feeding.read(Records(0, 6, body(0, 6)), desk)
    assert [(span.first, span.body) for span in desk.lanes["bob"].out.values()] == [(3, b"3\n")]
    assert feeding.dispatch("r", desk, 1.0) == [chunk(1, 1, 2), chunk(2, 1, 4), chunk(1, 2, 5), *WANT]


def test_what_is_settled_is_not_sent_again() -> None:
    feeding, desk = scene()
    feeding.read(Records(0, 2, body(0, 2)), desk)
    feeding.dispatch("r", desk, 0.0)
    desk.left("ann")
    desk.left("bob")
    feeding.settle(RangeSet(((0, 1),)), desk)
    assert (feeding.stock.tasks, feeding.stock.size) == (1, 2)
