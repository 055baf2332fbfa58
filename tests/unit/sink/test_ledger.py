"""Each task once: accepted, pending, settled; and all of it again from the facts."""

from __future__ import annotations

import struct

import pytest

from pipeline.model.checksums import EXACT
from pipeline.model.events import JournalEntry
from pipeline.model.journal_events import (
    ChecksumsRecorded,
    CommandFixed,
    InputEnded,
    JournalEvent,
    RunStarted,
    RunStopped,
    SinkSuspended,
    TasksReopened,
    TasksSettled,
)
from pipeline.model.messages import AttemptRange, Ranges, Result
from pipeline.model.state_machine import Port, Send
from pipeline.sink.ledger import Ledger


def result(first: int, *outputs: bytes, tries: int = 0) -> Result:
    ends = [sum(map(len, outputs[: k + 1])) for k in range(len(outputs))]
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("r", "ann", first, len(outputs), b"".join(outputs), packed, b"", (), tries)


def settled(*ranges: tuple[int, int], failures: Ranges = (), spilled: bool = False, size: int = 0) -> TasksSettled:
    return TasksSettled(ranges, failures, spilled, (size,))


def enter(ledger: Ledger, *facts: JournalEvent) -> None:
    """They are in the journal."""
    entry = ledger.append(*facts).message
    assert isinstance(entry, JournalEntry)
    assert ledger.commit(entry.number) == list(facts)


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
    assert ledger.append(first) == Send(Port.JOURNAL, JournalEntry(1, (first,)))
    assert ledger.append(second) == Send(Port.JOURNAL, JournalEntry(2, (second,)))
    assert (ledger.settled.ranges(), ledger.pending.ranges(), ledger.failed_count) == ((), ((0, 4),), 0)
    assert ledger.commit(1) == [first]
    assert (ledger.settled.ranges(), ledger.pending.ranges(), ledger.failed_count) == (((0, 2),), ((2, 4),), 1)
    assert ledger.commit(1) == []
    assert ledger.commit(7) == [second]
    assert (ledger.settled.ranges(), ledger.pending.ranges(), ledger.failed_count) == (((0, 3),), ((3, 4),), 2)
    assert ledger.accept(result(0, b"A", b"B", b"C", b"D")) == []


def test_facts_of_one_entry_become_true_together_and_of_a_kind_it_knows_what_is_on_its_way() -> None:
    ledger, facts = Ledger(), (RunStarted("r", "print"), InputEnded(4, "disk"))
    ledger.append(*facts)
    assert [ledger.is_pending(kind) for kind in (RunStarted, InputEnded, SinkSuspended)] == [True, True, False]
    assert (ledger.run, ledger.total) == ("", -1)
    assert ledger.commit(1) == list(facts)
    assert (ledger.run, ledger.fingerprint, ledger.total, ledger.end_reason) == ("r", "print", 4, "disk")
    assert not ledger.is_pending(RunStarted)


def test_a_task_that_will_be_run_again_is_waited_for_anew() -> None:
    ledger = Ledger()
    ledger.accept(result(0, b"a", b"b", b"c"))
    assert ledger.record_attempt(AttemptRange(1, 2, 1))
    assert ledger.pending.ranges() == ((0, 1), (2, 3))
    assert ledger.accept(result(1, b"b", tries=1)) == [result(1, b"b", tries=1)]
    assert ledger.pending.ranges() == ((0, 3),)


def test_the_same_try_failed_elsewhere_is_no_news_and_does_not_stand_in_the_way() -> None:
    ledger = Ledger()
    ledger.record_attempt(AttemptRange(1, 2, 2))
    assert ledger.accept(result(1, b"late", tries=1)) == [result(1, b"late", tries=1)]  # it may have ended well
    assert not ledger.record_attempt(AttemptRange(1, 2, 2))
    assert (ledger.pending.ranges(), ledger.attempts.get(1)) == ((), 2)


def test_what_is_settled_has_no_tries_any_more() -> None:
    ledger = Ledger()
    ledger.record_attempt(AttemptRange(1, 2, 1))
    ledger.record_attempt(AttemptRange(7, 8, 1))
    enter(ledger, settled((0, 3)))
    assert list(ledger.attempts.tasks()) == [7]


def test_missing_is_what_is_neither_settled_nor_on_its_way() -> None:
    ledger = Ledger()
    enter(ledger, settled((0, 3)))
    ledger.accept(result(5, b"five"))
    assert ledger.missing(((1, 4), (5, 8))) == ((3, 4), (6, 8))
    assert ledger.missing(((0, 2), (5, 6))) == ()


def test_what_has_failed_since_is_not_missed_but_its_next_try_is() -> None:
    ledger = Ledger()
    ledger.record_attempt(AttemptRange(5, 7, 1))
    assert ledger.missing(((4, 8),)) == ((4, 5), (7, 8))
    assert ledger.missing(((4, 8),), (AttemptRange(6, 7, 1),)) == ((4, 5), (6, 8))


def test_it_is_complete_when_all_and_the_total_are_in_the_journal() -> None:
    ledger = Ledger()
    enter(ledger, settled((0, 3)))
    assert not ledger.is_complete
    entry = ledger.append(InputEnded(3, "")).message
    assert not ledger.is_complete
    assert isinstance(entry, JournalEntry)
    ledger.commit(entry.number)
    assert ledger.is_complete
    ledger.spilled.add(2, 3)  # in the spill only
    assert not ledger.is_complete
    ledger.spilled.remove(2, 3)
    ledger.append(CommandFixed("d", "wc"))  # whatever is on its way, the end waits for it
    assert not ledger.is_complete


def test_no_tasks_at_all_are_complete_and_a_gap_is_not() -> None:
    assert Ledger([settled((0, 1), (2, 3)), SinkSuspended()]).is_complete is False
    empty, gap = Ledger(), Ledger([settled((0, 1), (2, 3))])
    enter(empty, InputEnded(0, ""))
    enter(gap, InputEnded(3, ""))
    assert (empty.is_complete, gap.is_complete) == (True, False)


BEFORE: list[JournalEvent] = [
    RunStarted("r", "print"), CommandFixed("d", "wc"), ChecksumsRecorded(0, 5, b""), ChecksumsRecorded(5, 4, b""),
    settled((0, 4), failures=((1, 2),), size=40), settled((6, 8), failures=((7, 8),), spilled=True, size=40),
    AttemptRange(4, 5, 1), AttemptRange(4, 5, 2), settled((6, 7), size=55), InputEnded(9, ""), RunStopped("soon",
    "^C", 130),
]  # fmt: skip


def test_a_run_is_taken_up_from_its_facts() -> None:
    ledger = Ledger(BEFORE)
    assert (ledger.run, ledger.fingerprint, ledger.digest, ledger.command) == ("r", "print", "d", "wc")
    assert (ledger.checksum_watermark, ledger.total, ledger.failed_count, ledger.output_sizes) == (9, 9, 2, (55,))
    assert (ledger.settled.ranges(), ledger.earlier_failures.ranges()) == (((0, 4), (6, 8)), ((1, 2), (7, 8)))
    assert ledger.spilled.ranges() == ((7, 8),)  # 6 was fetched and written since
    assert (ledger.next_in_order, ledger.written_below) == (4, 4)
    assert ledger.attempts.get(4) == 2
    assert ledger.run_stop == RunStopped("soon", "^C", 130)
    assert ledger.accept(result(3, b"3", b"4")) == [result(4, b"4")]


def test_all_facts_one_by_one_make_the_same_ledger_as_all_at_once() -> None:
    """But for what only a sink that comes back must find out: what is in the spill, and what had failed before."""
    lived = Ledger()
    for fact in BEFORE:
        enter(lived, fact)
    reborn = Ledger(BEFORE)
    for name in (
        "run",
        "fingerprint",
        "digest",
        "command",
        "checksum_watermark",
        "total",
        "end_reason",
        "failed_count",
        "output_sizes",
        "run_stop",
    ):
        assert getattr(lived, name) == getattr(reborn, name), name
    assert lived.settled.ranges() == reborn.settled.ranges()
    assert lived.attempts.select_failed([(0, 9)]) == reborn.attempts.select_failed([(0, 9)])


def test_an_input_that_broke_off_may_be_whole_by_now_but_a_whole_one_stays() -> None:
    broken, whole = Ledger([InputEnded(3, "disk")]), Ledger([InputEnded(3, "disk"), InputEnded(5, "")])
    assert (broken.total, broken.end_reason) == (-1, "")
    assert (whole.total, whole.end_reason) == (5, "")


def test_who_left_in_good_order_does_not_end_the_next_life() -> None:
    assert Ledger([*BEFORE, SinkSuspended()]).run_stop is None


@pytest.mark.parametrize("later", [False, True])
def test_what_is_reopened_is_to_be_done_once_more(*, later: bool) -> None:
    ledger = Ledger([*BEFORE, *([] if later else [TasksReopened(((1, 2),))])])
    if later:
        enter(ledger, TasksReopened(((1, 2),)))
    else:
        assert ledger.earlier_failures.ranges() == ((7, 8),)
    assert (ledger.failed_count, ledger.settled.ranges()) == (1, ((0, 1), (2, 4), (6, 8)))
    assert ledger.accept(result(1, b"1")) == [result(1, b"1")]
    assert ledger.next_in_order == 4  # its turn was; it is written as it comes


def test_the_total_is_the_latest_and_what_was_read_never_shrinks_unless_the_input_does() -> None:
    ledger = Ledger()
    enter(ledger, ChecksumsRecorded(0, 9, b""), InputEnded(4, "broke off"))
    enter(ledger, ChecksumsRecorded(0, 3, b""), InputEnded(9, ""))
    assert (ledger.checksum_watermark, ledger.total) == (9, 9)
    enter(ledger, InputEnded(4, ""))
    assert (ledger.checksum_watermark, ledger.total) == (4, 4)
    enter(ledger, ChecksumsRecorded(4, EXACT + 9, b""), InputEnded(EXACT + 7, ""))
    assert ledger.checksum_watermark == EXACT


def test_facts_of_several_entries_come_as_one_list_in_their_order() -> None:
    ledger, facts = Ledger(), [AttemptRange(1, 2, 1), AttemptRange(2, 3, 1), AttemptRange(1, 2, 2)]
    for fact in facts:
        ledger.append(fact)
    assert ledger.commit(2) == facts[:2]
    assert ledger.attempts.get(1) == 1
    assert ledger.commit(3) == facts[2:]
    assert ledger.attempts.get(1) == 2
