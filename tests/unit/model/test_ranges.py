"""RangeSet, compared with plain sets of numbers."""

from __future__ import annotations

import random

from pipeline.model.ranges import RangeSet, settled_ranges

LIMIT = 40


def merged_ranges(tasks: set[int]) -> tuple[tuple[int, int], ...]:
    """Return the merged ranges of a plain set."""
    lows = sorted(task for task in tasks if task - 1 not in tasks)
    highs = sorted(task + 1 for task in tasks if task + 1 not in tasks)
    return tuple(zip(lows, highs, strict=True))


def test_range_set_agrees_with_set_of_numbers() -> None:
    rng = random.Random(1)
    for _ in range(50):
        ranges, plain = RangeSet(), set[int]()
        for _ in range(60):
            low, high = rng.randrange(LIMIT), rng.randrange(LIMIT)
            asked = set(range(low, high))
            assert set().union(*(range(*part) for part in ranges.intersection(low, high))) == plain & asked
            assert set().union(*(range(*part) for part in ranges.gaps(low, high))) == asked - plain
            assert ranges.covers(low, high) == (asked <= plain)
            if rng.random() < 0.6:
                ranges.add(low, high)
                plain |= asked
            else:
                ranges.remove(low, high)
                plain -= asked
            assert ranges.ranges() == tuple(ranges) == merged_ranges(plain)
            assert (len(ranges), ranges.task_count) == (len(merged_ranges(plain)), len(plain))
            assert [task for task in range(LIMIT) if task in ranges] == sorted(plain)


def test_add_merges_adjacent_ranges() -> None:
    assert RangeSet(((5, 7), (0, 2), (2, 4), (6, 9))).ranges() == ((0, 4), (5, 9))


def test_empty_and_reversed_ranges_have_no_effect() -> None:
    ranges = RangeSet(((3, 3), (5, 4)))
    ranges.remove(9, 2)
    assert (ranges.ranges(), ranges.task_count) == ((), 0)
    assert ranges.covers(4, 4)
    assert not ranges.covers(4, 5)


def test_update_and_difference_update_take_several_ranges() -> None:
    ranges = RangeSet(((0, 10),))
    ranges.difference_update(((1, 2), (4, 6), (20, 30)))
    ranges.update(((1, 2), (12, 14)))
    assert ranges.ranges() == ((0, 4), (6, 10), (12, 14))


def test_low_watermark_counts_from_zero() -> None:
    assert RangeSet().low_watermark() == 0
    assert RangeSet(((1, 3),)).low_watermark() == 0
    assert RangeSet(((1, 3),)).above_low_watermark() == ((1, 3),)
    both = RangeSet(((0, 3), (5, 6)))
    assert (both.low_watermark(), both.above_low_watermark()) == (3, ((5, 6),))


def test_settled_ranges_restores_set_of_ack() -> None:
    ranges = RangeSet(((0, 3), (5, 6), (8, 9)))
    assert settled_ranges(ranges.low_watermark(), ranges.above_low_watermark()).ranges() == ranges.ranges()
    assert settled_ranges(0, ()).ranges() == ()


def test_ten_million_tasks_make_one_range() -> None:
    ranges = RangeSet((low, low + 1000) for low in range(0, 10**7, 1000))
    assert (ranges.ranges(), ranges.task_count) == (((0, 10**7),), 10**7)
