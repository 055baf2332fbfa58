"""Lines of running tasks: each is written once, in sequence, and in the order of tasks if requested."""

from __future__ import annotations

import struct

from pipeline.model.events import WriteLines
from pipeline.model.journal_events import RunStarted, TasksSettled
from pipeline.model.messages import PartialOutput, Result
from pipeline.model.state_machine import Port, Send
from pipeline.sink.ledger import Ledger
from pipeline.sink.result_writer import MAX_BUFFERED_BYTES, LiveOutput

STARTED = RunStarted("r", "print")


def partial(task: int, start: int, body: bytes, attempt: int = 0) -> PartialOutput:
    return PartialOutput("r", task, attempt, start, body)


def shown(body: bytes) -> list[Send]:
    return [Send(Port.OUTPUT, WriteLines(body))]


def result(first: int, count: int = 1, attempt: int = 0) -> Result:
    ends = struct.pack(f"<{count}I", *range(2, 2 * count + 2, 2))
    return Result("r", "ann", first, count, b"x\n" * count, ends, b"", (), attempt)


def test_each_line_is_shown_once_gap_is_left_to_result() -> None:
    live_output = LiveOutput(Ledger([STARTED]), is_ordered=False)
    assert live_output.on_partial_output(partial(3, 0, b"a\n")) == shown(b"a\n")
    assert live_output.on_partial_output(partial(3, 0, b"a\n")) == []
    assert live_output.on_partial_output(partial(3, 0, b"a\nb\n")) == shown(b"b\n")
    assert live_output.on_partial_output(partial(3, 6, b"d\n")) == []
    assert live_output.on_partial_output(partial(4, 0, b"x\n")) == shown(b"x\n")
    assert live_output.take_shown(result(2, 3)) == ((3, 4), (4, 2))
    assert live_output.take_shown(result(2, 3)) == ()


def test_lines_of_settled_pending_or_other_run_are_dropped() -> None:
    ledger = Ledger([STARTED, TasksSettled(((0, 1),), (), is_spilled=False, sizes=())])
    ledger.accept(result(5))
    live_output = LiveOutput(ledger, is_ordered=False)
    assert live_output.on_partial_output(partial(0, 0, b"a\n")) == []
    assert live_output.on_partial_output(partial(5, 0, b"a\n")) == []
    assert live_output.on_partial_output(PartialOutput("q", 7, 0, 0, b"a\n")) == []


def test_new_attempt_replaces_lines_of_earlier_one() -> None:
    live_output = LiveOutput(Ledger([STARTED]), is_ordered=False)
    assert live_output.on_partial_output(partial(3, 0, b"a\n")) == shown(b"a\n")
    assert live_output.on_partial_output(partial(3, 0, b"b\n", attempt=1)) == shown(b"b\n")
    assert live_output.on_partial_output(partial(3, 2, b"c\n")) == []
    assert live_output.take_shown(result(3)) == ()
    assert live_output.on_partial_output(partial(3, 0, b"b\n", attempt=1)) == shown(b"b\n")
    assert live_output.take_shown(result(3, attempt=1)) == ((3, 2),)


def test_ordered_lines_wait_for_turn() -> None:
    ledger = Ledger([STARTED])
    live_output = LiveOutput(ledger, is_ordered=True)
    assert live_output.on_partial_output(partial(1, 0, b"b\n")) == []
    assert live_output.on_partial_output(partial(0, 0, b"a\n")) == shown(b"a\n")
    assert live_output.show_next_in_order() == []
    ledger.next_in_order = 1
    assert live_output.show_next_in_order() == shown(b"b\n")
    assert live_output.show_next_in_order() == []
    assert live_output.on_partial_output(partial(1, 2, b"c\n")) == shown(b"c\n")


def test_buffer_of_waiting_task_is_bounded() -> None:
    ledger = Ledger([STARTED])
    live_output = LiveOutput(ledger, is_ordered=True)
    line = b"x" * 1023 + b"\n"
    for number in range(2 * MAX_BUFFERED_BYTES // len(line)):
        live_output.on_partial_output(partial(1, number * len(line), line))
    ledger.next_in_order = 1
    ((send,),) = [live_output.show_next_in_order()]
    assert isinstance(send.message, WriteLines)
    assert MAX_BUFFERED_BYTES < len(send.message.body) <= MAX_BUFFERED_BYTES + len(line)
    assert live_output.take_shown(result(1)) == ((1, len(send.message.body)),)
