"""Tasks that may have crashed their workers."""

from __future__ import annotations

from pipeline.model.ranges import RangeSet
from pipeline.ventilator.poison import CrashSuspects


def make_suspects() -> CrashSuspects:
    """Make suspects of the loss of ann with tasks 0 to 3, and of bob with tasks 2 to 5."""
    suspects = CrashSuspects()
    suspects.on_worker_lost("ann", RangeSet([(0, 4)]), is_isolated=False)
    suspects.on_worker_lost("bob", RangeSet([(2, 6)]), is_isolated=False)
    return suspects


def loss_counts(suspects: CrashSuspects) -> list[int]:
    return [suspects.loss_count(task) for task in range(8)]


def test_loss_count_is_number_of_lost_workers() -> None:
    assert loss_counts(CrashSuspects()) == [0] * 8
    assert loss_counts(make_suspects()) == [1, 1, 2, 2, 1, 1, 0, 0]
    assert len(make_suspects()) == 2


def test_lost_worker_without_tasks_makes_no_suspect() -> None:
    suspects = CrashSuspects()
    suspects.on_worker_lost("ann", RangeSet(), is_isolated=True)
    assert (len(suspects), suspects.poison_tasks(1)) == (0, [])


def test_returning_worker_clears_suspicion() -> None:
    suspects = make_suspects()
    suspects.on_worker_returned("ann")
    suspects.on_worker_returned("eve")
    assert loss_counts(suspects) == [0, 0, 1, 1, 1, 1, 0, 0]


def test_settled_task_is_no_suspect() -> None:
    suspects = make_suspects()
    suspects.forget([(0, 3), (5, 9)])
    assert loss_counts(suspects) == [0, 0, 0, 2, 1, 0, 0, 0]
    suspects.forget([(0, 4)])
    assert (loss_counts(suspects), len(suspects)) == ([0, 0, 0, 0, 1, 0, 0, 0], 1)  # no task of ann is left


def test_same_loss_count_until_ends_where_count_changes() -> None:
    suspects = make_suspects()
    assert [suspects.same_loss_count_until(low, 8) for low in range(8)] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert suspects.same_loss_count_until(4, 5) == 5
    for low in range(8):
        high = suspects.same_loss_count_until(low, 8)
        assert len({suspects.loss_count(task) for task in range(low, high)}) == 1


def test_poison_needs_isolated_losses_of_different_workers() -> None:
    suspects, task_3 = make_suspects(), RangeSet([(3, 4)])
    for worker in ("cid", "dan", "dan"):
        suspects.on_worker_lost(worker, task_3, is_isolated=True)
    assert (suspects.loss_count(3), suspects.poison_tasks(2), suspects.poison_tasks(3)) == (4, [3], [])
    suspects.on_worker_lost("eve", task_3, is_isolated=False)
    assert suspects.poison_tasks(3) == []
    suspects.on_worker_lost("eve", task_3, is_isolated=True)
    assert suspects.poison_tasks(3) == [3]


def test_isolated_loss_with_two_tasks_is_no_poison() -> None:
    suspects = CrashSuspects()
    suspects.on_worker_lost("ann", RangeSet([(3, 5)]), is_isolated=True)
    assert suspects.poison_tasks(1) == []


def test_poison_is_cleared_by_return_or_settlement() -> None:
    suspects, task_3 = CrashSuspects(), RangeSet([(3, 4)])
    for worker in ("ann", "bob"):
        suspects.on_worker_lost(worker, task_3, is_isolated=True)
    suspects.on_worker_returned("ann")
    assert (suspects.poison_tasks(2), suspects.poison_tasks(1)) == ([], [3])
    suspects.forget([(3, 4)])
    assert suspects.poison_tasks(1) == []


def test_forget_changes_no_tasks_of_other_ranges() -> None:
    suspects, unfinished = CrashSuspects(), RangeSet([(0, 2), (5, 6)])
    suspects.on_worker_lost("ann", unfinished, is_isolated=False)
    suspects.forget([(5, 9)])
    assert loss_counts(suspects) == [1, 1, 0, 0, 0, 0, 0, 0]
