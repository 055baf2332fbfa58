"""The way of a result to safety."""

from __future__ import annotations

import struct

from pipeline.errands import Entry, Fetch, Keep, Kept, Spilled, Write, Written
from pipeline.ledger import Ledger, Restored
from pipeline.messages import Note, Result
from pipeline.notices import Full
from pipeline.station import Port, Send
from pipeline.writing import Writing


def result(first: int, count: int = 1, failed: int = 0) -> Result:
    """Each task has written one byte."""
    ends = struct.pack(f"<{count}I", *range(1, count + 1))
    notes = tuple(Note(first, "exit", 1, text) for text in ("a", "b")[: 2 * failed])
    return Result("r", "ann", first, count, b"x" * count, ends, b"", notes)


def write(number: int, part: Result) -> Send:
    return Send(Port.OUTPUT, Write(number, part))


def keep(number: int, part: Result) -> Send:
    return Send(Port.SPILL, Keep(number, part))


def entry(number: int, *ranges: tuple[int, int], spilled: bool = False, failed: int = 0) -> list[Send]:
    return [Send(Port.JOURNAL, Entry(number, "r", "print", ranges, spilled=spilled, failed=failed, total=-1))]


def scene(*, keep_order: bool, limit: int = 1000) -> tuple[Writing, Ledger]:
    ledger = Ledger(Restored("r", "print"))
    return Writing(ledger, limit, keep_order=keep_order), ledger


def test_without_order_each_is_written_as_it_comes_and_once() -> None:
    writing, _ = scene(keep_order=False)
    assert writing.is_over
    assert writing.take(result(5)) == [write(1, result(5))]
    assert writing.take(result(4, 3)) == [write(2, result(4)), write(3, result(6))]
    assert writing.take(result(4, 3)) == []
    assert not writing.is_over


def test_what_is_written_goes_to_the_journal_with_its_failures() -> None:
    writing, ledger = scene(keep_order=False)
    for first in (5, 9, 2):
        writing.take(result(first, failed=1))
    assert writing.safe(Written(2)) == entry(1, (5, 6), (9, 10), failed=2)
    assert writing.safe(Written(2)) == []
    assert writing.safe(Written(3)) == entry(2, (2, 3), failed=3)
    assert (writing.is_over, ledger.settled.ranges()) == (True, ())


def test_ahead_of_their_turn_they_are_kept_and_count_once() -> None:
    writing, ledger = scene(keep_order=True)
    assert writing.take(result(2, failed=1)) == [keep(1, result(2, failed=1))]
    assert writing.take(result(1)) == [keep(2, result(1))]
    assert writing.safe(Spilled(2)) == entry(1, (1, 3), spilled=True, failed=1)
    assert writing.take(result(0)) == [write(3, result(0)), Send(Port.SPILL, Fetch(1))]
    assert writing.take(result(3)) == [keep(4, result(3))]  # its turn is not sure while one is being fetched
    assert writing.fetched(Kept(result(1))) == [write(5, result(1)), Send(Port.SPILL, Fetch(2))]
    assert writing.fetched(Kept(result(2, failed=1))) == [write(6, result(2, failed=1)), Send(Port.SPILL, Fetch(3))]
    assert writing.fetched(Kept(result(3))) == [write(7, result(3))]
    assert writing.safe(Written(7)) == entry(2, (0, 4), failed=1)
    assert writing.safe(Spilled(4)) == entry(3, (3, 4), spilled=True, failed=1)
    assert (ledger.turn, writing.is_over) == (4, True)


def test_neighbours_in_their_turn_are_written_without_a_detour() -> None:
    writing, _ = scene(keep_order=True)
    assert writing.take(result(0, 2)) == [write(1, result(0, 2))]
    assert writing.take(result(2)) == [write(2, result(2))]


def test_a_full_spill_is_told_with_what_is_waited_for_and_again_when_it_is_over() -> None:
    writing, _ = scene(keep_order=True, limit=2)
    assert writing.take(result(1, 2)) == [keep(1, result(1, 2))]
    assert not writing.full
    assert writing.take(result(3)) == [keep(2, result(3)), Send(Port.TOLD, Full(0, full=True))]
    assert writing.take(result(4)) == [keep(3, result(4))]
    assert writing.full
    assert writing.take(result(0)) == [write(4, result(0)), Send(Port.SPILL, Fetch(1))]
    assert writing.fetched(Kept(result(1, 2))) == [
        write(5, result(1, 2)), Send(Port.SPILL, Fetch(3)), Send(Port.TOLD, Full(3, full=False)),
    ]  # fmt: skip
    assert not writing.full


def test_at_an_early_end_what_stands_behind_a_gap_is_written_too() -> None:
    writing, _ = scene(keep_order=True)
    for first in (2, 7):
        writing.take(result(first))
    assert writing.flush() == [Send(Port.SPILL, Fetch(2))]
    assert writing.flush() == []
    assert writing.fetched(Kept(result(2))) == [write(3, result(2)), Send(Port.SPILL, Fetch(7))]
    assert writing.fetched(Kept(result(7))) == [write(4, result(7))]
    assert not writing.is_over
    writing.safe(Spilled(2))
    writing.safe(Written(4))
    assert writing.is_over
