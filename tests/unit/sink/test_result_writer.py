"""The way of a result to output, spill and journal."""

from __future__ import annotations

import struct

from pipeline.model.events import (
    Committed,
    DiscardBelow,
    FetchedResult,
    FetchSpilled,
    JournalEntry,
    SpillResult,
    Waiting,
    WriteLines,
    WriteResult,
)
from pipeline.model.journal_events import InputEnded, RunStarted, TasksReopened, TasksSettled
from pipeline.model.messages import AttemptRange, PartialOutput, Ranges, Result, TaskFailure
from pipeline.model.state_machine import Port, Send
from pipeline.model.structs import replace
from pipeline.sink.ledger import Ledger
from pipeline.sink.result_writer import LiveOutput, ResultWriter, WriterConfig
from pipeline.sink.retries import RetryPolicy, RetryQueue

STARTED = RunStarted("r", "print")


def result(first: int, count: int = 1, *, failed: bool = False) -> Result:
    """Return tasks with one byte of output each; if one failed, it is the first."""
    ends = struct.pack(f"<{count}I", *range(1, count + 1))
    failures = (TaskFailure(first, "exit", 1, "oh", "", 0),) if failed else ()
    return Result("r", "ann", first, count, b"x" * count, ends, b"", failures)


def write(number: int, part: Result) -> Send:
    return Send(Port.OUTPUT, WriteResult(number, part))


def spill(number: int, part: Result) -> Send:
    return Send(Port.SPILL, SpillResult(number, part))


def fetch(first: int) -> Send:
    return Send(Port.SPILL, FetchSpilled(first))


def entry(number: int, *ranges: tuple[int, int], size: int = 0, failed: Ranges = (), spilled: bool = False) -> Send:
    return Send(Port.JOURNAL, JournalEntry(number, (TasksSettled(ranges, failed, spilled, (size,) if size else ()),)))


def make_writer(
    ledger: Ledger, limit: int = 1000, spilled_bytes: int = 0, *, keep_order: bool, retries: int = 0, log: bool = False
) -> ResultWriter:
    live_output = LiveOutput(ledger, is_ordered=keep_order)
    return ResultWriter(
        ledger, RetryQueue(RetryPolicy(retries)), live_output, WriterConfig(limit, keep_order, log), spilled_bytes
    )


def make_scenario(
    *, keep_order: bool, limit: int = 1000, retries: int = 0, log: bool = False
) -> tuple[ResultWriter, Ledger]:
    ledger = Ledger([STARTED])
    return make_writer(ledger, limit, keep_order=keep_order, retries=retries, log=log), ledger


def commit(ledger: Ledger, *sends: Send) -> None:
    """Commit what was sent to the journal."""
    for send in sends:
        assert isinstance(send.message, JournalEntry)
        assert ledger.commit(send.message.number)


def test_unordered_result_is_written_once_on_arrival() -> None:
    writer, _ = make_scenario(keep_order=False)
    assert writer.is_drained
    assert writer.accept(result(5)) == [write(1, result(5))]
    assert writer.accept(result(4, 3)) == [write(2, result(4)), write(3, result(6))]
    assert writer.accept(result(4, 3)) == []
    assert (writer.is_drained, writer.is_idle) == (False, False)


def test_failed_attempt_is_journaled_after_its_row() -> None:
    writer, ledger = make_scenario(keep_order=False, retries=1, log=True)
    both = result(3, 2, failed=True)
    row = Send(Port.OUTPUT, WriteResult(1, replace(result(3, failed=True)), is_retried=True))
    assert writer.accept(both) == [row, write(2, result(4))]
    assert not len(ledger.attempts)
    assert writer.accept(both) == []
    assert not writer.is_idle
    events = (TasksSettled((), (), is_spilled=False, sizes=(0, 9)), AttemptRange(3, 4, 1))
    assert writer.on_committed(Committed("output", 1, "", (0, 9))) == [Send(Port.JOURNAL, JournalEntry(1, events))]
    last = replace(result(3, failed=True), attempt=1)
    assert writer.accept(last) == [write(3, last)]
    assert writer.on_committed(Committed("output", 3, "", (3, 30))) == [
        Send(Port.JOURNAL, JournalEntry(2, (TasksSettled(((3, 5),), ((3, 4),), is_spilled=False, sizes=(3, 30)),)))
    ]


def test_row_of_failed_attempt_is_not_ordered() -> None:
    writer, _ = make_scenario(keep_order=True, retries=1, log=True)
    failed = result(7, failed=True)
    assert writer.accept(failed) == [Send(Port.OUTPUT, WriteResult(1, failed, is_retried=True))]


def test_result_carries_size_of_shown_output() -> None:
    ledger = Ledger([STARTED])
    live_output = LiveOutput(ledger, is_ordered=False)
    writer = ResultWriter(ledger, RetryQueue(RetryPolicy()), live_output, WriterConfig())
    assert live_output.on_partial_output(PartialOutput("r", 6, 0, 0, b"a\n")) == [Send(Port.OUTPUT, WriteLines(b"a\n"))]
    assert writer.accept(result(5, 2)) == [Send(Port.OUTPUT, WriteResult(1, result(5, 2), streamed_sizes=((6, 2),)))]


def test_commit_journals_failures_and_output_sizes() -> None:
    writer, ledger = make_scenario(keep_order=False)
    for first in (5, 9, 2):
        writer.accept(result(first, failed=True))
    assert writer.on_committed(Committed("output", 2, "", (7,))) == [
        entry(1, (5, 6), (9, 10), size=7, failed=((5, 6), (9, 10)))
    ]
    assert writer.on_committed(Committed("output", 2, "", (7,))) == []
    assert writer.on_committed(Committed("output", 3, "", (9,))) == [entry(2, (2, 3), size=9, failed=((2, 3),))]
    assert (writer.is_drained, ledger.settled.ranges()) == (True, ())


def attempt_entry(number: int, task: int, attempt: int = 1) -> Send:
    return Send(Port.JOURNAL, JournalEntry(number, (AttemptRange(task, task + 1, attempt),)))


def test_retried_task_is_not_written_its_neighbours_are() -> None:
    writer, ledger = make_scenario(keep_order=False, retries=1)
    assert writer.accept(result(4, 3, failed=True)) == [attempt_entry(1, 4), write(1, result(5, 2))]
    assert ledger.pending.ranges() == ((5, 7),)
    assert writer.on_committed(Committed("output", 1)) == [entry(2, (5, 7))]
    last = replace(result(4, failed=True), attempt=1)
    assert writer.accept(last) == [write(2, last)]  # its retries are used up
    assert writer.on_committed(Committed("output", 2)) == [entry(3, (4, 5), failed=((4, 5),))]


def test_attempt_failed_on_two_workers_is_journaled_once() -> None:
    writer, ledger = make_scenario(keep_order=False, retries=2)
    assert writer.accept(result(4, failed=True)) == [attempt_entry(1, 4)]
    assert writer.accept(result(4, failed=True)) == []
    assert ledger.pending.task_count == 0
    assert writer.accept(result(4)) == [write(1, result(4))]
    assert writer.accept(replace(result(4, failed=True), attempt=1)) == []


def test_neighbours_committed_together_are_one_range() -> None:
    writer, _ = make_scenario(keep_order=False)
    for first in (6, 5, 7):
        writer.accept(result(first))
    assert writer.on_committed(Committed("output", 3)) == [entry(1, (5, 8))]


def test_results_ahead_of_turn_are_spilled_and_fetched() -> None:
    writer, ledger = make_scenario(keep_order=True)
    assert writer.accept(result(2, failed=True)) == [spill(1, result(2, failed=True))]
    assert writer.accept(result(1)) == [spill(2, result(1))]
    assert writer.on_committed(Committed("spill", 2)) == [entry(1, (1, 3), failed=((2, 3),), spilled=True)]
    assert writer.accept(result(0)) == [write(3, result(0)), fetch(1)]
    assert writer.accept(result(3)) == [spill(4, result(3))]  # its turn is not known while another is fetched
    assert writer.on_fetched(FetchedResult(result(1))) == [write(5, result(1)), fetch(2)]
    assert writer.on_fetched(FetchedResult(result(2, failed=True))) == [write(6, result(2, failed=True)), fetch(3)]
    assert writer.on_fetched(FetchedResult(result(3))) == [write(7, result(3))]
    assert writer.on_committed(Committed("output", 7, "", (4,))) == [entry(2, (0, 4), size=4)]
    assert writer.on_committed(Committed("spill", 4)) == [
        entry(3, (3, 4), size=4, spilled=True)
    ]  # a spill never changes the sizes
    assert (ledger.next_in_order, writer.is_drained) == (4, True)


def test_results_in_turn_are_not_spilled() -> None:
    writer, _ = make_scenario(keep_order=True)
    assert writer.accept(result(0, 2)) == [write(1, result(0, 2))]
    assert writer.accept(result(2)) == [write(2, result(2))]


def test_reopened_task_below_turn_is_written_on_arrival() -> None:
    done = TasksSettled(((0, 6),), ((2, 3),), is_spilled=False, sizes=(6,))
    ledger = Ledger([STARTED, done, TasksReopened(((2, 3),))])
    writer = make_writer(ledger, keep_order=True)
    assert writer.accept(result(2)) == [write(1, result(2))]
    assert ledger.next_in_order == 6
    assert writer.accept(result(6)) == [write(2, result(6))]


def test_reopened_spilled_task_is_not_fetched() -> None:
    before, ahead = (
        TasksSettled(((first, first + 1),), ((1, 2),) if first else (), first == 1, (first,)) for first in (0, 1)
    )
    ledger = Ledger([STARTED, before, ahead])
    ledger.apply(TasksReopened(((1, 2),)))
    for each in (ledger, Ledger([STARTED, before, ahead, TasksReopened(((1, 2),))])):
        writer = make_writer(each, keep_order=True)
        assert writer.fetch_next() == []  # otherwise the failed result would replace the new one
        assert writer.accept(result(1)) == [write(1, result(1))]


def test_full_spill_is_reported_when_it_begins_and_ends() -> None:
    writer, _ = make_scenario(keep_order=True, limit=2)
    assert writer.accept(result(1, 2)) == [spill(1, result(1, 2))]
    assert not writer.spill_full
    assert writer.accept(result(3)) == [spill(2, result(3)), Send(Port.USER, Waiting("spill", "task 1", active=True))]
    assert writer.accept(result(4)) == [spill(3, result(4))]
    assert writer.spill_full
    assert writer.accept(result(0)) == [write(4, result(0)), fetch(1)]
    assert writer.on_fetched(FetchedResult(result(1, 2))) == [
        write(5, result(1, 2)), fetch(3), Send(Port.USER, Waiting("spill", "task 4", active=False)),
    ]  # fmt: skip
    assert not writer.spill_full


def test_restored_spill_counts_towards_limit() -> None:
    ledger = Ledger([STARTED, TasksSettled(((5, 6),), (), is_spilled=True, sizes=())])
    writer = make_writer(ledger, 2, spilled_bytes=2, keep_order=True)
    assert writer.accept(result(1)) == [spill(1, result(1)), Send(Port.USER, Waiting("spill", "task 1", active=True))]


def test_restored_results_are_fetched_in_turn() -> None:
    ledger = Ledger([STARTED, *(TasksSettled(((first, first + 2),), (), first == 3, (first,)) for first in (0, 3))])
    writer = make_writer(ledger, spilled_bytes=2, keep_order=True)
    assert (writer.is_drained, writer.is_idle, writer.fetch_next()) == (False, True, [])
    assert writer.accept(result(2)) == [write(1, result(2)), fetch(3)]
    assert writer.on_fetched(FetchedResult(result(3, 2))) == [write(2, result(3, 2))]


def test_restored_result_in_turn_is_fetched_at_once() -> None:
    ledger = Ledger([STARTED, *(TasksSettled(((first, first + 2),), (), first == 2, (first,)) for first in (0, 2))])
    writer = make_writer(ledger, spilled_bytes=2, keep_order=True)
    assert writer.fetch_next() == [fetch(2)]
    assert writer.fetch_next() == []


def test_spill_discards_fetched_after_journal_commit() -> None:
    writer, ledger = make_scenario(keep_order=True)
    for first in (1, 0):
        writer.accept(result(first))
    commit(ledger, *writer.on_committed(Committed("spill", 1)))
    writer.on_fetched(FetchedResult(result(1)))
    written = writer.on_committed(Committed("output", 3, "", (2,)))
    assert writer.discard_written() == []
    commit(ledger, *written)
    assert writer.discard_written() == [Send(Port.SPILL, DiscardBelow(2))]
    assert writer.discard_written() == []


def test_unordered_writer_discards_nothing() -> None:
    writer, ledger = make_scenario(keep_order=False)
    writer.accept(result(0))
    commit(ledger, *writer.on_committed(Committed("output", 1)))
    assert writer.discard_written() == []


def test_writer_is_complete_when_spill_is_empty() -> None:
    writer, ledger = make_scenario(keep_order=True)
    writer.accept(result(1))
    commit(ledger, *writer.on_committed(Committed("spill", 1)), ledger.append(InputEnded(2, "")))
    writer.accept(result(0))
    writer.on_fetched(FetchedResult(result(1)))
    assert not writer.is_complete
    written = writer.on_committed(Committed("output", 3))
    assert not writer.is_complete
    commit(ledger, *written)
    assert writer.is_complete


def test_flush_writes_results_after_gap() -> None:
    writer, _ = make_scenario(keep_order=True)
    for first in (2, 7):
        writer.accept(result(first))
    assert writer.flush() == [fetch(2)]
    assert writer.flush() == []
    assert writer.on_fetched(FetchedResult(result(2))) == [write(3, result(2)), fetch(7)]
    assert writer.on_fetched(FetchedResult(result(7))) == [write(4, result(7))]
    assert not writer.is_drained
    writer.on_committed(Committed("spill", 2))
    writer.on_committed(Committed("output", 4))
    assert writer.is_drained
