"""Which tasks may have taken their worker along, and how sure that is."""

from __future__ import annotations

from pipeline.ventilator.suspects import Suspects
from pipeline.words.ranges import RangeSet


def scene() -> Suspects:
    """Ann was lost with 0 to 4, bob with 2 to 6."""
    suspects = Suspects()
    suspects.lost("ann", RangeSet([(0, 4)]), alone=False)
    suspects.lost("bob", RangeSet([(2, 6)]), alone=False)
    return suspects


def levels(suspects: Suspects) -> list[int]:
    return [suspects.level(task) for task in range(8)]


def test_a_tasks_level_is_how_many_workers_were_lost_with_it() -> None:
    assert levels(Suspects()) == [0] * 8
    assert levels(scene()) == [1, 1, 2, 2, 1, 1, 0, 0]
    assert len(scene()) == 2


def test_a_worker_that_held_nothing_makes_nobody_suspect() -> None:
    suspects = Suspects()
    suspects.lost("ann", RangeSet(), alone=True)
    assert (len(suspects), suspects.convicted(1)) == (0, [])


def test_who_comes_back_takes_its_suspicion_back() -> None:
    suspects = scene()
    suspects.returned("ann")
    suspects.returned("eve")
    assert levels(suspects) == [0, 0, 1, 1, 1, 1, 0, 0]


def test_what_is_settled_is_suspected_no_more() -> None:
    suspects = scene()
    suspects.forget([(0, 3), (5, 9)])
    assert levels(suspects) == [0, 0, 0, 2, 1, 0, 0, 0]
    suspects.forget([(0, 4)])
    assert (levels(suspects), len(suspects)) == ([0, 0, 0, 0, 1, 0, 0, 0], 1)  # of ann's nothing is left


def test_a_stretch_is_as_far_as_all_have_the_level_of_the_first() -> None:
    suspects = scene()
    assert [suspects.stretch(low, 8) for low in range(8)] == [2, 2, 4, 4, 6, 6, 8, 8]
    assert suspects.stretch(4, 5) == 5
    for low in range(8):
        high = suspects.stretch(low, 8)
        assert len({suspects.level(task) for task in range(low, high)}) == 1


def test_only_losses_alone_convict_and_only_of_different_workers() -> None:
    suspects, three = scene(), RangeSet([(3, 4)])
    for worker in ("cid", "dan", "dan"):
        suspects.lost(worker, three, alone=True)
    assert (suspects.level(3), suspects.convicted(2), suspects.convicted(3)) == (4, [3], [])
    suspects.lost("eve", three, alone=False)
    assert suspects.convicted(3) == []
    suspects.lost("eve", three, alone=True)
    assert suspects.convicted(3) == [3]


def test_who_was_to_be_alone_and_held_more_convicts_nobody() -> None:
    suspects = Suspects()
    suspects.lost("ann", RangeSet([(3, 5)]), alone=True)
    assert suspects.convicted(1) == []


def test_a_conviction_falls_with_the_worker_that_comes_back_and_with_the_task() -> None:
    suspects, three = Suspects(), RangeSet([(3, 4)])
    for worker in ("ann", "bob"):
        suspects.lost(worker, three, alone=True)
    suspects.returned("ann")
    assert (suspects.convicted(2), suspects.convicted(1)) == ([], [3])
    suspects.forget([(3, 4)])
    assert suspects.convicted(1) == []


def test_what_was_told_is_not_changed_from_outside() -> None:
    suspects, held = Suspects(), RangeSet([(0, 2), (5, 6)])
    suspects.lost("ann", held, alone=False)
    suspects.forget([(5, 9)])
    assert levels(suspects) == [1, 1, 0, 0, 0, 0, 0, 0]
