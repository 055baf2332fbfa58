"""Each task once: accepted, pending, settled."""

from __future__ import annotations

import struct

import pytest

from pipeline.errands import Entry
from pipeline.ledger import Ledger, Restored, cut_result
from pipeline.messages import Note, Result


def result(first: int, *outputs: bytes, errors: bytes = b"", notes: tuple[Note, ...] = ()) -> Result:
    ends = [sum(map(len, outputs[: k + 1])) for k in range(len(outputs))]
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("r", "ann", first, len(outputs), b"".join(outputs), packed, errors, notes)


def settle(ledger: Ledger, low: int, high: int) -> None:
    ledger.accept(result(low, *(b"x" for _ in range(low, high))))
    assert ledger.durable(ledger.entry(((low, high),), 0, spilled=False).number)


def test_a_result_is_cut_with_its_outputs_and_notes() -> None:
    notes = (Note(4, "exit", 1, "one"), Note(7, "signal", 9, "killed"))
    whole = result(4, b"four", b"", b"six", b"seven", errors=b"oh", notes=notes)
    assert cut_result(whole, [(4, 8)]) == [whole]
    assert cut_result(whole, [(4, 6), (7, 8)]) == [
        result(4, b"four", b"", errors=b"oh", notes=notes[:1]),
        result(7, b"seven", notes=notes[1:]),
    ]
    assert cut_result(whole, [(5, 7)]) == [result(5, b"", b"six", errors=b"oh")]


@pytest.mark.parametrize(
    ("ends", "outputs"),
    [
        ((5, 2, 6), [b"abcde", b"", b"f"]),
        ((4, 0, 6), [b"abcd", b"", b"ef"]),
        ((0, 6, 6), [b"", b"abcdef", b""]),
        ((900, 3, 6), [b"abcdef", b"", b""]),
    ],
)
def test_ends_that_do_not_ascend_cut_a_workers_own_output_and_nothing_else(
    ends: tuple[int, ...], outputs: list[bytes]
) -> None:
    odd = Result("r", "ann", 0, 3, b"abcdef", struct.pack("<3I", *ends), b"", ())
    assert [part.output for part in cut_result(odd, [(0, 1), (1, 2), (2, 3)])] == outputs
    assert [part.output for part in cut_result(odd, [(0, 2)])] == [b"".join(outputs[:2])]
    ledger = Ledger(Restored())
    ledger.accept(result(1, b"one"))
    assert [(part.first, part.output) for part in ledger.accept(odd)] == [(0, outputs[0]), (2, outputs[2])]


def test_the_first_result_of_a_task_is_the_one() -> None:
    ledger = Ledger(Restored())
    assert ledger.accept(result(2, b"two", b"three")) == [result(2, b"two", b"three")]
    assert ledger.pending.ranges() == ((2, 4),)
    assert ledger.accept(result(2, b"TWO", b"THREE")) == []
    assert ledger.accept(result(1, b"one", b"TWO", b"THREE", b"four")) == [result(1, b"one"), result(4, b"four")]
    assert ledger.pending.ranges() == ((1, 5),)
    assert ledger.settled.ranges() == ()


def test_settled_is_what_the_journal_has() -> None:
    ledger = Ledger(Restored("r", "print"))
    ledger.accept(result(0, b"a", b"b", b"c", b"d"))
    assert ledger.entry(((0, 2),), 1, spilled=False) == Entry(
        1, "r", "print", ((0, 2),), spilled=False, failed=1, total=-1
    )
    assert ledger.entry(((2, 3),), 2, spilled=True) == Entry(
        2, "r", "print", ((2, 3),), spilled=True, failed=3, total=-1
    )
    assert (ledger.settled.ranges(), ledger.pending.ranges()) == ((), ((0, 4),))
    assert ledger.durable(1)
    assert (ledger.settled.ranges(), ledger.pending.ranges()) == (((0, 2),), ((2, 4),))
    assert not ledger.durable(1)
    assert ledger.durable(7)
    assert (ledger.settled.ranges(), ledger.pending.ranges()) == (((0, 3),), ((3, 4),))
    assert ledger.accept(result(0, b"A", b"B", b"C", b"D")) == []


def test_missing_is_what_is_neither_settled_nor_on_its_way() -> None:
    ledger = Ledger(Restored())
    settle(ledger, 0, 3)
    ledger.accept(result(5, b"five"))
    assert ledger.missing(((1, 4), (5, 8))) == ((3, 4), (6, 8))
    assert ledger.missing(((0, 2), (5, 6))) == ()


def test_it_is_complete_when_all_and_the_total_are_in_the_journal() -> None:
    ledger = Ledger(Restored())
    settle(ledger, 0, 3)
    assert not ledger.is_complete
    ledger.total = 3
    assert ledger.is_complete
    entry = ledger.entry((), 0, spilled=False)
    assert entry.total == 3
    assert not ledger.is_complete
    assert ledger.durable(entry.number)
    assert ledger.is_complete
    ledger.ahead.add(2, 3)  # in the spill only
    assert not ledger.is_complete
    ledger.ahead.remove(2, 3)
    ledger.total = 4
    assert not ledger.is_complete


def test_no_tasks_at_all_are_complete() -> None:
    ledger = Ledger(Restored())
    ledger.total = 0
    assert ledger.is_complete


def test_a_run_is_taken_up_from_its_journal() -> None:
    ledger = Ledger(Restored("r", "print", written=((0, 4), (6, 7)), spilled=((5, 6),), failed=2, total=9))
    assert (ledger.run, ledger.fingerprint, ledger.failed, ledger.total) == ("r", "print", 2, 9)
    assert (ledger.turn, ledger.settled.ranges(), ledger.ahead.ranges()) == (4, ((0, 4), (5, 7)), ((5, 6),))
    assert ledger.accept(result(3, b"3", b"4", b"5", b"6")) == [result(4, b"4")]
