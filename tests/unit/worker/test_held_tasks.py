"""Tasks and results that a worker holds."""

from __future__ import annotations

from pipeline.model.events import ReleaseQueued, TasksFinished
from pipeline.model.messages import AttemptRange, Chunk, RecordFormat, Result, RetryRange
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.worker.held_tasks import STALL_SECONDS, HeldTasks


def make_chunk(first: int, count: int, attempt: int = 0) -> Chunk:
    return Chunk("r", 1, 1, first, count, b"".join(b"%d\n" % task for task in range(first, first + count)), attempt)


def finished(first: int, count: int = 1) -> TasksFinished:
    return TasksFinished(Result("", "", first, count, b"", b"\0\0\0\0" * count, b"", ()), 0.1)


def make_result(first: int, count: int = 1) -> Result:
    return Result("r", "ann", first, count, b"", b"\0\0\0\0" * count, b"", ())


def hold(*chunks: Chunk) -> HeldTasks:
    """Make one with two slots that has accepted these chunks at 10.0."""
    held_tasks = HeldTasks(2, 0.0)
    for chunk in chunks:
        assert held_tasks.accept(chunk, RecordFormat(), 10.0) == [chunk]
    return held_tasks


def test_accept_skips_held_tasks() -> None:
    held_tasks = hold(make_chunk(2, 2))
    held_tasks.unacked_results.add(make_result(5), 1, 10.0)
    assert held_tasks.accept(make_chunk(1, 6), RecordFormat(), 10.0) == [
        make_chunk(1, 1),
        make_chunk(4, 1),
        make_chunk(6, 1),
    ]
    assert held_tasks.accept(make_chunk(1, 6), RecordFormat(), 10.0) == []
    assert (held_tasks.unfinished.ranges(), held_tasks.unacked_results.tasks.ranges()) == (((1, 5), (6, 7)), ((5, 6),))


def test_finish_removes_tasks_once() -> None:
    held_tasks = hold(make_chunk(0, 3))
    assert (held_tasks.idle_slots, held_tasks.is_empty) == (0, False)
    assert held_tasks.finish(finished(0, 2), 11.0)
    assert not held_tasks.finish(finished(0, 2), 11.0)
    assert not held_tasks.finish(finished(2, 2), 11.0)  # task 3 was never held
    assert held_tasks.idle_slots == 1
    assert held_tasks.finish(finished(2), 11.0)
    assert (held_tasks.idle_slots, held_tasks.is_empty) == (2, True)
    held_tasks.unacked_results.add(make_result(0, 3), 1, 11.0)
    assert not held_tasks.is_empty


def test_stall_releases_queued_tasks_once() -> None:
    held_tasks = hold(make_chunk(0, 3))
    assert held_tasks.deadline == 10.0 + STALL_SECONDS
    assert held_tasks.tick(10.0 + STALL_SECONDS / 2) == []
    assert held_tasks.tick(10.0 + STALL_SECONDS) == [Send(Port.EXECUTOR, ReleaseQueued())]
    assert (held_tasks.is_stalled, held_tasks.deadline, held_tasks.tick(20.0)) == (True, NEVER, [])
    held_tasks.release(((2, 3),))
    assert held_tasks.unfinished.ranges() == ((0, 2),)
    assert held_tasks.finish(finished(0), 21.0)
    assert not held_tasks.is_stalled


def test_worker_without_queued_tasks_never_stalls() -> None:
    held_tasks = hold(make_chunk(0, 2))
    assert (held_tasks.deadline, held_tasks.tick(1000.0)) == (NEVER, [])


def test_finished_task_restarts_stall_time() -> None:
    held_tasks = hold(make_chunk(0, 4))
    held_tasks.finish(finished(0), 10.05)
    assert held_tasks.deadline == 10.05 + STALL_SECONDS
    assert held_tasks.accept(make_chunk(7, 1), RecordFormat(), 10.1) == [make_chunk(7, 1)]  # a new task is no progress
    assert held_tasks.deadline == 10.05 + STALL_SECONDS


def test_paused_tasks_are_not_released() -> None:
    held_tasks = hold(make_chunk(0, 4))
    held_tasks.pause(10.05, is_paused=True)
    assert (held_tasks.deadline, held_tasks.tick(1000.0)) == (NEVER, [])
    held_tasks.pause(1000.0, is_paused=False)
    assert held_tasks.deadline == 1000.0 + STALL_SECONDS


def test_settle_returns_tasks_settled_elsewhere() -> None:
    held_tasks = hold(make_chunk(0, 4))
    held_tasks.finish(finished(3), 11.0)
    held_tasks.unacked_results.add(make_result(3), 1, 11.0)
    assert held_tasks.settle(RangeSet(((1, 2), (3, 9))), ()) == ((1, 2),)
    assert (held_tasks.unfinished.ranges(), len(held_tasks.unacked_results)) == (((0, 1), (2, 3)), 0)
    assert held_tasks.settle(RangeSet(((1, 2),)), ()) == ()


def test_later_attempt_replaces_earlier_one() -> None:
    held_tasks = hold(make_chunk(0, 3))
    held_tasks.finish(finished(2), 11.0)
    held_tasks.unacked_results.add(make_result(2), 1, 11.0)
    later = make_chunk(1, 3, attempt=1)
    assert held_tasks.drop_outdated(later) == ((1, 2),)
    assert held_tasks.unfinished.ranges() == ((0, 1),)
    assert held_tasks.accept(later, RecordFormat(), 12.0) == [later]
    assert (held_tasks.drop_outdated(later), held_tasks.accept(later, RecordFormat(), 12.0)) == ((), [])
    assert held_tasks.attempts.select_failed([(0, 9)]) == (AttemptRange(1, 4, 1),)


def test_late_earlier_attempt_is_not_accepted() -> None:
    held_tasks = hold(make_chunk(1, 2, attempt=1))
    assert held_tasks.drop_outdated(make_chunk(0, 3)) == ()
    assert held_tasks.accept(make_chunk(0, 3), RecordFormat(), 12.0) == [make_chunk(0, 1)]
    assert held_tasks.attempts.select_failed([(0, 9)]) == (AttemptRange(1, 3, 1),)


def test_later_attempt_keeps_result_of_earlier_one() -> None:
    held_tasks = hold(make_chunk(4, 1))
    held_tasks.finish(finished(4), 11.0)
    held_tasks.unacked_results.add(make_result(4), 1, 11.0)
    assert held_tasks.drop_outdated(make_chunk(4, 1, attempt=1)) == ()
    assert held_tasks.accept(make_chunk(4, 1, attempt=1), RecordFormat(), 12.0) == [make_chunk(4, 1, attempt=1)]
    assert (held_tasks.unfinished.ranges(), held_tasks.unacked_results.tasks.ranges()) == (((4, 5),), ((4, 5),))


def test_retry_of_same_attempt_cancels_nothing() -> None:
    held_tasks = hold(make_chunk(0, 2))
    assert held_tasks.settle(RangeSet(), (RetryRange(1, 2, 1, 0.0),)) == ()
    assert held_tasks.unfinished.ranges() == ((0, 2),)


def test_settled_tasks_have_no_attempt() -> None:
    held_tasks = hold(make_chunk(4, 2, attempt=1))
    held_tasks.settle(RangeSet([(0, 5)]), ())
    assert held_tasks.attempts.select_failed([(0, 9)]) == (AttemptRange(5, 6, 1),)


def test_clear_removes_everything() -> None:
    held_tasks = hold(make_chunk(0, 4, attempt=1))
    held_tasks.unacked_results.add(make_result(9), 1, 11.0)
    held_tasks.clear()
    assert held_tasks.is_empty
    assert len(held_tasks.attempts) == 0
