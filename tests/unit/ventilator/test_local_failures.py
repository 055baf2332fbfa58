"""Final failures that the ventilator decides."""

from __future__ import annotations

import pytest

from pipeline.model.messages import RecordFormat, Result, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import VENTILATOR, Port, Send
from pipeline.ventilator.poison import LocalFailures, find_too_large
from pipeline.ventilator.task_store import RecordRange


def poison_result(task: int, record: bytes, attempt: int = 0) -> Send:
    failure = TaskFailure(
        task, "poison", 0, "crashed 3 workers while running alone (poison task)", "", record_size=len(record)
    )
    return Send(Port.RESULTS, Result("r", VENTILATOR, task, 1, b"", bytes(4), b"", (failure,), attempt, record))


def make_failures() -> LocalFailures:
    failures = LocalFailures()
    for span in (RecordRange(4, 1, b"four\n", lane=2, sequence=3, attempt=2), RecordRange(7, 1, b"seven\n")):
        failures.fail_poisoned(span, 3, RecordFormat())
    return failures


def test_failed_task_result_has_record_and_attempt() -> None:
    assert make_failures().resend("r") == [poison_result(4, b"four", attempt=2), poison_result(7, b"seven")]


def test_failed_task_is_resent_until_settled() -> None:
    failures = make_failures()
    assert failures.take_unsent("r") == [poison_result(4, b"four", attempt=2), poison_result(7, b"seven")]
    assert failures.take_unsent("r") == []
    failures.settle(RangeSet([(0, 5)]))
    assert failures.resend("r") == failures.resend("r") == [poison_result(7, b"seven")]


def test_failed_task_settled_before_send_is_dropped() -> None:
    failures = make_failures()
    failures.settle(RangeSet([(7, 8)]))
    assert failures.take_unsent("r") == [poison_result(4, b"four", attempt=2)]


@pytest.mark.parametrize(
    ("record_format", "body", "record"),
    [
        (RecordFormat(), b"a\n", b"a"),
        (RecordFormat(zero=True), b"a\n\0", b"a\n"),
        (RecordFormat(block=True), b"a\nb\n", b"a\nb\n"),
    ],
)
def test_failed_record_has_no_terminator_unless_block(record_format: RecordFormat, body: bytes, record: bytes) -> None:
    failures = LocalFailures()
    failures.fail_poisoned(RecordRange(4, 1, body), 3, record_format)
    assert failures.resend("r") == [poison_result(4, record)]


def test_find_too_large_ignores_terminators() -> None:
    span = RecordRange(8, 4, b"12345\n123456\n\n1234567\n")
    assert find_too_large(span, 5, RecordFormat()) == [(9, 6), (11, 7)]
    assert find_too_large(span, 7, RecordFormat()) == []
    assert find_too_large(RecordRange(8, 1, b"123\n4\n"), 5, RecordFormat(block=True)) == [(8, 6)]
    assert find_too_large(RecordRange(8, 1, b"123\n4\n"), 6, RecordFormat(block=True)) == []
