"""Tasks on which the ventilator itself has the last word."""

from __future__ import annotations

import pytest

from pipeline.model.messages import RecordFormat, Result, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.state_machine import VENTILATOR, Port, Send
from pipeline.ventilator.poison import LocalFailures, find_too_large
from pipeline.ventilator.task_store import RecordRange


def said(task: int, record: bytes, tries: int = 0) -> Send:
    note = TaskFailure(task, "poison", 0, "3 workers were lost while it ran there alone", "", record_size=len(record))
    return Send(Port.RESULTS, Result("r", VENTILATOR, task, 1, b"", bytes(4), b"", (note,), tries, record))


def scene() -> LocalFailures:
    judged = LocalFailures()
    for span in (RecordRange(4, 1, b"four\n", lane=2, sequence=3, attempt=2), RecordRange(7, 1, b"seven\n")):
        judged.fail_poisoned(span, 3, RecordFormat())
    return judged


def test_a_judged_task_is_a_result_with_its_record_and_the_tries_it_has_had() -> None:
    assert scene().resend("r") == [said(4, b"four", tries=2), said(7, b"seven")]


def test_it_is_news_once_and_said_again_until_it_is_settled() -> None:
    judged = scene()
    assert judged.take_unsent("r") == [said(4, b"four", tries=2), said(7, b"seven")]
    assert judged.take_unsent("r") == []
    judged.settle(RangeSet([(0, 5)]))
    assert judged.resend("r") == judged.resend("r") == [said(7, b"seven")]
    assert [task in judged for task in (4, 7)] == [False, True]


def test_what_is_settled_before_it_was_said_is_no_news() -> None:
    judged = scene()
    judged.settle(RangeSet([(7, 8)]))
    assert judged.take_unsent("r") == [said(4, b"four", tries=2)]


@pytest.mark.parametrize(
    ("recipe", "body", "record"),
    [
        (RecordFormat(), b"a\n", b"a"),
        (RecordFormat(zero=True), b"a\n\0", b"a\n"),
        (RecordFormat(block=True), b"a\nb\n", b"a\nb\n"),
    ],
)
def test_its_record_is_without_the_terminator_and_a_block_as_it_is(
    recipe: RecordFormat, body: bytes, record: bytes
) -> None:
    judged = LocalFailures()
    judged.fail_poisoned(RecordRange(4, 1, body), 3, recipe)
    assert judged.resend("r") == [said(4, record)]


def test_too_large_are_records_of_more_bytes_without_their_terminators() -> None:
    span = RecordRange(8, 4, b"12345\n123456\n\n1234567\n")
    assert find_too_large(span, 5, RecordFormat()) == [(9, 6), (11, 7)]
    assert find_too_large(span, 7, RecordFormat()) == []
    assert find_too_large(RecordRange(8, 1, b"123\n4\n"), 5, RecordFormat(block=True)) == [(8, 6)]
    assert find_too_large(RecordRange(8, 1, b"123\n4\n"), 6, RecordFormat(block=True)) == []
