"""Lines of running tasks: once, behind each other, and in their turn where order is asked for."""

from __future__ import annotations

import struct

from pipeline.model.events import WriteLines
from pipeline.model.journal_events import RunStarted, TasksSettled
from pipeline.model.messages import PartialOutput, Result
from pipeline.model.state_machine import Port, Send
from pipeline.sink.ledger import Ledger
from pipeline.sink.result_writer import MAX_BUFFERED_BYTES, LiveOutput

BEGAN = RunStarted("r", "print")


def part(task: int, start: int, body: bytes, tries: int = 0) -> PartialOutput:
    return PartialOutput("r", task, tries, start, body)


def show(body: bytes) -> list[Send]:
    return [Send(Port.OUTPUT, WriteLines(body))]


def result(first: int, count: int = 1, tries: int = 0) -> Result:
    ends = struct.pack(f"<{count}I", *range(2, 2 * count + 2, 2))
    return Result("r", "ann", first, count, b"x\n" * count, ends, b"", (), tries)


def test_each_line_is_shown_once_and_a_gap_is_left_to_the_result() -> None:
    live = LiveOutput(Ledger([BEGAN]), is_ordered=False)
    assert live.on_partial_output(part(3, 0, b"a\n")) == show(b"a\n")
    assert live.on_partial_output(part(3, 0, b"a\n")) == []
    assert live.on_partial_output(part(3, 0, b"a\nb\n")) == show(b"b\n")
    assert live.on_partial_output(part(3, 6, b"d\n")) == []
    assert live.on_partial_output(part(4, 0, b"x\n")) == show(b"x\n")
    assert live.take_shown(result(2, 3)) == ((3, 4), (4, 2))
    assert live.take_shown(result(2, 3)) == ()


def test_what_is_settled_or_on_its_way_or_of_another_run_is_not_shown() -> None:
    ledger = Ledger([BEGAN, TasksSettled(((0, 1),), (), is_spilled=False, sizes=())])
    ledger.accept(result(5))
    live = LiveOutput(ledger, is_ordered=False)
    assert live.on_partial_output(part(0, 0, b"a\n")) == []
    assert live.on_partial_output(part(5, 0, b"a\n")) == []
    assert live.on_partial_output(PartialOutput("q", 7, 0, 0, b"a\n")) == []


def test_another_try_begins_anew_and_an_earlier_one_is_over() -> None:
    live = LiveOutput(Ledger([BEGAN]), is_ordered=False)
    assert live.on_partial_output(part(3, 0, b"a\n")) == show(b"a\n")
    assert live.on_partial_output(part(3, 0, b"b\n", tries=1)) == show(b"b\n")
    assert live.on_partial_output(part(3, 2, b"c\n")) == []
    assert live.take_shown(result(3)) == ()
    assert live.on_partial_output(part(3, 0, b"b\n", tries=1)) == show(b"b\n")
    assert live.take_shown(result(3, tries=1)) == ((3, 2),)


def test_with_order_others_wait_for_their_turn() -> None:
    ledger = Ledger([BEGAN])
    live = LiveOutput(ledger, is_ordered=True)
    assert live.on_partial_output(part(1, 0, b"b\n")) == []
    assert live.on_partial_output(part(0, 0, b"a\n")) == show(b"a\n")
    assert live.show_next_in_order() == []
    ledger.next_in_order = 1
    assert live.show_next_in_order() == show(b"b\n")
    assert live.show_next_in_order() == []
    assert live.on_partial_output(part(1, 2, b"c\n")) == show(b"c\n")


def test_what_waits_is_bounded_and_the_result_has_the_rest() -> None:
    ledger = Ledger([BEGAN])
    live = LiveOutput(ledger, is_ordered=True)
    line = b"x" * 1023 + b"\n"
    for number in range(2 * MAX_BUFFERED_BYTES // len(line)):
        live.on_partial_output(part(1, number * len(line), line))
    ledger.next_in_order = 1
    ((out,),) = [live.show_next_in_order()]
    assert isinstance(out.message, WriteLines)
    assert MAX_BUFFERED_BYTES < len(out.message.body) <= MAX_BUFFERED_BYTES + len(line)
    assert live.take_shown(result(1)) == ((1, len(out.message.body)),)
