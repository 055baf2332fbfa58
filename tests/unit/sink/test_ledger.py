"""The ledger: tasks are accepted, pending and settled once, and replayed from journal events."""

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
from pipeline.model.option_values import HaltCondition
from pipeline.model.state_machine import Port, Send
from pipeline.sink.ledger import Ledger


def result(first: int, *outputs: bytes, attempt: int = 0) -> Result:
    ends = [sum(map(len, outputs[: k + 1])) for k in range(len(outputs))]
    packed = struct.pack(f"<{len(ends)}I", *ends)
    return Result("r", "ann", first, len(outputs), b"".join(outputs), packed, b"", (), attempt)


def settled(*ranges: tuple[int, int], failures: Ranges = (), spilled: bool = False, size: int = 0) -> TasksSettled:
    return TasksSettled(ranges, failures, spilled, (size,))


def commit(ledger: Ledger, *events: JournalEvent) -> None:
    """Append these events and commit them."""
    entry = ledger.append(*events).message
    assert isinstance(entry, JournalEntry)
    assert ledger.commit(entry.number) == list(events)


def test_first_result_of_task_is_accepted() -> None:
    ledger = Ledger()
    assert ledger.accept(result(2, b"two", b"three")) == [result(2, b"two", b"three")]
    assert ledger.pending.ranges() == ((2, 4),)
    assert ledger.accept(result(2, b"TWO", b"THREE")) == []
    assert ledger.accept(result(1, b"one", b"TWO", b"THREE", b"four")) == [result(1, b"one"), result(4, b"four")]
    assert ledger.pending.ranges() == ((1, 5),)
    assert ledger.settled.ranges() == ()


def test_result_with_invalid_ends_is_sliced() -> None:
    ledger = Ledger()
    ledger.accept(result(1, b"one"))
    invalid = Result("r", "ann", 0, 3, b"abcdef", struct.pack("<3I", 900, 3, 6), b"", ())
    assert [(part.first, part.output) for part in ledger.accept(invalid)] == [(0, b"abcdef"), (2, b"")]


def test_tasks_are_settled_after_commit() -> None:
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


def test_events_of_entry_are_pending_until_commit() -> None:
    ledger, events = Ledger(), (RunStarted("r", "print"), InputEnded(4, "disk"))
    ledger.append(*events)
    assert [ledger.is_pending(event_type) for event_type in (RunStarted, InputEnded, SinkSuspended)] == [
        True,
        True,
        False,
    ]
    assert (ledger.run, ledger.total) == ("", -1)
    assert ledger.commit(1) == list(events)
    assert (ledger.run, ledger.fingerprint, ledger.total, ledger.end_reason) == ("r", "print", 4, "disk")
    assert not ledger.is_pending(RunStarted)


def test_retried_task_is_accepted_again() -> None:
    ledger = Ledger()
    ledger.accept(result(0, b"a", b"b", b"c"))
    assert ledger.record_attempt(AttemptRange(1, 2, 1))
    assert ledger.pending.ranges() == ((0, 1), (2, 3))
    assert ledger.accept(result(1, b"b", attempt=1)) == [result(1, b"b", attempt=1)]
    assert ledger.pending.ranges() == ((0, 3),)


def test_known_attempt_does_not_block_late_result() -> None:
    ledger = Ledger()
    ledger.record_attempt(AttemptRange(1, 2, 2))
    assert ledger.accept(result(1, b"late", attempt=1)) == [result(1, b"late", attempt=1)]  # it may have succeeded
    assert not ledger.record_attempt(AttemptRange(1, 2, 2))
    assert (ledger.pending.ranges(), ledger.attempts.get(1)) == ((), 2)


def test_settled_task_has_no_attempts() -> None:
    ledger = Ledger()
    ledger.record_attempt(AttemptRange(1, 2, 1))
    ledger.record_attempt(AttemptRange(7, 8, 1))
    commit(ledger, settled((0, 3)))
    assert list(ledger.attempts.tasks()) == [7]


def test_missing_excludes_settled_and_pending() -> None:
    ledger = Ledger()
    commit(ledger, settled((0, 3)))
    ledger.accept(result(5, b"five"))
    assert ledger.missing(((1, 4), (5, 8))) == ((3, 4), (6, 8))
    assert ledger.missing(((0, 2), (5, 6))) == ()


def test_missing_excludes_outdated_attempts() -> None:
    ledger = Ledger()
    ledger.record_attempt(AttemptRange(5, 7, 1))
    assert ledger.missing(((4, 8),)) == ((4, 5), (7, 8))
    assert ledger.missing(((4, 8),), (AttemptRange(6, 7, 1),)) == ((4, 5), (6, 8))


def test_ledger_is_complete_after_last_commit() -> None:
    ledger = Ledger()
    commit(ledger, settled((0, 3)))
    assert not ledger.is_complete
    entry = ledger.append(InputEnded(3, "")).message
    assert not ledger.is_complete
    assert isinstance(entry, JournalEntry)
    ledger.commit(entry.number)
    assert ledger.is_complete
    ledger.spilled.add(2, 3)  # in the spill only
    assert not ledger.is_complete
    ledger.spilled.remove(2, 3)
    ledger.append(CommandFixed("d", "wc"))  # the end waits for any pending entry
    assert not ledger.is_complete


def test_empty_input_is_complete_gap_is_not() -> None:
    assert Ledger([settled((0, 1), (2, 3)), SinkSuspended()]).is_complete is False
    empty, gap = Ledger(), Ledger([settled((0, 1), (2, 3))])
    commit(empty, InputEnded(0, ""))
    commit(gap, InputEnded(3, ""))
    assert (empty.is_complete, gap.is_complete) == (True, False)


EVENTS: list[JournalEvent] = [
    RunStarted("r", "print"), CommandFixed("d", "wc"), ChecksumsRecorded(0, 5, b""), ChecksumsRecorded(5, 4, b""),
    settled((0, 4), failures=((1, 2),), size=40), settled((6, 8), failures=((7, 8),), spilled=True, size=40),
    AttemptRange(4, 5, 1), AttemptRange(4, 5, 2), settled((6, 7), size=55), InputEnded(9, ""), RunStopped("soon",
    "^C", 130),
]  # fmt: skip


def test_ledger_is_replayed_from_events() -> None:
    ledger = Ledger(EVENTS)
    assert (ledger.run, ledger.fingerprint, ledger.digest, ledger.command) == ("r", "print", "d", "wc")
    assert (ledger.checksum_watermark, ledger.total, ledger.failed_count, ledger.output_sizes) == (9, 9, 2, (55,))
    assert (ledger.settled.ranges(), ledger.earlier_failures.ranges()) == (((0, 4), (6, 8)), ((1, 2), (7, 8)))
    assert ledger.spilled.ranges() == ((7, 8),)  # task 6 was fetched and written later
    assert (ledger.next_in_order, ledger.written_below) == (4, 4)
    assert ledger.attempts.get(4) == 2
    assert ledger.run_stop == RunStopped("soon", "^C", 130)
    assert ledger.accept(result(3, b"3", b"4")) == [result(4, b"4")]


def test_replayed_ledger_equals_live_one() -> None:
    """Spilled tasks and earlier failures are known only to a restarted sink."""
    live = Ledger()
    for event in EVENTS:
        commit(live, event)
    replayed = Ledger(EVENTS)
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
        assert getattr(live, name) == getattr(replayed, name), name
    assert live.settled.ranges() == replayed.settled.ranges()
    assert live.attempts.select_failed([(0, 9)]) == replayed.attempts.select_failed([(0, 9)])


def test_replay_forgets_total_of_broken_input() -> None:
    incomplete, complete = Ledger([InputEnded(3, "disk")]), Ledger([InputEnded(3, "disk"), InputEnded(5, "")])
    assert (incomplete.total, incomplete.end_reason) == (-1, "")
    assert (complete.total, complete.end_reason) == (5, "")


def test_suspended_sink_does_not_stop_run() -> None:
    ledger = Ledger([*EVENTS, RunStopped("soon", "^C", 130), SinkSuspended()])
    assert (ledger.run_stop, ledger.suspended_exit_code) == (None, 130)
    ledger.apply(RunStopped("now", "^C", 130))
    assert ledger.suspended_exit_code is None


def test_halt_counts_outcomes_since_the_run_was_resumed() -> None:
    condition = HaltCondition("now", "fail", 2)
    events: list[JournalEvent] = [TasksSettled(((0, 3),), ((1, 3),), is_spilled=False, sizes=()), SinkSuspended()]
    assert Ledger(events[:1]).events_left(condition) == 0
    for ledger in Ledger(events), Ledger([*events, TasksReopened(((1, 3),))]):
        assert ledger.events_left(condition) == 2
        ledger.apply(TasksSettled(((1, 2), (3, 4)), ((1, 2),), is_spilled=False, sizes=()))
        assert ledger.events_left(condition) == 1


@pytest.mark.parametrize("is_live", [False, True])
def test_reopened_task_is_accepted_again(*, is_live: bool) -> None:
    ledger = Ledger([*EVENTS, *([] if is_live else [TasksReopened(((1, 2),))])])
    if is_live:
        commit(ledger, TasksReopened(((1, 2),)))
    else:
        assert ledger.earlier_failures.ranges() == ((7, 8),)
    assert (ledger.failed_count, ledger.settled.ranges()) == (1, ((0, 1), (2, 4), (6, 8)))
    assert ledger.accept(result(1, b"1")) == [result(1, b"1")]
    assert ledger.next_in_order == 4  # the task is below, so it is written as it arrives


def test_shorter_input_lowers_total_and_checksums() -> None:
    ledger = Ledger()
    commit(ledger, ChecksumsRecorded(0, 9, b""), InputEnded(4, "broke off"))
    commit(ledger, ChecksumsRecorded(0, 3, b""), InputEnded(9, ""))
    assert (ledger.checksum_watermark, ledger.total) == (9, 9)
    commit(ledger, InputEnded(4, ""))
    assert (ledger.checksum_watermark, ledger.total) == (4, 4)
    commit(ledger, ChecksumsRecorded(4, EXACT + 9, b""), InputEnded(EXACT + 7, ""))
    assert ledger.checksum_watermark == EXACT


def test_commit_returns_events_of_entries_in_order() -> None:
    ledger, events = Ledger(), [AttemptRange(1, 2, 1), AttemptRange(2, 3, 1), AttemptRange(1, 2, 2)]
    for event in events:
        ledger.append(event)
    assert ledger.commit(2) == events[:2]
    assert ledger.attempts.get(1) == 1
    assert ledger.commit(3) == events[2:]
    assert ledger.attempts.get(1) == 2
