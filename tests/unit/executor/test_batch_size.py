"""BatchSizer."""

from __future__ import annotations

from pipeline.executor.call_executor import MAX_BATCH_TASKS, BatchSizer


def test_batch_size_grows_fourfold_from_one() -> None:
    sizer, sizes = BatchSizer(), []
    assert not sizer.has_short_tasks
    for _ in range(9):
        size = sizer.batch_size(10**6, 2)
        sizes.append(size)
        sizer.add_sample(size, size * 2e-7)
    assert sizes == [1, 4, 16, 64, 256, 1024, 4096, MAX_BATCH_TASKS, MAX_BATCH_TASKS]
    assert sizer.has_short_tasks


def test_batch_size_is_ten_milliseconds_of_work() -> None:
    sizer = BatchSizer()
    for _ in range(20):
        sizer.add_sample(100, 0.1)
    assert sizer.batch_size(10**6, 2) == 10
    sizer.add_sample(10, 5.0)
    assert sizer.batch_size(10**6, 2) == 1
    assert not sizer.has_short_tasks


def test_batch_size_trusts_a_fast_sample_by_half() -> None:
    sizer = BatchSizer()
    sizer.add_sample(1, 0.004)
    sizer.add_sample(1, 0.0)
    assert sizer.batch_size(10**6, 1) == 4


def test_batch_size_with_few_tasks_is_a_fair_share() -> None:
    sizer = BatchSizer()
    for _ in range(20):
        sizer.add_sample(1000, 2.0)
    assert sizer.batch_size(12, 4) == 3
    assert sizer.batch_size(13, 4) == 4


def test_batch_size_with_few_tasks_has_a_lower_bound() -> None:
    sizer = BatchSizer()
    sizer.add_sample(1000, 0.1)
    assert [sizer.batch_size(waiting, 4) for waiting in (1, 200, 300, 1000)] == [50, 50, 75, 100]
