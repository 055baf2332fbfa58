"""The shared memory of a batch, both sides in one process."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from pipeline.executor.arena import KEPT, ROOM, Arena


@pytest.fixture
def sides() -> Iterator[tuple[Arena, Arena]]:
    """The agent's and the child's view of one memory."""
    agent = Arena()
    child = Arena(os.dup(agent.descriptor))
    yield agent, child
    agent.close()
    child.close()


def test_the_child_finds_the_records_and_the_agent_the_results(sides: tuple[Arena, Arena]) -> None:
    agent, child = sides
    agent.load(3, b"one\ntwo\nthree\n")
    assert bytes(child.body(child.lay(3, 14))) == b"one\ntwo\nthree\n"
    ends, place = child.ends(), 0
    for index, data in enumerate((b"1\n", b"", b"22\n")):
        assert agent.finished() == index
        place += child.map.write(data)
        ends[index] = place
    assert agent.finished() == 3
    assert agent.outputs(0, 3) == (b"1\n22\n", struct.pack("<3I", 2, 2, 5))
    assert agent.outputs(1, 3) == (b"22\n", struct.pack("<2I", 0, 3))


@pytest.mark.parametrize("done", [0, 1, 2, 499, 500, 998, 999, 1000])
def test_finished_counts_the_ends(sides: tuple[Arena, Arena], done: int) -> None:
    agent, child = sides
    agent.load(1000, b"\n" * 1000)
    child.lay(1000, 1000)
    ends = child.ends()
    for index in range(done):
        ends[index] = 0
    assert agent.finished() == done


def test_a_batch_starts_clean(sides: tuple[Arena, Arena]) -> None:
    agent, child = sides
    agent.load(1, b"a\n")
    child.lay(1, 2)
    child.append(0, 0, b"x")
    agent.halt()
    assert list(child.go()) == [0]
    agent.load(1, b"b\n")
    assert list(child.go()) != [0]
    assert agent.finished() == 0


def test_either_side_can_make_it_grow_and_the_agent_cuts_it_back(sides: tuple[Arena, Arena]) -> None:
    agent, child = sides
    agent.load(1, b"z" * (2 * KEPT) + b"\n")
    assert child.body(child.lay(1, 2 * KEPT + 1))[2 * KEPT] == ord("\n")
    large = b"y" * (2 * KEPT)
    child.append(0, 0, large)
    assert agent.outputs(0, 1)[0] == large
    agent.trim()
    assert os.fstat(agent.descriptor).st_size == KEPT
    agent.load(1, b"a\n")
    assert bytes(child.body(child.lay(1, 2))) == b"a\n"


def test_writing_past_the_room_is_refused_until_it_is_appended(sides: tuple[Arena, Arena]) -> None:
    agent, child = sides
    agent.load(1, b"\n")
    child.body(child.lay(1, 1))
    data = b"x" * (2 * ROOM)
    with pytest.raises(ValueError, match="out of range"):
        child.map.write(data)
    child.append(0, 0, data)
    assert agent.finished() == 1
    assert agent.outputs(0, 1)[0] == data
