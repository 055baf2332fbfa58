"""The shared memory of a batch, both sides in one process."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from pipeline.executor.child_channel import MAX_IDLE_BYTES, RESERVED_OUTPUT_BYTES, SharedBatch


@pytest.fixture
def sides() -> Iterator[tuple[SharedBatch, SharedBatch]]:
    """The agent's and the child's view of one memory."""
    agent = SharedBatch()
    child = SharedBatch(os.dup(agent.descriptor))
    yield agent, child
    agent.close()
    child.close()


def test_the_child_finds_the_records_and_the_agent_the_results(sides: tuple[SharedBatch, SharedBatch]) -> None:
    agent, child = sides
    agent.write_batch(3, b"one\ntwo\nthree\n")
    assert bytes(child.open_records(child.set_layout(3, 14))) == b"one\ntwo\nthree\n"
    ends, place = child.ends(), 0
    for index, data in enumerate((b"1\n", b"", b"22\n")):
        assert agent.finished_count() == index
        place += child.map.write(data)
        ends[index] = place
    assert agent.finished_count() == 3
    assert agent.read_outputs(0, 3) == (b"1\n22\n", struct.pack("<3I", 2, 2, 5))
    assert agent.read_outputs(1, 3) == (b"22\n", struct.pack("<2I", 0, 3))


@pytest.mark.parametrize("done", [0, 1, 2, 499, 500, 998, 999, 1000])
def test_finished_counts_the_ends(sides: tuple[SharedBatch, SharedBatch], done: int) -> None:
    agent, child = sides
    agent.write_batch(1000, b"\n" * 1000)
    child.set_layout(1000, 1000)
    ends = child.ends()
    for index in range(done):
        ends[index] = 0
    assert agent.finished_count() == done


def test_a_batch_starts_clean(sides: tuple[SharedBatch, SharedBatch]) -> None:
    agent, child = sides
    agent.write_batch(1, b"a\n")
    child.set_layout(1, 2)
    child.append_output(0, 0, b"x")
    agent.stop_after_current()
    assert list(child.start_flags()) == [0]
    agent.write_batch(1, b"b\n")
    assert list(child.start_flags()) != [0]
    assert agent.finished_count() == 0


def test_either_side_can_make_it_grow_and_the_agent_cuts_it_back(sides: tuple[SharedBatch, SharedBatch]) -> None:
    agent, child = sides
    agent.write_batch(1, b"z" * (2 * MAX_IDLE_BYTES) + b"\n")
    assert child.open_records(child.set_layout(1, 2 * MAX_IDLE_BYTES + 1))[2 * MAX_IDLE_BYTES] == ord("\n")
    large = b"y" * (2 * MAX_IDLE_BYTES)
    child.append_output(0, 0, large)
    assert agent.read_outputs(0, 1)[0] == large
    agent.shrink()
    assert os.fstat(agent.descriptor).st_size == MAX_IDLE_BYTES
    agent.write_batch(1, b"a\n")
    assert bytes(child.open_records(child.set_layout(1, 2))) == b"a\n"


def test_writing_past_the_room_is_refused_until_it_is_appended(sides: tuple[SharedBatch, SharedBatch]) -> None:
    agent, child = sides
    agent.write_batch(1, b"\n")
    child.open_records(child.set_layout(1, 1))
    data = b"x" * (2 * RESERVED_OUTPUT_BYTES)
    with pytest.raises(ValueError, match="out of range"):
        child.map.write(data)
    child.append_output(0, 0, data)
    assert agent.finished_count() == 1
    assert agent.read_outputs(0, 1)[0] == data
