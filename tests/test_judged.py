"""Tasks on which the ventilator itself has the last word."""

from __future__ import annotations

import pytest

from pipeline.ventilator.judged import Judged, too_large
from pipeline.ventilator.stock import Span
from pipeline.words.messages import Result
from pipeline.words.parts import Note, Recipe
from pipeline.words.ranges import RangeSet
from pipeline.words.station import VENTILATOR, Port, Send


def said(task: int, record: bytes, tries: int = 0) -> Send:
    note = Note(task, "poison", 0, "3 workers were lost while it ran there alone", "", size=len(record))
    return Send(Port.RESULTS, Result("r", VENTILATOR, task, 1, b"", bytes(4), b"", (note,), tries, record))


def scene() -> Judged:
    judged = Judged()
    for span in (Span(4, 1, b"four\n", lane=2, sequence=3, tries=2), Span(7, 1, b"seven\n")):
        judged.poison(span, 3, Recipe())
    return judged


def test_a_judged_task_is_a_result_with_its_record_and_the_tries_it_has_had() -> None:
    assert scene().say("r") == [said(4, b"four", tries=2), said(7, b"seven")]


def test_it_is_news_once_and_said_again_until_it_is_settled() -> None:
    judged = scene()
    assert judged.news("r") == [said(4, b"four", tries=2), said(7, b"seven")]
    assert judged.news("r") == []
    judged.settle(RangeSet([(0, 5)]))
    assert judged.say("r") == judged.say("r") == [said(7, b"seven")]
    assert [task in judged for task in (4, 7)] == [False, True]


def test_what_is_settled_before_it_was_said_is_no_news() -> None:
    judged = scene()
    judged.settle(RangeSet([(7, 8)]))
    assert judged.news("r") == [said(4, b"four", tries=2)]


@pytest.mark.parametrize(
    ("recipe", "body", "record"),
    [(Recipe(), b"a\n", b"a"), (Recipe(zero=True), b"a\n\0", b"a\n"), (Recipe(block=True), b"a\nb\n", b"a\nb\n")],
)
def test_its_record_is_without_the_terminator_and_a_block_as_it_is(recipe: Recipe, body: bytes, record: bytes) -> None:
    judged = Judged()
    judged.poison(Span(4, 1, body), 3, recipe)
    assert judged.say("r") == [said(4, record)]


def test_too_large_are_records_of_more_bytes_without_their_terminators() -> None:
    span = Span(8, 4, b"12345\n123456\n\n1234567\n")
    assert too_large(span, 5, Recipe()) == [(9, 6), (11, 7)]
    assert too_large(span, 7, Recipe()) == []
    assert too_large(Span(8, 1, b"123\n4\n"), 5, Recipe(block=True)) == [(8, 6)]
    assert too_large(Span(8, 1, b"123\n4\n"), 6, Recipe(block=True)) == []
