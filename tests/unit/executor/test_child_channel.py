"""SharedBatch, both sides in one process."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

import pytest

from pipeline.executor.child_channel import MAX_IDLE_BYTES, RESERVED_OUTPUT_BYTES, SharedBatch


@pytest.fixture
def sides() -> Iterator[tuple[SharedBatch, SharedBatch]]:
    """Return the worker's and the warm process's view of one memory."""
    worker = SharedBatch()
    child = SharedBatch(os.dup(worker.descriptor))
    yield worker, child
    worker.close()
    child.close()


def test_shared_batch_passes_records_and_results(sides: tuple[SharedBatch, SharedBatch]) -> None:
    worker, child = sides
    worker.write_batch(3, b"one\ntwo\nthree\n")
    assert bytes(child.open_records(child.set_layout(3, 14))) == b"one\ntwo\nthree\n"
    ends, offset = child.ends(), 0
    for index, data in enumerate((b"1\n", b"", b"22\n")):
        assert worker.finished_count() == index
        offset += child.map.write(data)
        ends[index] = offset
    assert worker.finished_count() == 3
    assert worker.read_outputs(0, 3) == (b"1\n22\n", struct.pack("<3I", 2, 2, 5))
    assert worker.read_outputs(1, 3) == (b"22\n", struct.pack("<2I", 0, 3))


@pytest.mark.parametrize("finished", [0, 1, 2, 499, 500, 998, 999, 1000])
def test_finished_count_counts_stored_ends(sides: tuple[SharedBatch, SharedBatch], finished: int) -> None:
    worker, child = sides
    worker.write_batch(1000, b"\n" * 1000)
    child.set_layout(1000, 1000)
    ends = child.ends()
    for index in range(finished):
        ends[index] = 0
    assert worker.finished_count() == finished


def test_write_batch_resets_flags_and_ends(sides: tuple[SharedBatch, SharedBatch]) -> None:
    worker, child = sides
    worker.write_batch(1, b"a\n")
    child.set_layout(1, 2)
    child.append_output(0, 0, b"x")
    worker.stop_after_current()
    assert list(child.start_flags()) == [0]
    worker.write_batch(1, b"b\n")
    assert list(child.start_flags()) != [0]
    assert worker.finished_count() == 0


def test_shared_batch_grows_on_both_sides_and_shrinks(sides: tuple[SharedBatch, SharedBatch]) -> None:
    worker, child = sides
    worker.write_batch(1, b"z" * (2 * MAX_IDLE_BYTES) + b"\n")
    assert child.open_records(child.set_layout(1, 2 * MAX_IDLE_BYTES + 1))[2 * MAX_IDLE_BYTES] == ord("\n")
    large = b"y" * (2 * MAX_IDLE_BYTES)
    child.append_output(0, 0, large)
    assert worker.read_outputs(0, 1)[0] == large
    worker.shrink()
    assert os.fstat(worker.descriptor).st_size == MAX_IDLE_BYTES
    worker.write_batch(1, b"a\n")
    assert bytes(child.open_records(child.set_layout(1, 2))) == b"a\n"


def test_append_output_accepts_more_than_reserved(sides: tuple[SharedBatch, SharedBatch]) -> None:
    worker, child = sides
    worker.write_batch(1, b"\n")
    child.open_records(child.set_layout(1, 1))
    data = b"x" * (2 * RESERVED_OUTPUT_BYTES)
    with pytest.raises(ValueError, match="out of range"):
        child.map.write(data)
    child.append_output(0, 0, data)
    assert worker.finished_count() == 1
    assert worker.read_outputs(0, 1)[0] == data
