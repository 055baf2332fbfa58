"""Each task once: accepted, pending, settled; and all of it again from the facts."""

from __future__ import annotations

import struct

import pytest

from pipeline.sink.ledger import Ledger
from pipeline.words.checksums import EXACT
from pipeline.words.errands import Entry
from pipeline.words.facts import Began, Commanded, Ended, Fact, Killed, Left, Marked, Reopened, Settled
from pipeline.words.messages import Result
from pipeline.words.parts import Ranges, Tried
from pipeline.words.station import Port, Send


def result(first: int, *outputs: bytes, tries: int = 0) -> Result:
    ends = [sum(map(len, outputs[: k + 1])) for k in range(len(outputs))]
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("r", "ann", first, len(outputs), b"".join(outputs), packed, b"", (), tries)


def settled(*ranges: tuple[int, int], failures: Ranges = (), spilled: bool = False, size: int = 0) -> Settled:
    return Settled(ranges, failures, spilled, (size,))


def enter(ledger: Ledger, *facts: Fact) -> None:
    """They are in the journal."""
    entry = ledger.enter(*facts).message
    assert isinstance(entry, Entry)
    assert ledger.durable(entry.number) == list(facts)


def test_the_first_result_of_a_task_is_the_one() -> None:
    ledger = Ledger()
    assert ledger.accept(result(2, b"two", b"three")) == [result(2, b"two", b"three")]
    assert ledger.pending.ranges() == ((2, 4),)
    assert ledger.accept(result(2, b"TWO", b"THREE")) == []
    assert ledger.accept(result(1, b"one", b"TWO", b"THREE", b"four")) == [result(1, b"one"), result(4, b"four")]
    assert ledger.pending.ranges() == ((1, 5),)
    assert ledger.settled.ranges() == ()


def test_a_result_that_cuts_its_own_output_wrongly_is_taken_in_parts_like_any_other() -> None:
    ledger = Ledger()
    ledger.accept(result(1, b"one"))
    odd = Result("r", "ann", 0, 3, b"abcdef", struct.pack("<3I", 900, 3, 6), b"", ())
    assert [(part.first, part.output) for part in ledger.accept(odd)] == [(0, b"abcdef"), (2, b"")]


def test_settled_is_what_the_journal_has() -> None:
    ledger = Ledger()
    ledger.accept(result(0, b"a", b"b", b"c", b"d"))
    first, second = settled((0, 2), failures=((1, 2),), size=2), settled((2, 3), failures=((2, 3),), spilled=True)
    assert ledger.enter(first) == Send(Port.JOURNAL, Entry(1, (first,)))
    assert ledger.enter(second) == Send(Port.JOURNAL, Entry(2, (second,)))
    assert (ledger.settled.ranges(), ledger.pending.ranges(), ledger.failed) == ((), ((0, 4),), 0)
    assert ledger.durable(1) == [first]
    assert (ledger.settled.ranges(), ledger.pending.ranges(), ledger.failed) == (((0, 2),), ((2, 4),), 1)
    assert ledger.durable(1) == []
    assert ledger.durable(7) == [second]
    assert (ledger.settled.ranges(), ledger.pending.ranges(), ledger.failed) == (((0, 3),), ((3, 4),), 2)
    assert ledger.accept(result(0, b"A", b"B", b"C", b"D")) == []


def test_facts_of_one_entry_become_true_together_and_of_a_kind_it_knows_what_is_on_its_way() -> None:
    ledger, facts = Ledger(), (Began("r", "print"), Ended(4, "disk"))
    ledger.enter(*facts)
    assert [ledger.awaits(kind) for kind in (Began, Ended, Left)] == [True, True, False]
    assert (ledger.run, ledger.total) == ("", -1)
    assert ledger.durable(1) == list(facts)
    assert (ledger.run, ledger.fingerprint, ledger.total, ledger.reason) == ("r", "print", 4, "disk")
    assert not ledger.awaits(Began)


def test_a_task_that_will_be_run_again_is_waited_for_anew() -> None:
    ledger = Ledger()
    ledger.accept(result(0, b"a", b"b", b"c"))
    assert ledger.again(Tried(1, 2, 1))
    assert ledger.pending.ranges() == ((0, 1), (2, 3))
    assert ledger.accept(result(1, b"b", tries=1)) == [result(1, b"b", tries=1)]
    assert ledger.pending.ranges() == ((0, 3),)


def test_the_same_try_failed_elsewhere_is_no_news_and_does_not_stand_in_the_way() -> None:
    ledger = Ledger()
    ledger.again(Tried(1, 2, 2))
    assert ledger.accept(result(1, b"late", tries=1)) == [result(1, b"late", tries=1)]  # it may have ended well
    assert not ledger.again(Tried(1, 2, 2))
    assert (ledger.pending.ranges(), ledger.tries.of(1)) == ((), 2)


def test_what_is_settled_has_no_tries_any_more() -> None:
    ledger = Ledger()
    ledger.again(Tried(1, 2, 1))
    ledger.again(Tried(7, 8, 1))
    enter(ledger, settled((0, 3)))
    assert list(ledger.tries.tasks()) == [7]


def test_missing_is_what_is_neither_settled_nor_on_its_way() -> None:
    ledger = Ledger()
    enter(ledger, settled((0, 3)))
    ledger.accept(result(5, b"five"))
    assert ledger.missing(((1, 4), (5, 8))) == ((3, 4), (6, 8))
    assert ledger.missing(((0, 2), (5, 6))) == ()


def test_what_has_failed_since_is_not_missed_but_its_next_try_is() -> None:
    ledger = Ledger()
    ledger.again(Tried(5, 7, 1))
    assert ledger.missing(((4, 8),)) == ((4, 5), (7, 8))
    assert ledger.missing(((4, 8),), (Tried(6, 7, 1),)) == ((4, 5), (6, 8))


def test_it_is_complete_when_all_and_the_total_are_in_the_journal() -> None:
    ledger = Ledger()
    enter(ledger, settled((0, 3)))
    assert not ledger.is_complete
    entry = ledger.enter(Ended(3, "")).message
    assert not ledger.is_complete
    assert isinstance(entry, Entry)
    ledger.durable(entry.number)
    assert ledger.is_complete
    ledger.ahead.add(2, 3)  # in the spill only
    assert not ledger.is_complete
    ledger.ahead.remove(2, 3)
    ledger.enter(Commanded("d", "wc"))  # whatever is on its way, the end waits for it
    assert not ledger.is_complete


def test_no_tasks_at_all_are_complete_and_a_gap_is_not() -> None:
    assert Ledger([settled((0, 1), (2, 3)), Left()]).is_complete is False
    empty, gap = Ledger(), Ledger([settled((0, 1), (2, 3))])
    enter(empty, Ended(0, ""))
    enter(gap, Ended(3, ""))
    assert (empty.is_complete, gap.is_complete) == (True, False)


BEFORE: list[Fact] = [
    Began("r", "print"), Commanded("d", "wc"), Marked(0, 5, b""), Marked(5, 4, b""),
    settled((0, 4), failures=((1, 2),), size=40), settled((6, 8), failures=((7, 8),), spilled=True, size=40),
    Tried(4, 5, 1), Tried(4, 5, 2), settled((6, 7), size=55), Ended(9, ""), Killed("soon", "^C", 130),
]  # fmt: skip


def test_a_run_is_taken_up_from_its_facts() -> None:
    ledger = Ledger(BEFORE)
    assert (ledger.run, ledger.fingerprint, ledger.digest, ledger.command) == ("r", "print", "d", "wc")
    assert (ledger.read, ledger.total, ledger.failed, ledger.sizes) == (9, 9, 2, (55,))
    assert (ledger.settled.ranges(), ledger.failures.ranges()) == (((0, 4), (6, 8)), ((1, 2), (7, 8)))
    assert ledger.ahead.ranges() == ((7, 8),)  # 6 was fetched and written since
    assert (ledger.turn, ledger.written) == (4, 4)
    assert ledger.tries.of(4) == 2
    assert ledger.killed == Killed("soon", "^C", 130)
    assert ledger.accept(result(3, b"3", b"4")) == [result(4, b"4")]


def test_all_facts_one_by_one_make_the_same_ledger_as_all_at_once() -> None:
    """But for what only a sink that comes back must find out: what is in the spill, and what had failed before."""
    lived = Ledger()
    for fact in BEFORE:
        enter(lived, fact)
    reborn = Ledger(BEFORE)
    for name in ("run", "fingerprint", "digest", "command", "read", "total", "reason", "failed", "sizes", "killed"):
        assert getattr(lived, name) == getattr(reborn, name), name
    assert lived.settled.ranges() == reborn.settled.ranges()
    assert lived.tries.among([(0, 9)]) == reborn.tries.among([(0, 9)])


def test_an_input_that_broke_off_may_be_whole_by_now_but_a_whole_one_stays() -> None:
    broken, whole = Ledger([Ended(3, "disk")]), Ledger([Ended(3, "disk"), Ended(5, "")])
    assert (broken.total, broken.reason) == (-1, "")
    assert (whole.total, whole.reason) == (5, "")


def test_who_left_in_good_order_does_not_end_the_next_life() -> None:
    assert Ledger([*BEFORE, Left()]).killed is None


@pytest.mark.parametrize("later", [False, True])
def test_what_is_reopened_is_to_be_done_once_more(*, later: bool) -> None:
    ledger = Ledger([*BEFORE, *([] if later else [Reopened(((1, 2),))])])
    if later:
        enter(ledger, Reopened(((1, 2),)))
    else:
        assert ledger.failures.ranges() == ((7, 8),)
    assert (ledger.failed, ledger.settled.ranges()) == (1, ((0, 1), (2, 4), (6, 8)))
    assert ledger.accept(result(1, b"1")) == [result(1, b"1")]
    assert ledger.turn == 4  # its turn was; it is written as it comes


def test_the_total_is_the_latest_and_what_was_read_never_shrinks_unless_the_input_does() -> None:
    ledger = Ledger()
    enter(ledger, Marked(0, 9, b""), Ended(4, "broke off"))
    enter(ledger, Marked(0, 3, b""), Ended(9, ""))
    assert (ledger.read, ledger.total) == (9, 9)
    enter(ledger, Ended(4, ""))
    assert (ledger.read, ledger.total) == (4, 4)
    enter(ledger, Marked(4, EXACT + 9, b""), Ended(EXACT + 7, ""))
    assert ledger.read == EXACT


def test_facts_of_several_entries_come_as_one_list_in_their_order() -> None:
    ledger, facts = Ledger(), [Tried(1, 2, 1), Tried(2, 3, 1), Tried(1, 2, 2)]
    for fact in facts:
        ledger.enter(fact)
    assert ledger.durable(2) == facts[:2]
    assert ledger.tries.of(1) == 1
    assert ledger.durable(3) == facts[2:]
    assert ledger.tries.of(1) == 2
