"""Unacknowledged results: kept until settled, sent again on request."""

from __future__ import annotations

from pipeline.model.events import SendContent
from pipeline.model.messages import ResendRequest, Result, RetryRange, TaskFailure, Transfer
from pipeline.model.ranges import RangeSet
from pipeline.model.results import LargeResult
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.worker.held_tasks import RESULT_OVERHEAD_BYTES, UnackedResults


def make_result(first: int, count: int = 1, output: bytes = b"", errors: bytes = b"", attempt: int = 0) -> Result:
    return Result("run", "ann", first, count, output, b"\0\0\0\0" * count, errors, (), attempt)


def test_results_count_bytes_and_tasks() -> None:
    results = UnackedResults()
    assert (len(results), results.size, results.tasks.ranges(), results.oldest_sent_time()) == (0, 0, (), None)
    results.add(make_result(4, 2, b"abc", b"x"), 1, 10.0)
    results.add(make_result(6, 1, b"de"), 1, 11.0)
    results.add(make_result(9), 2, 12.0)
    assert (len(results), results.size, results.tasks.ranges(), results.oldest_sent_time()) == (
        3, 6 + 3 * RESULT_OVERHEAD_BYTES, ((4, 7), (9, 10)), 10.0,
    )  # fmt: skip
    results.clear()
    assert (len(results), results.size, results.tasks.ranges(), results.oldest_sent_time()) == (0, 0, (), None)


def test_results_count_bytes_of_failed_records() -> None:
    results = UnackedResults()
    failure = TaskFailure(4, "exit", 1, "", "", record_size=3)
    results.add(replace(make_result(4), failures=(failure,), failed_records=b"abc"), 1, 10.0)
    assert results.size == 3 + RESULT_OVERHEAD_BYTES


def test_settle_removes_only_complete_results() -> None:
    results = UnackedResults()
    results.add(make_result(4, 2, b"abc"), 1, 10.0)
    results.add(make_result(8, 1, b"de"), 1, 11.0)
    results.settle(RangeSet(((0, 5), (8, 9))))
    assert (len(results), results.size, results.tasks.ranges(), results.oldest_sent_time()) == (
        1, 3 + RESULT_OVERHEAD_BYTES, ((4, 6),), 10.0,
    )  # fmt: skip
    results.settle(RangeSet(((0, 9),)))
    assert (len(results), results.size) == (0, 0)


def test_resend_returns_only_requested_results() -> None:
    results = UnackedResults()
    first, second, third = make_result(0, 3), make_result(3), make_result(7)
    for result in (first, second, third):
        results.add(result, 1, 10.0)
    assert results.resend(ResendRequest("ann", 2, ((2, 3), (7, 9))), 5, 20.0) == [
        Send(Port.RESULTS, first),
        Send(Port.RESULTS, third),
    ]
    assert results.oldest_sent_time() == 10.0
    assert len(results) == 3


def test_resend_ignores_request_older_than_last_send() -> None:
    results = UnackedResults()
    results.add(make_result(0), 3, 10.0)
    missing = ((0, 1),)
    assert results.resend(ResendRequest("ann", 3, missing), 3, 11.0) == []  # that heartbeat was sent before the result
    assert results.resend(ResendRequest("ann", 4, missing), 6, 12.0) == [Send(Port.RESULTS, make_result(0))]
    assert results.resend(ResendRequest("ann", 4, missing), 6, 13.0) == []
    assert results.resend(ResendRequest("ann", 6, missing), 6, 14.0) == []
    assert results.oldest_sent_time() == 12.0
    assert results.resend(ResendRequest("ann", 7, missing), 8, 15.0) == [Send(Port.RESULTS, make_result(0))]


def test_retry_settles_result_of_earlier_attempt() -> None:
    results = UnackedResults()
    results.add(make_result(4, 2), 1, 10.0)
    results.settle(RangeSet(), (RetryRange(4, 5, 1, 0.5),))
    assert len(results) == 1  # task 5 is not settled yet
    results.settle(RangeSet([(5, 6)]), (RetryRange(4, 5, 1, 0.5),))
    assert (len(results), results.tasks.ranges(), results.size) == (0, (), 0)


def test_retry_keeps_result_of_same_attempt() -> None:
    results = UnackedResults()
    results.add(make_result(4, attempt=1), 1, 10.0)
    results.settle(RangeSet(), (RetryRange(4, 5, 1, 0.0),))
    assert len(results) == 1
    results.settle(RangeSet(), (RetryRange(4, 5, 2, 0.0),))
    assert len(results) == 0


def test_two_attempts_of_a_task_are_two_results() -> None:
    results = UnackedResults()
    results.add(make_result(4, 2), 1, 10.0)
    results.add(make_result(4, 1, b"x", attempt=1), 2, 11.0)
    assert (len(results), results.size, results.tasks.ranges()) == (2, 1 + 2 * RESULT_OVERHEAD_BYTES, ((4, 6),))
    results.settle(RangeSet([(5, 6)]), (RetryRange(4, 5, 1, 0.0),))
    assert (len(results), results.size, results.tasks.ranges(), results.oldest_sent_time()) == (
        1,
        1 + RESULT_OVERHEAD_BYTES,
        ((4, 5),),
        11.0,
    )
    results.settle(RangeSet([(4, 6)]))
    assert (len(results), results.tasks.ranges()) == (0, ())


class Content:
    """Content that is never read here."""

    def read(self, start: int, size: int) -> bytes:
        raise NotImplementedError(start, size)


def make_large_result() -> LargeResult:
    return LargeResult("run", "ann", 4, 1, b"", bytes(4), b"", (), 1, large_sizes=(30, 10), content=Content())


def test_content_is_sent_as_far_as_the_sink_accepts_it() -> None:
    results, large = UnackedResults(), make_large_result()
    results.add(large, 1, 10.0)
    assert results.size == 40 + RESULT_OVERHEAD_BYTES
    first = Transfer("ann", 4, 1, 0, 20)
    assert results.send_content(first, 2, 11.0) == [Send(Port.RESULTS, SendContent(large, 0, 20))]
    assert results.send_content(first, 2, 12.0) == []
    assert results.oldest_sent_time() == 11.0
    assert results.send_content(replace(first, size=5, limit=25), 2, 13.0) == [
        Send(Port.RESULTS, SendContent(large, 20, 25))
    ]


def test_content_of_other_attempts_and_small_results_is_not_sent() -> None:
    results = UnackedResults()
    results.add(make_large_result(), 1, 10.0)
    results.add(make_result(5), 1, 10.0)
    assert results.send_content(Transfer("ann", 4, 0, 0, 20), 1, 11.0) == []
    assert results.send_content(Transfer("ann", 5, 0, 0, 20), 1, 11.0) == []


def test_requested_large_result_is_sent_again_after_what_is_stored() -> None:
    results, large = UnackedResults(), make_large_result()
    results.add(large, 1, 10.0)
    results.send_content(Transfer("ann", 4, 1, 0, 20), 2, 11.0)
    request = ResendRequest("ann", 3, ((4, 5),))
    assert results.resend(request, 3, 12.0) == [Send(Port.RESULTS, large)]
    assert results.send_content(Transfer("ann", 4, 1, 8, 28), 3, 12.0) == [
        Send(Port.RESULTS, SendContent(large, 8, 28))
    ]
