"""The hoard: what is joined stays small, however large a single result is."""

from __future__ import annotations

import struct

from pipeline.model.messages import Result
from pipeline.model.structs import replace
from pipeline.storage.spill_buffer import MERGE_LIMIT_BYTES, MemoryBuffer


def result(first: int, size: int) -> Result:
    """The one of a single task that wrote so many bytes."""
    return Result("run", "worker", first, 1, bytes(size), struct.pack("<I", size), b"", ())


def held(*sizes: int) -> MemoryBuffer:
    memory = MemoryBuffer()
    for first, size in enumerate(sizes):
        memory.add(result(first, size))
    return memory


def test_small_neighbours_are_joined_up_to_a_group() -> None:
    memory = held(*[MERGE_LIMIT_BYTES // 8] * 20)
    group = memory.contiguous(0)
    assert 1 < len(group) < 20
    assert MERGE_LIMIT_BYTES <= sum(len(each.output) for each in group) + 600 * len(group) <= 2 * MERGE_LIMIT_BYTES


def test_a_large_result_is_joined_to_none_before_or_behind_it() -> None:
    memory = held(10, 3 * MERGE_LIMIT_BYTES, 10, 10)
    assert [each.first for each in memory.contiguous(0)] == [0]
    assert [each.first for each in memory.contiguous(1)] == [1]
    assert [each.first for each in memory.contiguous(2)] == [2, 3]


def test_a_result_with_accounts_is_not_joined_to_one_without() -> None:
    memory = held(10, 10)
    memory.add(replace(result(2, 10), metrics=b"of task 2"))
    assert [each.first for each in memory.contiguous(0)] == [0, 1]
