"""The way of a result to safety."""

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

BEGAN = RunStarted("r", "print")


def result(first: int, count: int = 1, *, failed: bool = False) -> Result:
    """Each task has written one byte; where one has failed, it is the first."""
    ends = struct.pack(f"<{count}I", *range(1, count + 1))
    notes = (TaskFailure(first, "exit", 1, "oh", "", 0),) if failed else ()
    return Result("r", "ann", first, count, b"x" * count, ends, b"", notes)


def write(number: int, part: Result) -> Send:
    return Send(Port.OUTPUT, WriteResult(number, part))


def keep(number: int, part: Result) -> Send:
    return Send(Port.SPILL, SpillResult(number, part))


def fetch(first: int) -> Send:
    return Send(Port.SPILL, FetchSpilled(first))


def entry(number: int, *ranges: tuple[int, int], size: int = 0, failed: Ranges = (), spilled: bool = False) -> Send:
    return Send(Port.JOURNAL, JournalEntry(number, (TasksSettled(ranges, failed, spilled, (size,) if size else ()),)))


def writing_of(
    ledger: Ledger, limit: int = 1000, kept: int = 0, *, keep_order: bool, retries: int = 0, log: bool = False
) -> ResultWriter:
    live = LiveOutput(ledger, is_ordered=keep_order)
    return ResultWriter(ledger, RetryQueue(RetryPolicy(retries)), live, WriterConfig(limit, keep_order, log), kept)


def scene(*, keep_order: bool, limit: int = 1000, retries: int = 0, log: bool = False) -> tuple[ResultWriter, Ledger]:
    ledger = Ledger([BEGAN])
    return writing_of(ledger, limit, keep_order=keep_order, retries=retries, log=log), ledger


def durable(ledger: Ledger, *sends: Send) -> None:
    """The journal has what was sent to it."""
    for send in sends:
        assert isinstance(send.message, JournalEntry)
        assert ledger.commit(send.message.number)


def test_without_order_each_is_written_as_it_comes_and_once() -> None:
    writing, _ = scene(keep_order=False)
    assert writing.is_drained
    assert writing.accept(result(5)) == [write(1, result(5))]
    assert writing.accept(result(4, 3)) == [write(2, result(4)), write(3, result(6))]
    assert writing.accept(result(4, 3)) == []
    assert (writing.is_drained, writing.is_idle) == (False, False)


def test_a_try_that_failed_is_known_when_its_row_is_written() -> None:
    writing, ledger = scene(keep_order=False, retries=1, log=True)
    whole = result(3, 2, failed=True)
    row = Send(Port.OUTPUT, WriteResult(1, replace(result(3, failed=True)), is_retried=True))
    assert writing.accept(whole) == [row, write(2, result(4))]
    assert not len(ledger.attempts)
    assert writing.accept(whole) == []
    assert not writing.is_idle
    facts = (TasksSettled((), (), is_spilled=False, sizes=(0, 9)), AttemptRange(3, 4, 1))
    assert writing.on_committed(Committed("output", 1, "", (0, 9))) == [Send(Port.JOURNAL, JournalEntry(1, facts))]
    last = replace(result(3, failed=True), attempt=1)
    assert writing.accept(last) == [write(3, last)]
    assert writing.on_committed(Committed("output", 3, "", (3, 30))) == [
        Send(Port.JOURNAL, JournalEntry(2, (TasksSettled(((3, 5),), ((3, 4),), is_spilled=False, sizes=(3, 30)),)))
    ]


def test_a_row_waits_for_nobodys_turn() -> None:
    writing, _ = scene(keep_order=True, retries=1, log=True)
    failed = result(7, failed=True)
    assert writing.accept(failed) == [Send(Port.OUTPUT, WriteResult(1, failed, is_retried=True))]


def test_what_was_shown_of_a_running_task_is_told_with_its_result() -> None:
    ledger = Ledger([BEGAN])
    live = LiveOutput(ledger, is_ordered=False)
    writing = ResultWriter(ledger, RetryQueue(RetryPolicy()), live, WriterConfig())
    assert live.on_partial_output(PartialOutput("r", 6, 0, 0, b"a\n")) == [Send(Port.OUTPUT, WriteLines(b"a\n"))]
    assert writing.accept(result(5, 2)) == [Send(Port.OUTPUT, WriteResult(1, result(5, 2), streamed_sizes=((6, 2),)))]


def test_what_is_written_goes_to_the_journal_with_its_failures_and_the_length_of_the_output() -> None:
    writing, ledger = scene(keep_order=False)
    for first in (5, 9, 2):
        writing.accept(result(first, failed=True))
    assert writing.on_committed(Committed("output", 2, "", (7,))) == [
        entry(1, (5, 6), (9, 10), size=7, failed=((5, 6), (9, 10)))
    ]
    assert writing.on_committed(Committed("output", 2, "", (7,))) == []
    assert writing.on_committed(Committed("output", 3, "", (9,))) == [entry(2, (2, 3), size=9, failed=((2, 3),))]
    assert (writing.is_drained, ledger.settled.ranges()) == (True, ())


def tried_again(number: int, task: int, tries: int = 1) -> Send:
    return Send(Port.JOURNAL, JournalEntry(number, (AttemptRange(task, task + 1, tries),)))


def test_who_failed_and_may_try_again_is_not_written_but_its_neighbours_are() -> None:
    writing, ledger = scene(keep_order=False, retries=1)
    assert writing.accept(result(4, 3, failed=True)) == [tried_again(1, 4), write(1, result(5, 2))]
    assert ledger.pending.ranges() == ((5, 7),)
    assert writing.on_committed(Committed("output", 1)) == [entry(2, (5, 7))]
    last = replace(result(4, failed=True), attempt=1)
    assert writing.accept(last) == [write(2, last)]  # it has had its tries
    assert writing.on_committed(Committed("output", 2)) == [entry(3, (4, 5), failed=((4, 5),))]


def test_a_try_that_failed_on_two_workers_is_journaled_once_and_a_success_of_it_is_written() -> None:
    writing, ledger = scene(keep_order=False, retries=2)
    assert writing.accept(result(4, failed=True)) == [tried_again(1, 4)]
    assert writing.accept(result(4, failed=True)) == []
    assert ledger.pending.task_count == 0
    assert writing.accept(result(4)) == [write(1, result(4))]
    assert writing.accept(replace(result(4, failed=True), attempt=1)) == []


def test_neighbours_that_were_written_together_are_one_range() -> None:
    writing, _ = scene(keep_order=False)
    for first in (6, 5, 7):
        writing.accept(result(first))
    assert writing.on_committed(Committed("output", 3)) == [entry(1, (5, 8))]


def test_ahead_of_their_turn_they_are_kept_and_their_failures_count_once() -> None:
    writing, ledger = scene(keep_order=True)
    assert writing.accept(result(2, failed=True)) == [keep(1, result(2, failed=True))]
    assert writing.accept(result(1)) == [keep(2, result(1))]
    assert writing.on_committed(Committed("spill", 2)) == [entry(1, (1, 3), failed=((2, 3),), spilled=True)]
    assert writing.accept(result(0)) == [write(3, result(0)), fetch(1)]
    assert writing.accept(result(3)) == [keep(4, result(3))]  # its turn is not sure while one is being fetched
    assert writing.on_fetched(FetchedResult(result(1))) == [write(5, result(1)), fetch(2)]
    assert writing.on_fetched(FetchedResult(result(2, failed=True))) == [write(6, result(2, failed=True)), fetch(3)]
    assert writing.on_fetched(FetchedResult(result(3))) == [write(7, result(3))]
    assert writing.on_committed(Committed("output", 7, "", (4,))) == [entry(2, (0, 4), size=4)]
    assert writing.on_committed(Committed("spill", 4)) == [
        entry(3, (3, 4), size=4, spilled=True)
    ]  # a spill never changes the sizes
    assert (ledger.next_in_order, writing.is_drained) == (4, True)


def test_neighbours_in_their_turn_are_written_without_a_detour() -> None:
    writing, _ = scene(keep_order=True)
    assert writing.accept(result(0, 2)) == [write(1, result(0, 2))]
    assert writing.accept(result(2)) == [write(2, result(2))]


def test_what_had_failed_and_is_done_once_more_is_below_the_turn_and_written_as_it_comes() -> None:
    done = TasksSettled(((0, 6),), ((2, 3),), is_spilled=False, sizes=(6,))
    ledger = Ledger([BEGAN, done, TasksReopened(((2, 3),))])
    writing = writing_of(ledger, keep_order=True)
    assert writing.accept(result(2)) == [write(1, result(2))]
    assert ledger.next_in_order == 6
    assert writing.accept(result(6)) == [write(2, result(6))]


def test_what_had_failed_ahead_of_its_turn_and_is_done_once_more_waits_for_that_in_the_spill_no_longer() -> None:
    before, ahead = (TasksSettled(((at, at + 1),), ((1, 2),) if at else (), at == 1, (at,)) for at in (0, 1))
    ledger = Ledger([BEGAN, before, ahead])
    ledger.apply(TasksReopened(((1, 2),)))
    for each in (ledger, Ledger([BEGAN, before, ahead, TasksReopened(((1, 2),))])):
        writing = writing_of(each, keep_order=True)
        assert writing.fetch_next() == []  # else the failed result is written in the place of the new one
        assert writing.accept(result(1)) == [write(1, result(1))]


def test_a_full_spill_is_told_with_what_is_waited_for_and_again_when_it_is_over() -> None:
    writing, _ = scene(keep_order=True, limit=2)
    assert writing.accept(result(1, 2)) == [keep(1, result(1, 2))]
    assert not writing.spill_full
    assert writing.accept(result(3)) == [keep(2, result(3)), Send(Port.USER, Waiting("spill", "task 1", active=True))]
    assert writing.accept(result(4)) == [keep(3, result(4))]
    assert writing.spill_full
    assert writing.accept(result(0)) == [write(4, result(0)), fetch(1)]
    assert writing.on_fetched(FetchedResult(result(1, 2))) == [
        write(5, result(1, 2)), fetch(3), Send(Port.USER, Waiting("spill", "task 4", active=False)),
    ]  # fmt: skip
    assert not writing.spill_full


def test_what_the_spill_has_of_a_former_life_counts() -> None:
    ledger = Ledger([BEGAN, TasksSettled(((5, 6),), (), is_spilled=True, sizes=())])
    writing = writing_of(ledger, 2, kept=2, keep_order=True)
    assert writing.accept(result(1)) == [keep(1, result(1)), Send(Port.USER, Waiting("spill", "task 1", active=True))]


def test_a_former_lifes_results_are_fetched_when_their_turn_has_come() -> None:
    ledger = Ledger([BEGAN, *(TasksSettled(((at, at + 2),), (), at == 3, (at,)) for at in (0, 3))])
    writing = writing_of(ledger, kept=2, keep_order=True)
    assert (writing.is_drained, writing.is_idle, writing.fetch_next()) == (False, True, [])
    assert writing.accept(result(2)) == [write(1, result(2)), fetch(3)]
    assert writing.on_fetched(FetchedResult(result(3, 2))) == [write(2, result(3, 2))]


def test_a_turn_that_had_come_already_in_a_former_life_needs_no_result_to_be_fetched() -> None:
    ledger = Ledger([BEGAN, *(TasksSettled(((at, at + 2),), (), at == 2, (at,)) for at in (0, 2))])
    writing = writing_of(ledger, kept=2, keep_order=True)
    assert writing.fetch_next() == [fetch(2)]
    assert writing.fetch_next() == []


def test_the_spill_may_forget_what_was_fetched_once_the_journal_knows_that_it_is_written() -> None:
    writing, ledger = scene(keep_order=True)
    for first in (1, 0):
        writing.accept(result(first))
    durable(ledger, *writing.on_committed(Committed("spill", 1)))
    writing.on_fetched(FetchedResult(result(1)))
    written = writing.on_committed(Committed("output", 3, "", (2,)))
    assert writing.discard_written() == []
    durable(ledger, *written)
    assert writing.discard_written() == [Send(Port.SPILL, DiscardBelow(2))]
    assert writing.discard_written() == []


def test_without_order_there_is_nothing_to_forget() -> None:
    writing, ledger = scene(keep_order=False)
    writing.accept(result(0))
    durable(ledger, *writing.on_committed(Committed("output", 1)))
    assert writing.discard_written() == []


def test_it_is_complete_when_all_is_settled_and_out_of_the_spill() -> None:
    writing, ledger = scene(keep_order=True)
    writing.accept(result(1))
    durable(ledger, *writing.on_committed(Committed("spill", 1)), ledger.append(InputEnded(2, "")))
    writing.accept(result(0))
    writing.on_fetched(FetchedResult(result(1)))
    assert not writing.is_complete
    written = writing.on_committed(Committed("output", 3))
    assert not writing.is_complete
    durable(ledger, *written)
    assert writing.is_complete


def test_at_an_early_end_what_stands_behind_a_gap_is_written_too() -> None:
    writing, _ = scene(keep_order=True)
    for first in (2, 7):
        writing.accept(result(first))
    assert writing.flush() == [fetch(2)]
    assert writing.flush() == []
    assert writing.on_fetched(FetchedResult(result(2))) == [write(3, result(2)), fetch(7)]
    assert writing.on_fetched(FetchedResult(result(7))) == [write(4, result(7))]
    assert not writing.is_drained
    writing.on_committed(Committed("spill", 2))
    writing.on_committed(Committed("output", 4))
    assert writing.is_drained
