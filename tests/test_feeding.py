"""From the source to the lanes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pipeline.errands import Records, Want
from pipeline.feeding import BLOCK, MOST_RANGES, Feeding
from pipeline.lanes import Lane, Lanes
from pipeline.messages import Chunk, Pulse, Recipe
from pipeline.ranges import RangeSet
from pipeline.station import Lane as LanePort
from pipeline.station import Port, Send
from pipeline.stock import Span

WANT = [Send(Port.SOURCE, Want(BLOCK))]
PULSE = Pulse(
    worker="ann", number=1, run="r", digest="d", command="wc", slots=2, lane=0, seen=0, allowed=2, holding=(),
    finished=(), ack=0, pace=0.0, done=0,
)  # fmt: skip


def body(first: int, count: int) -> bytes:
    return b"".join(b"%d\n" % task for task in range(first, first + count))


def chunk(lane: int, sequence: int, first: int, count: int = 1) -> Send:
    return Send(LanePort(lane), Chunk("r", lane, sequence, first, count, body(first, count)))


def scene(chunk: int | None = None, window: int = 1 << 20) -> tuple[Feeding, Lanes]:
    """With ann on lane 1 and bob on lane 2, each of whom may be sent two chunks."""
    feeding = Feeding(Recipe(), window, chunk)
    lanes = Lanes(feeding.stock)
    for number, name in enumerate(("ann", "bob"), start=1):
        pulse = replace(PULSE, worker=name)
        lane = Lane(number, pulse, b"peer", 0.0)
        lane.at = f"ipc://{number}"
        lane.pulsed(pulse, b"peer", 0.0)
        lanes.add(lane)
    return feeding, lanes


def pulsed(lanes: Lanes, pulse: Pulse) -> None:
    """The worker says so, and is believed."""
    lane = lanes.of(pulse.worker)
    assert lane
    lane.pulsed(pulse, b"peer", 1.0)
    lanes.judge(lane, pulse)


def test_it_reads_when_it_has_nothing_and_asks_once() -> None:
    feeding, lanes = scene()
    assert feeding.dispatch("r", lanes, 0.0) == WANT
    assert feeding.dispatch("r", lanes, 0.0) == []
    feeding.read(Records(0, 1, body(0, 1)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), *WANT]


def test_lanes_are_fed_in_turn_and_no_more_than_they_asked_for() -> None:
    feeding, lanes = scene()
    feeding.read(Records(0, 9, body(0, 9)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 1), chunk(1, 2, 2), chunk(2, 2, 3)]
    assert feeding.dispatch("r", lanes, 0.0) == []
    pulsed(lanes, replace(PULSE, worker="bob", lane=2, seen=2, allowed=3, holding=((1, 4),)))
    assert feeding.dispatch("r", lanes, 1.0) == [chunk(2, 3, 4)]


def test_the_size_of_a_chunk_can_be_fixed() -> None:
    feeding, lanes = scene(chunk=3)
    feeding.read(Records(0, 7, body(0, 7)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0, 3), chunk(2, 1, 3, 3), chunk(1, 2, 6, 1), *WANT]


def test_nothing_is_read_past_the_window() -> None:
    feeding, lanes = scene(window=4)
    feeding.read(Records(0, 2, body(0, 2)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 0), chunk(2, 1, 1)]  # 4 bytes are on the way
    feeding.settle(RangeSet(((1, 2),)), lanes)
    assert feeding.dispatch("r", lanes, 0.0) == WANT


def test_after_the_end_nothing_is_read() -> None:
    feeding, lanes = scene()
    feeding.ended()
    assert feeding.dispatch("r", lanes, 0.0) == []


@pytest.mark.parametrize("why", ["full", "ranges"])
def test_what_must_go_out_again_goes_even_when_nothing_new_may(why: str) -> None:
    feeding, lanes = scene()
    feeding.read(Records(0, 9, body(0, 9)), lanes)
    if why == "full":
        feeding.full = True
    else:
        feeding.settled.update((at, at + 1) for at in range(100, 100 + 2 * MOST_RANGES, 2))
    assert feeding.dispatch("r", lanes, 0.0) == []
    feeding.stock.put_back(Span(20, 1, body(20, 1)))
    assert feeding.dispatch("r", lanes, 0.0) == [chunk(1, 1, 20)]


def test_what_is_settled_or_held_already_is_read_but_not_sent() -> None:
    feeding, lanes = scene()
    pulsed(lanes, replace(PULSE, worker="bob", lane=2, holding=((3, 4),)))
    feeding.settle(RangeSet(((0, 2),)), lanes)
    feeding.read(Records(0, 6, body(0, 6)), lanes)
    bob = lanes.of("bob")
    assert bob
    assert [(span.first, span.body) for span in bob.out.values()] == [(3, b"3\n")]
    assert feeding.dispatch("r", lanes, 1.0) == [chunk(1, 1, 2), chunk(2, 1, 4), chunk(1, 2, 5), *WANT]


def test_what_is_settled_is_not_sent_again() -> None:
    feeding, lanes = scene()
    feeding.read(Records(0, 2, body(0, 2)), lanes)
    feeding.dispatch("r", lanes, 0.0)
    for lane in lanes:
        lanes.close(lane)
    feeding.settle(RangeSet(((0, 1),)), lanes)
    assert (feeding.stock.tasks, feeding.stock.size) == (1, 2)
