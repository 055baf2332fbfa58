"""Which tasks may have taken their worker along, and how sure that is."""

from __future__ import annotations

from pipeline.model.ranges import RangeSet
from pipeline.ventilator.poison import CrashSuspects


def scene() -> CrashSuspects:
    """Ann was lost with 0 to 4, bob with 2 to 6."""
    suspects = CrashSuspects()
    suspects.on_worker_lost("ann", RangeSet([(0, 4)]), is_isolated=False)
    suspects.on_worker_lost("bob", RangeSet([(2, 6)]), is_isolated=False)
    return suspects


def levels(suspects: CrashSuspects) -> list[int]:
    return [suspects.loss_count(task) for task in range(8)]


def test_a_tasks_level_is_how_many_workers_were_lost_with_it() -> None:
    assert levels(CrashSuspects()) == [0] * 8
    assert levels(scene()) == [1, 1, 2, 2, 1, 1, 0, 0]
    assert len(scene()) == 2


def test_a_worker_that_held_nothing_makes_nobody_suspect() -> None:
    suspects = CrashSuspects()
    suspects.on_worker_lost("ann", RangeSet(), is_isolated=True)
    assert (len(suspects), suspects.poison_tasks(1)) == (0, [])


def test_who_comes_back_takes_its_suspicion_back() -> None:
    suspects = scene()
    suspects.on_worker_returned("ann")
    suspects.on_worker_returned("eve")
    assert levels(suspects) == [0, 0, 1, 1, 1, 1, 0, 0]


def test_what_is_settled_is_suspected_no_more() -> None:
    suspects = scene()
    suspects.forget([(0, 3), (5, 9)])
    assert levels(suspects) == [0, 0, 0, 2, 1, 0, 0, 0]
    suspects.forget([(0, 4)])
    assert (levels(suspects), len(suspects)) == ([0, 0, 0, 0, 1, 0, 0, 0], 1)  # of ann's nothing is left


def test_a_stretch_is_as_far_as_all_have_the_level_of_the_first() -> None:
    suspects = scene()
    assert [suspects.same_loss_count_until(low, 8) for low in range(8)] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert suspects.same_loss_count_until(4, 5) == 5
    for low in range(8):
        high = suspects.same_loss_count_until(low, 8)
        assert len({suspects.loss_count(task) for task in range(low, high)}) == 1


def test_only_losses_alone_convict_and_only_of_different_workers() -> None:
    suspects, three = scene(), RangeSet([(3, 4)])
    for worker in ("cid", "dan", "dan"):
        suspects.on_worker_lost(worker, three, is_isolated=True)
    assert (suspects.loss_count(3), suspects.poison_tasks(2), suspects.poison_tasks(3)) == (4, [3], [])
    suspects.on_worker_lost("eve", three, is_isolated=False)
    assert suspects.poison_tasks(3) == []
    suspects.on_worker_lost("eve", three, is_isolated=True)
    assert suspects.poison_tasks(3) == [3]


def test_who_was_to_be_alone_and_held_more_convicts_nobody() -> None:
    suspects = CrashSuspects()
    suspects.on_worker_lost("ann", RangeSet([(3, 5)]), is_isolated=True)
    assert suspects.poison_tasks(1) == []


def test_a_conviction_falls_with_the_worker_that_comes_back_and_with_the_task() -> None:
    suspects, three = CrashSuspects(), RangeSet([(3, 4)])
    for worker in ("ann", "bob"):
        suspects.on_worker_lost(worker, three, is_isolated=True)
    suspects.on_worker_returned("ann")
    assert (suspects.poison_tasks(2), suspects.poison_tasks(1)) == ([], [3])
    suspects.forget([(3, 4)])
    assert suspects.poison_tasks(1) == []


def test_what_was_told_is_not_changed_from_outside() -> None:
    suspects, held = CrashSuspects(), RangeSet([(0, 2), (5, 6)])
    suspects.on_worker_lost("ann", held, is_isolated=False)
    suspects.forget([(5, 9)])
    assert levels(suspects) == [1, 1, 0, 0, 0, 0, 0, 0]
