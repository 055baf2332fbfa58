"""What a worker holds."""

from __future__ import annotations

from pipeline.model.events import ReleaseQueued, TasksFinished
from pipeline.model.messages import AttemptRange, Chunk, RecordFormat, Result, RetryRange
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.worker.held_tasks import STALL_SECONDS, HeldTasks


def chunk(first: int, count: int, tries: int = 0) -> Chunk:
    return Chunk("r", 1, 1, first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), tries)


def done(first: int, count: int = 1) -> TasksFinished:
    return TasksFinished(Result("", "", first, count, b"", b"\0\0\0\0" * count, b"", ()), 0.1)


def result(first: int, count: int = 1) -> Result:
    return Result("r", "ann", first, count, b"", b"\0\0\0\0" * count, b"", ())


def held(*chunks: Chunk) -> HeldTasks:
    """With two slots, and these chunks taken at 10.0."""
    made = HeldTasks(2, 0.0)
    for each in chunks:
        assert made.accept(each, RecordFormat(), 10.0) == [each]
    return made


def test_what_is_held_already_is_not_new() -> None:
    hands = held(chunk(2, 2))
    hands.unacked_results.add(result(5), 1, 10.0)
    assert hands.accept(chunk(1, 6), RecordFormat(), 10.0) == [chunk(1, 1), chunk(4, 1), chunk(6, 1)]
    assert hands.accept(chunk(1, 6), RecordFormat(), 10.0) == []
    assert (hands.unfinished.ranges(), hands.unacked_results.tasks.ranges()) == (((1, 5), (6, 7)), ((5, 6),))


def test_what_has_ended_is_held_no_more_and_told_once() -> None:
    hands = held(chunk(0, 3))
    assert (hands.idle_slots, hands.is_empty) == (0, False)
    assert hands.finish(done(0, 2), 11.0)
    assert not hands.finish(done(0, 2), 11.0)
    assert not hands.finish(done(2, 2), 11.0)  # a part of it was never held
    assert hands.idle_slots == 1
    assert hands.finish(done(2), 11.0)
    assert (hands.idle_slots, hands.is_empty) == (2, True)
    hands.unacked_results.add(result(0, 3), 1, 11.0)
    assert not hands.is_empty


def test_when_nothing_ends_for_a_while_the_unstarted_are_given_back_once() -> None:
    hands = held(chunk(0, 3))
    assert hands.deadline == 10.0 + STALL_SECONDS
    assert hands.tick(10.0 + STALL_SECONDS / 2) == []
    assert hands.tick(10.0 + STALL_SECONDS) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert (hands.is_stalled, hands.deadline, hands.tick(20.0)) == (True, NEVER, [])
    hands.release(((2, 3),))
    assert hands.unfinished.ranges() == ((0, 2),)
    assert hands.finish(done(0), 21.0)
    assert not hands.is_stalled


def test_who_holds_no_more_than_can_run_is_never_stuck() -> None:
    hands = held(chunk(0, 2))
    assert (hands.deadline, hands.tick(1000.0)) == (NEVER, [])


def test_each_end_is_progress() -> None:
    hands = held(chunk(0, 4))
    hands.finish(done(0), 10.05)
    assert hands.deadline == 10.05 + STALL_SECONDS
    assert hands.accept(chunk(7, 1), RecordFormat(), 10.1) == [chunk(7, 1)]  # a new task is none
    assert hands.deadline == 10.05 + STALL_SECONDS


def test_what_others_have_settled_need_not_run_on() -> None:
    hands = held(chunk(0, 4))
    hands.finish(done(3), 11.0)
    hands.unacked_results.add(result(3), 1, 11.0)
    assert hands.settle(RangeSet(((1, 2), (3, 9))), ()) == ((1, 2),)
    assert (hands.unfinished.ranges(), len(hands.unacked_results)) == (((0, 1), (2, 3)), 0)
    assert hands.settle(RangeSet(((1, 2),)), ()) == ()


def test_a_task_in_its_next_try_is_new_and_the_earlier_one_stale() -> None:
    hands = held(chunk(0, 3))
    hands.finish(done(2), 11.0)
    hands.unacked_results.add(result(2), 1, 11.0)
    again = chunk(1, 3, tries=1)
    assert hands.drop_outdated(again) == ((1, 2),)
    assert hands.unfinished.ranges() == ((0, 1),)
    assert hands.accept(again, RecordFormat(), 12.0) == [again]
    assert (hands.drop_outdated(again), hands.accept(again, RecordFormat(), 12.0)) == ((), [])
    assert hands.attempts.select_failed([(0, 9)]) == (AttemptRange(1, 4, 1),)


def test_an_earlier_try_that_comes_late_is_nothing_new() -> None:
    hands = held(chunk(1, 2, tries=1))
    assert hands.drop_outdated(chunk(0, 3)) == ()
    assert hands.accept(chunk(0, 3), RecordFormat(), 12.0) == [chunk(0, 1)]
    assert hands.attempts.select_failed([(0, 9)]) == (AttemptRange(1, 3, 1),)


def test_of_an_earlier_try_only_what_runs_is_stale_and_what_has_ended_is_answered_on_its_own() -> None:
    hands = held(chunk(4, 1))
    hands.finish(done(4), 11.0)
    hands.unacked_results.add(result(4), 1, 11.0)
    assert hands.drop_outdated(chunk(4, 1, tries=1)) == ()
    assert hands.accept(chunk(4, 1, tries=1), RecordFormat(), 12.0) == [chunk(4, 1, tries=1)]
    assert (hands.unfinished.ranges(), hands.unacked_results.tasks.ranges()) == (((4, 5),), ((4, 5),))


def test_what_failed_elsewhere_in_the_same_try_runs_on_since_it_may_end_well_here() -> None:
    hands = held(chunk(0, 2))
    assert hands.settle(RangeSet(), (RetryRange(1, 2, 1, 0.0),)) == ()
    assert hands.unfinished.ranges() == ((0, 2),)


def test_what_is_settled_has_no_tries_any_more() -> None:
    hands = held(chunk(4, 2, tries=1))
    hands.settle(RangeSet([(0, 5)]), ())
    assert hands.attempts.select_failed([(0, 9)]) == (AttemptRange(5, 6, 1),)


def test_it_can_be_let_go_of() -> None:
    hands = held(chunk(0, 4, tries=1))
    hands.unacked_results.add(result(9), 1, 11.0)
    hands.clear()
    assert hands.is_empty
    assert len(hands.attempts) == 0
