"""Results without an answer: kept until all of it is settled, sent again only when asked lately."""

from __future__ import annotations

from pipeline.messages import Again, Result
from pipeline.ranges import RangeSet
from pipeline.station import Port, Send
from pipeline.unanswered import Unanswered


def result(first: int, count: int = 1, output: bytes = b"", errors: bytes = b"") -> Result:
    return Result("run", "ann", first, count, output, b"\0\0\0\0" * count, errors, ())


def test_it_counts_bytes_and_names_tasks() -> None:
    kept = Unanswered()
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest()) == (0, 0, (), None)
    kept.keep(result(4, 2, b"abc", b"x"), 1, 10.0)
    kept.keep(result(6, 1, b"de"), 1, 11.0)
    kept.keep(result(9), 2, 12.0)
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest()) == (3, 6, ((4, 7), (9, 10)), 10.0)
    kept.clear()
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest()) == (0, 0, (), None)


def test_only_an_answer_for_all_of_a_result_lets_go_of_it() -> None:
    kept = Unanswered()
    kept.keep(result(4, 2, b"abc"), 1, 10.0)
    kept.keep(result(8, 1, b"de"), 1, 11.0)
    kept.settle(RangeSet(((0, 5), (8, 9))))
    assert (len(kept), kept.size, kept.tasks.ranges(), kept.oldest()) == (1, 3, ((4, 6),), 10.0)
    kept.settle(RangeSet(((0, 9),)))
    assert (len(kept), kept.size) == (0, 0)


def test_an_asking_brings_what_it_touches_and_nothing_else() -> None:
    kept = Unanswered()
    first, second, third = result(0, 3), result(3), result(7)
    for one in (first, second, third):
        kept.keep(one, 1, 10.0)
    assert kept.asked(Again("ann", 2, ((2, 3), (7, 9))), 5, 20.0) == [
        Send(Port.RESULTS, first),
        Send(Port.RESULTS, third),
    ]
    assert kept.oldest() == 10.0
    assert len(kept) == 3


def test_an_asking_older_than_the_last_sending_is_ignored() -> None:
    kept = Unanswered()
    kept.keep(result(0), 3, 10.0)
    lost = ((0, 1),)
    assert kept.asked(Again("ann", 3, lost), 3, 11.0) == []  # that pulse left before the result
    assert kept.asked(Again("ann", 4, lost), 6, 12.0) == [Send(Port.RESULTS, result(0))]
    assert kept.asked(Again("ann", 4, lost), 6, 13.0) == []
    assert kept.asked(Again("ann", 6, lost), 6, 14.0) == []
    assert kept.oldest() == 12.0
    assert kept.asked(Again("ann", 7, lost), 8, 15.0) == [Send(Port.RESULTS, result(0))]
