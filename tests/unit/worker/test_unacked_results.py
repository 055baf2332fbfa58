"""Results without an answer: kept until all of it is settled, sent again only when asked lately."""

from __future__ import annotations

from pipeline.model.messages import ResendRequest, Result, RetryRange, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.worker.held_tasks import RESULT_OVERHEAD_BYTES, UnackedResults


def result(first: int, count: int = 1, output: bytes = b"", errors: bytes = b"", tries: int = 0) -> Result:
    return Result("run", "ann", first, count, output, b"\0\0\0\0" * count, errors, (), tries)


def test_it_counts_bytes_and_names_tasks() -> None:
    kept = UnackedResults()
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest_sent_time()) == (0, 0, (), None)
    kept.add(result(4, 2, b"abc", b"x"), 1, 10.0)
    kept.add(result(6, 1, b"de"), 1, 11.0)
    kept.add(result(9), 2, 12.0)
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest_sent_time()) == (
        3, 6 + 3 * RESULT_OVERHEAD_BYTES, ((4, 7), (9, 10)), 10.0,
    )  # fmt: skip
    kept.clear()
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest_sent_time()) == (0, 0, (), None)


def test_records_of_failed_tasks_count_too() -> None:
    kept = UnackedResults()
    note = TaskFailure(4, "exit", 1, "", "", record_size=3)
    kept.add(replace(result(4), failures=(note,), failed_records=b"abc"), 1, 10.0)
    assert kept.size == 3 + RESULT_OVERHEAD_BYTES


def test_only_an_answer_for_all_of_a_result_lets_go_of_it() -> None:
    kept = UnackedResults()
    kept.add(result(4, 2, b"abc"), 1, 10.0)
    kept.add(result(8, 1, b"de"), 1, 11.0)
    kept.settle(RangeSet(((0, 5), (8, 9))))
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest_sent_time()) == (
        1, 3 + RESULT_OVERHEAD_BYTES, ((4, 6),), 10.0,
    )  # fmt: skip
    kept.settle(RangeSet(((0, 9),)))
    assert (len(kept), kept.size) == (0, 0)


def test_an_asking_brings_what_it_touches_and_nothing_else() -> None:
    kept = UnackedResults()
    first, second, third = result(0, 3), result(3), result(7)
    for one in (first, second, third):
        kept.add(one, 1, 10.0)
    assert kept.resend(ResendRequest("ann", 2, ((2, 3), (7, 9))), 5, 20.0) == [
        Send(Port.RESULTS, first),
        Send(Port.RESULTS, third),
    ]
    assert kept.oldest_sent_time() == 10.0
    assert len(kept) == 3


def test_an_asking_older_than_the_last_sending_is_ignored() -> None:
    kept = UnackedResults()
    kept.add(result(0), 3, 10.0)
    lost = ((0, 1),)
    assert kept.resend(ResendRequest("ann", 3, lost), 3, 11.0) == []  # that pulse left before the result
    assert kept.resend(ResendRequest("ann", 4, lost), 6, 12.0) == [Send(Port.RESULTS, result(0))]
    assert kept.resend(ResendRequest("ann", 4, lost), 6, 13.0) == []
    assert kept.resend(ResendRequest("ann", 6, lost), 6, 14.0) == []
    assert kept.oldest_sent_time() == 12.0
    assert kept.resend(ResendRequest("ann", 7, lost), 8, 15.0) == [Send(Port.RESULTS, result(0))]


def test_to_be_tried_again_is_an_answer_for_an_earlier_try() -> None:
    kept = UnackedResults()
    kept.add(result(4, 2), 1, 10.0)
    kept.settle(RangeSet(), (RetryRange(4, 5, 1, 0.5),))
    assert len(kept) == 1  # of 5 nothing is known yet
    kept.settle(RangeSet([(5, 6)]), (RetryRange(4, 5, 1, 0.5),))
    assert (len(kept), kept.tasks.ranges(), kept.size) == (0, (), 0)


def test_to_be_tried_again_is_no_answer_for_that_very_try() -> None:
    kept = UnackedResults()
    kept.add(result(4, tries=1), 1, 10.0)
    kept.settle(RangeSet(), (RetryRange(4, 5, 1, 0.0),))
    assert len(kept) == 1
    kept.settle(RangeSet(), (RetryRange(4, 5, 2, 0.0),))
    assert len(kept) == 0


def test_two_tries_of_a_task_are_two_results_and_the_task_is_named_until_both_are_answered() -> None:
    kept = UnackedResults()
    kept.add(result(4, 2), 1, 10.0)
    kept.add(result(4, 1, b"x", tries=1), 2, 11.0)
    assert (len(kept), kept.size, kept.tasks.ranges()) == (2, 1 + 2 * RESULT_OVERHEAD_BYTES, ((4, 6),))
    kept.settle(RangeSet([(5, 6)]), (RetryRange(4, 5, 1, 0.0),))
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest_sent_time()) == (
        1,
        1 + RESULT_OVERHEAD_BYTES,
        ((4, 5),),
        11.0,
    )
    kept.settle(RangeSet([(4, 6)]))
    assert (len(kept), kept.tasks.ranges()) == (0, ())
