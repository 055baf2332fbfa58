"""Children in their slots: which they get, what they see of it, their lines as they come, and what runs now."""

from __future__ import annotations

import os
import select
from typing import TYPE_CHECKING

import pytest

from pipeline.model.events import CancelTasks
from pipeline.model.messages import RecordFormat
from pipeline.model.state_machine import NEVER, Port
from tests.unit.executor.command_driver import TIMEOUT_SECONDS, make_driver

if TYPE_CHECKING:
    from pathlib import Path

STREAMED = RecordFormat(stream_output=True)
SEEN = "$PIPE_INDEX $PIPE_ATTEMPT $PIPE_RUN $PIPE_SLOT $PARALLEL_SEQ $PARALLEL_JOBSLOT"


def test_a_task_sees_its_number_its_try_its_run_and_its_slot() -> None:
    with make_driver(f"echo {SEEN} {{#}} {{%}} {{}}", slots=1) as it:
        it.tries = 1
        it.send_records(b"a", b"b", first=41)
        it.run_until(lambda: len(it.outputs) == 2)
    assert it.outputs == {41: b"42 2 run 1 42 1 42 1 a\n", 42: b"43 2 run 1 43 1 43 1 b\n"}


def test_slots_are_never_more_than_there_are_and_the_lowest_free_one_is_taken(tmp_path: Path) -> None:
    gates = [tmp_path / f"{number}" for number in range(5)]
    for gate in gates:
        os.mkfifo(gate)
    with make_driver("read x < {}; echo $PIPE_SLOT", slots=3) as it:
        it.send_records(*(os.fsencode(gate) for gate in gates))
        for task, slot in ((1, b"2"), (0, b"1"), (3, b"2"), (2, b"3"), (4, b"1")):
            it.run_until(lambda task=task: any(doing.task == task for doing in it.query_running().running_tasks))  # type: ignore[misc]
            gates[task].write_text("go\n")
            it.run_until(lambda task=task: task in it.outputs)  # type: ignore[misc]
            assert it.outputs[task] == slot + b"\n"


def test_of_several_free_slots_the_lowest_is_taken(tmp_path: Path) -> None:
    gates = [tmp_path / f"{number}" for number in range(3)]
    for gate in gates:
        os.mkfifo(gate)
    with make_driver("[ -p {} ] && read x < {}; echo $PIPE_SLOT", slots=3) as it:
        it.send_records(*(os.fsencode(gate) for gate in gates))
        for task in (2, 1, 0):
            it.run_until(lambda task=task: any(doing.task == task for doing in it.query_running().running_tasks))  # type: ignore[misc]
            gates[task].write_text("go\n")
            it.run_until(lambda task=task: task in it.outputs)  # type: ignore[misc]
        it.send_records(b"a", first=3)
        it.run_until(lambda: 3 in it.outputs)
    assert [it.outputs[task] for task in range(4)] == [b"1\n", b"2\n", b"3\n", b"1\n"]


def test_a_slot_is_free_although_something_in_the_background_still_writes() -> None:
    with make_driver("sleep 1000 & echo $PIPE_SLOT {}", slots=1) as it:
        assert it.run_records(b"a", b"b", b"c") == [b"1 a\n", b"1 b\n", b"1 c\n"]


def test_whole_lines_are_said_while_their_task_runs(tmp_path: Path) -> None:
    gates = [tmp_path / "one", tmp_path / "two"]
    for gate in gates:
        os.mkfifo(gate)
    with make_driver("sh", "-c", 'echo a; echo b; printf half; read x < "$1"; echo; read x < "$2"; printf end', "sh",
              *map(str, gates), tag="{}", record_format=STREAMED) as it:  # fmt: skip
        it.send_records(b"7")
        it.run_until(lambda: b"".join(body for *_, body in it.lines) == b"7\ta\n7\tb\n")
        gates[0].write_text("go\n")
        it.run_until(lambda: it.lines[-1:] == [(0, 8, b"7\thalf\n")])
        gates[1].write_text("go\n")
        it.run_until(lambda: len(it.outputs) == 1)
    assert it.outputs == {0: b"7\ta\n7\tb\n7\thalf\n7\tend"}


def test_who_is_listened_to_from_the_start_needs_no_second_look() -> None:
    with make_driver("sleep {}", record_format=STREAMED) as it:
        it.send_records(b"1000")
        it.executor.receive()
        assert it.executor.deadline == NEVER


def test_lines_of_a_task_that_has_ended_are_not_said_twice() -> None:
    with make_driver("echo {}", record_format=STREAMED) as it:
        it.send_records(b"a")
        it.executor.receive()
        ended, _ = it.executor.pollables()
        assert isinstance(ended, int)
        assert select.select([ended], [], [], TIMEOUT_SECONDS)[0]
        it.run_until(lambda: it.outputs == {0: b"a\n"})
    assert it.lines == []


def test_nobody_hears_lines_who_has_not_asked(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with make_driver("echo a; cat {}", slots=1) as it:
        it.send_records(os.fsencode(gate))
        it.run_until(lambda: len(it.query_running().running_tasks) == 1)
        gate.write_text("b\n")
        it.run_until(lambda: it.outputs == {0: b"a\nb\n"})
    assert it.lines == []


def test_lines_of_a_cancelled_task_are_not_said() -> None:
    with make_driver("while :; do echo {}; done", record_format=STREAMED) as it:
        it.send_records(b"1")
        it.run_until(lambda: len(it.lines) > 0)
        it.executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
        it.lines.clear()
        it.run_until(lambda: not it.query_running().running_tasks)
    assert it.lines == []


def test_a_flood_without_a_newline_is_told_at_its_end() -> None:
    with make_driver("head -c {} /dev/zero", slots=1, record_format=STREAMED) as it:
        assert [len(text) for text in it.run_records(b"5000000")] == [5_000_000]
    assert it.lines == []


def test_what_runs_now_is_told_to_who_looks(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with make_driver(f"cat {gate} {{}}{' ' * 100}") as it:
        assert it.query_running().running_tasks == ()
        it.send_records(b"/dev/null", b"x" * 200, first=3)
        it.run_until(lambda: len(it.query_running().running_tasks) == 2)
        seen = it.query_running()
        assert [(doing.task, doing.slot) for doing in seen.running_tasks] == [(3, 1), (4, 2)]
        assert seen.running_tasks[0].command == f"cat {gate} /dev/null"
        assert len(seen.running_tasks[1].command) == 120
        assert all(doing.seconds >= 0 for doing in seen.running_tasks)
        assert seen.memory > 1 << 20
        for _ in range(2):
            with gate.open("w") as file:
                file.write("go\n")
        it.run_until(lambda: len(it.outputs) == 2)
        assert it.query_running().running_tasks == ()


@pytest.mark.parametrize("record", [b'["a","b"]', b'{"x":"a","y":"b"}'])
def test_columns_are_filled_in_and_tagged(record: bytes) -> None:
    with make_driver("printf '%s-' {2} {1}", record_format=RecordFormat(shape="columns"), tag="") as it:
        assert it.run_records(record) == [b"a b\tb-a-"]


def test_a_record_that_does_not_fit_fails_alone() -> None:
    with make_driver("echo {1}", record_format=RecordFormat(shape="json", collect_metrics=True), slots=1) as it:
        assert it.run_records(b'["a"]', b"", b"{", b'"b"') == [b"a\n", b"", b"", b"b\n"]
    assert {task: note.kind for task, note in it.failures.items()} == {1: "exception", 2: "exception"}
    assert it.failures[1].code == 1
    assert it.records == {1: b"", 2: b"{"}
    assert it.metrics[2].record == b"{"
    assert it.metrics[2].started_at > 0


def test_a_task_can_name_its_program() -> None:
    with make_driver("{tool} {word}", record_format=RecordFormat(shape="columns")) as it:
        told = it.run_records(b'{"tool":"echo","word":"a b"}', b'{"tool":"no-such-command","word":"c"}')
    assert told == [b"a b\n", b""]
    assert (it.failures[1].kind, it.failures[1].code) == ("exit", 127)


def test_without_a_command_each_task_is_a_command_line() -> None:
    with make_driver() as it:
        told = it.run_records(b"echo a  b", b"", b"echo $((1 + 1)) | cat", b"exit 3", b"no-such-command")
    assert told == [b"a b\n", b"", b"2\n", b"", b""]
    assert {task: note.code for task, note in it.failures.items()} == {3: 3, 4: 127}
