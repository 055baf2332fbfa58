"""ProcessTable and streamed output, with real processes."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING

import pytest

from pipeline.model.events import CancelTasks
from pipeline.model.messages import RecordFormat
from pipeline.model.state_machine import NEVER, Port
from tests.unit.executor.command_driver import TIMEOUT_SECONDS, CommandDriver, make_driver

if TYPE_CHECKING:
    from pathlib import Path

STREAMED = RecordFormat(stream_output=True)
VARIABLES = "$PIPE_INDEX $PIPE_ATTEMPT $PIPE_RUN $PIPE_SLOT $PARALLEL_SEQ $PARALLEL_JOBSLOT"


def test_command_sees_task_attempt_run_and_slot() -> None:
    with make_driver(f"echo {VARIABLES} {{#}} {{%}} {{}}", slots=1) as driver:
        driver.attempt = 1
        driver.send_records(b"a", b"b", first=41)
        driver.run_until(lambda: len(driver.outputs) == 2)
    assert driver.outputs == {41: b"42 2 run 1 42 1 42 1 a\n", 42: b"43 2 run 1 43 1 43 1 b\n"}


def finish_task(driver: CommandDriver, task: int, gate: Path) -> None:
    """Wait until the task runs, open its gate, and wait for its output."""
    driver.run_until(lambda: any(running.task == task for running in driver.query_running().running_tasks))
    gate.write_text("go\n")
    driver.run_until(lambda: task in driver.outputs)


def test_process_table_reuses_the_freed_slot(tmp_path: Path) -> None:
    gates = [tmp_path / f"{number}" for number in range(5)]
    for gate in gates:
        os.mkfifo(gate)
    with make_driver("read x < {}; echo $PIPE_SLOT", slots=3) as driver:
        driver.send_records(*(os.fsencode(gate) for gate in gates))
        for task, slot in ((1, b"2"), (0, b"1"), (3, b"2"), (2, b"3"), (4, b"1")):
            finish_task(driver, task, gates[task])
            assert driver.outputs[task] == slot + b"\n"


def test_process_table_takes_the_lowest_free_slot(tmp_path: Path) -> None:
    gates = [tmp_path / f"{number}" for number in range(3)]
    for gate in gates:
        os.mkfifo(gate)
    with make_driver("[ -p {} ] && read x < {}; echo $PIPE_SLOT", slots=3) as driver:
        driver.send_records(*(os.fsencode(gate) for gate in gates))
        for task in (2, 1, 0):
            finish_task(driver, task, gates[task])
        driver.send_records(b"a", first=3)
        driver.run_until(lambda: 3 in driver.outputs)
    assert [driver.outputs[task] for task in range(4)] == [b"1\n", b"2\n", b"3\n", b"1\n"]


def test_process_table_background_writer_frees_slot(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    with make_driver(f"sleep 1000 & echo $! >>{pids}; echo $PIPE_SLOT {{}}", slots=1) as driver:
        assert driver.run_records(b"a", b"b", b"c") == [b"1 a\n", b"1 b\n", b"1 c\n"]
    for pid in pids.read_text().split():
        os.kill(int(pid), signal.SIGKILL)


def test_streamed_lines_arrive_while_the_task_runs(tmp_path: Path) -> None:
    gates = [tmp_path / "one", tmp_path / "two"]
    for gate in gates:
        os.mkfifo(gate)
    with make_driver("sh", "-c", 'echo a; echo b; printf half; read x < "$1"; echo; read x < "$2"; printf end', "sh",
              *map(str, gates), tag="{}", record_format=STREAMED) as driver:  # fmt: skip
        driver.send_records(b"7")
        driver.run_until(lambda: b"".join(body for *_, body in driver.lines) == b"7\ta\n7\tb\n")
        gates[0].write_text("go\n")
        driver.run_until(lambda: driver.lines[-1:] == [(0, 8, b"7\thalf\n")])
        gates[1].write_text("go\n")
        driver.run_until(lambda: len(driver.outputs) == 1)
    assert driver.outputs == {0: b"7\ta\n7\tb\n7\thalf\n7\tend"}


def test_streamed_task_needs_no_read_deadline() -> None:
    with make_driver("sleep {}", record_format=STREAMED) as driver:
        driver.send_records(b"1000")
        driver.executor.receive()
        assert driver.executor.deadline == NEVER


def test_streamed_lines_of_ended_task_are_not_repeated() -> None:
    with make_driver("echo {}", record_format=STREAMED) as driver:
        driver.send_records(b"a")
        driver.executor.receive()
        ended, _ = driver.executor.pollables()
        assert isinstance(ended, int)
        assert select.select([ended], [], [], TIMEOUT_SECONDS)[0]
        driver.run_until(lambda: driver.outputs == {0: b"a\n"})
    assert driver.lines == []


def test_lines_are_not_streamed_by_default(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with make_driver("echo a; cat {}", slots=1) as driver:
        driver.send_records(os.fsencode(gate))
        driver.run_until(lambda: len(driver.query_running().running_tasks) == 1)
        gate.write_text("b\n")
        driver.run_until(lambda: driver.outputs == {0: b"a\nb\n"})
    assert driver.lines == []


def test_streamed_lines_of_cancelled_task_are_dropped() -> None:
    with make_driver("while :; do echo {}; done", record_format=STREAMED) as driver:
        driver.send_records(b"1")
        driver.run_until(lambda: len(driver.lines) > 0)
        driver.executor.send(Port.EXECUTOR, CancelTasks(((0, 1),)))
        driver.lines.clear()
        driver.run_until(lambda: not driver.query_running().running_tasks)
    assert driver.lines == []


def test_streamed_output_without_newline_comes_at_the_end() -> None:
    with make_driver("head -c {} /dev/zero", slots=1, record_format=STREAMED) as driver:
        assert [len(text) for text in driver.run_records(b"3000000")] == [3_000_000]
    assert driver.lines == []


def test_query_activity_lists_running_tasks(tmp_path: Path) -> None:
    gates = [tmp_path / "gate", tmp_path / ("x" * 200)]
    for gate in gates:
        os.mkfifo(gate)
    with make_driver("cat {}") as driver:
        assert driver.query_running().running_tasks == ()
        driver.send_records(*map(os.fsencode, gates), first=3)
        driver.run_until(lambda: len(driver.query_running().running_tasks) == 2)
        activity = driver.query_running()
        assert [(running.task, running.slot) for running in activity.running_tasks] == [(3, 1), (4, 2)]
        assert activity.running_tasks[0].command == f"cat {gates[0]}"
        assert len(activity.running_tasks[1].command) == 120
        assert all(running.seconds >= 0 for running in activity.running_tasks)
        assert activity.memory > 1 << 20
        for gate in gates:
            gate.write_text("go\n")
        driver.run_until(lambda: len(driver.outputs) == 2)
        assert driver.query_running().running_tasks == ()


@pytest.mark.parametrize("record", [b'["a","b"]', b'{"x":"a","y":"b"}'])
def test_command_columns_are_expanded_and_tagged(record: bytes) -> None:
    with make_driver("printf '%s-' {2} {1}", record_format=RecordFormat(shape="columns"), tag="") as driver:
        assert driver.run_records(record) == [b"a b\tb-a-"]


def test_command_invalid_record_fails_alone() -> None:
    with make_driver("echo {1}", record_format=RecordFormat(shape="json", collect_metrics=True), slots=1) as driver:
        assert driver.run_records(b'["a"]', b"", b"{", b'"b"') == [b"a\n", b"", b"", b"b\n"]
    assert {task: failure.kind for task, failure in driver.failures.items()} == {1: "exception", 2: "exception"}
    assert driver.failures[1].code == 1
    assert driver.records == {1: b"", 2: b"{"}
    assert driver.metrics[2].record == b"{"
    assert driver.metrics[2].started_at > 0


def test_command_program_from_record_runs() -> None:
    with make_driver("{tool} {word}", record_format=RecordFormat(shape="columns")) as driver:
        outputs = driver.run_records(b'{"tool":"echo","word":"a b"}', b'{"tool":"no-such-command","word":"c"}')
    assert outputs == [b"a b\n", b""]
    assert (driver.failures[1].kind, driver.failures[1].code) == ("exit", 127)


def test_command_missing_runs_records_as_commands() -> None:
    with make_driver() as driver:
        outputs = driver.run_records(b"echo a  b", b"", b"echo $((1 + 1)) | cat", b"exit 3", b"no-such-command")
    assert outputs == [b"a b\n", b"", b"2\n", b"", b""]
    assert {task: failure.code for task, failure in driver.failures.items()} == {3: 3, 4: 127}
