"""How large batches become."""

from __future__ import annotations

from pipeline.executor.call_executor import MAX_BATCH_TASKS, BatchSizer


def test_it_starts_with_one_and_grows_fourfold() -> None:
    pace, sizes = BatchSizer(), []
    assert not pace.has_short_tasks
    for _ in range(9):
        size = pace.batch_size(10**6, 2)
        sizes.append(size)
        pace.add_sample(size, size * 2e-7)
    assert sizes == [1, 4, 16, 64, 256, 1024, 4096, MAX_BATCH_TASKS, MAX_BATCH_TASKS]
    assert pace.has_short_tasks


def test_a_batch_is_ten_milliseconds() -> None:
    pace = BatchSizer()
    for _ in range(20):
        pace.add_sample(100, 0.1)
    assert pace.batch_size(10**6, 2) == 10
    pace.add_sample(10, 5.0)
    assert pace.batch_size(10**6, 2) == 1
    assert not pace.has_short_tasks


def test_one_fast_task_is_trusted_by_halves() -> None:
    pace = BatchSizer()
    pace.add_sample(1, 0.004)
    pace.add_sample(1, 0.0)
    assert pace.batch_size(10**6, 1) == 4


def test_a_small_backlog_is_spread() -> None:
    pace = BatchSizer()
    for _ in range(20):
        pace.add_sample(1000, 2.0)
    assert pace.batch_size(12, 4) == 3
    assert pace.batch_size(13, 4) == 4


def test_however_little_waits_an_exchange_is_five_milliseconds() -> None:
    pace = BatchSizer()
    pace.add_sample(1000, 0.1)
    assert [pace.batch_size(waiting, 4) for waiting in (1, 200, 300, 1000)] == [50, 50, 75, 100]
