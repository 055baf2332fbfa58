"""Neighbours in memory are merged up to a limit."""

from __future__ import annotations

import struct

from pipeline.model.messages import Result
from pipeline.model.structs import replace
from pipeline.storage.spill_buffer import MERGE_LIMIT_BYTES, MemoryBuffer


def result(first: int, size: int) -> Result:
    """Return the result of one task with `size` bytes of output."""
    return Result("run", "worker", first, 1, bytes(size), struct.pack("<I", size), b"", ())


def filled_buffer(*sizes: int) -> MemoryBuffer:
    buffer = MemoryBuffer()
    for first, size in enumerate(sizes):
        buffer.add(result(first, size))
    return buffer


def test_small_neighbours_are_grouped_up_to_limit() -> None:
    buffer = filled_buffer(*[MERGE_LIMIT_BYTES // 8] * 20)
    group = buffer.contiguous(0)
    assert 1 < len(group) < 20
    assert MERGE_LIMIT_BYTES <= sum(len(member.output) for member in group) + 600 * len(group) <= 2 * MERGE_LIMIT_BYTES


def test_large_result_is_not_grouped() -> None:
    buffer = filled_buffer(10, 3 * MERGE_LIMIT_BYTES, 10, 10)
    assert [member.first for member in buffer.contiguous(0)] == [0]
    assert [member.first for member in buffer.contiguous(1)] == [1]
    assert [member.first for member in buffer.contiguous(2)] == [2, 3]


def test_result_with_metrics_is_grouped_with_its_like() -> None:
    buffer = filled_buffer(10, 10)
    buffer.add(replace(result(2, 10), metrics=b"of task 2"))
    assert [member.first for member in buffer.contiguous(0)] == [0, 1]
