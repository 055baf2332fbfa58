"""Arguments, environment and metrics of calls in a warm process."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.model import results
from pipeline.model.events import QueryActivity
from pipeline.model.messages import Chunk, RecordFormat, Shape, WorkerActivity
from pipeline.model.state_machine import Port
from tests.support.processes import wait_until
from tests.unit.executor import call_driver
from tests.unit.executor.call_driver import CallDriver, StartDriver

start, module = call_driver.start, call_driver.module

SEES = """
    def sees(task):
        e = os.environ
        return [e["PIPE_INDEX"], e["PARALLEL_SEQ"], dict(e)["PIPE_INDEX"], e.get("PIPE_ATTEMPT"), e["PIPE_RUN"]]
    def slots(task): return os.environ["PIPE_SLOT"] == os.environ["PARALLEL_JOBSLOT"]
    def starts(task): return subprocess.run("echo $PIPE_INDEX", shell=True, capture_output=True, text=True).stdout
    def number(task): return int(os.environ["PIPE_INDEX"])
"""
IMPORTS = "\n    import os, subprocess, signal, time\n"


def send_records(driver: CallDriver, *records: str, first: int = 0, attempt: int = 0) -> None:
    body = "".join(f"{record}\n" for record in records).encode()
    driver.executor.send(Port.EXECUTOR, Chunk("run7", 1, 1, first, len(records), body, attempt))


def test_task_environ_short_task_sees_its_variables(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":sees")
    send_records(driver, *"abc", first=41, attempt=2)
    outputs = driver.run(3)
    assert outputs[42] == b'["43", "43", "43", "3", "run7"]\n'
    assert set(outputs) == {41, 42, 43}


def test_task_environ_many_tasks_see_their_numbers(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":number")
    for first in range(0, 60_000, 10_000):
        send_records(driver, *("x" for _ in range(10_000)), first=first)
    assert driver.run(60_000) == {task: b"%d\n" % (task + 1) for task in range(60_000)}


def test_task_environ_is_inherited_by_subprocesses(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":starts")
    send_records(driver, *"abcdef")
    assert driver.run(6) == {task: b"%d\n\n" % (task + 1) for task in range(6)}


def test_task_environ_slot_variables_agree(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":slots")
    send_records(driver, *"ab")
    assert set(driver.run(2).values()) == {b"true\n"}


def start_with_shape(start: StartDriver, module: Callable[[str], str], shape: Shape, *records: str) -> CallDriver:
    driver = start(module("def echo(*values, **named): return [values, named]") + ":echo")
    driver.executor.send(Port.EXECUTOR, RecordFormat(shape=shape))
    send_records(driver, *records)
    return driver


def test_adapt_arguments_columns_become_arguments(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start_with_shape(start, module, "columns", '["a","b"]', '{"x":"1"}', '{"x":"1","x":"2"}', "[", "[1]")
    outputs = driver.run(5)
    assert (outputs[0], outputs[1]) == (b'[["a", "b"], {}]\n', b'[[], {"x": "1"}]\n')
    assert [failure.task for failure in driver.failures()] == [2, 3]
    assert "two columns have the same name" in driver.failures()[0].text


def test_adapt_arguments_json_becomes_a_value(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start_with_shape(start, module, "json", '{"a": [1]}', "", "{", "7")
    outputs = driver.run(4)
    assert (outputs[0], outputs[3]) == (b'[[{"a": [1]}], {}]\n', b"[[7], {}]\n")
    assert [(failure.task, failure.kind) for failure in driver.failures()] == [(1, "exception"), (2, "exception")]
    assert "not JSON: blank line" in driver.failures()[0].text


def test_warm_process_metrics_include_crashed_tasks(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module(
        IMPORTS
        + """
    def value(task):
        if task == "dies": os.kill(os.getpid(), signal.SIGKILL)
        if task == "raises": raise OSError("oh")
        end = time.process_time() + 0.05
        while time.process_time() < end: pass
        return task
    """
    )
    driver = start(path + ":value")
    driver.executor.send(Port.EXECUTOR, RecordFormat(collect_metrics=True))
    send_records(driver, "works", "dies", "raises")
    driver.run(3)
    for report in driver.finished_messages():
        results.check_metrics(report.metrics, report.count, len(report.stderr))
    metrics_by_task = {
        report.first: metrics
        for report in driver.finished_messages()
        for metrics in results.decode_metrics(report.metrics)
    }
    assert sorted(metrics_by_task) == [0, 1, 2]
    assert {metrics.record for metrics in metrics_by_task.values()} == {b"works", b"dies", b"raises"}
    assert metrics_by_task[0].cpu_seconds >= 0.05
    assert metrics_by_task[0].seconds >= metrics_by_task[0].cpu_seconds
    assert metrics_by_task[0].max_rss > 1_000_000
    assert metrics_by_task[0].command == f"{path}:value('works')".encode()
    assert metrics_by_task[2].stderr_size > 0
    assert metrics_by_task[1].slot in {1, 2}


def test_call_executor_query_activity_lists_calls(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("import time\ndef value(task): time.sleep(60 if task == 'long' else 0)")
    driver = start(path + ":value")
    send_records(driver, "long")

    def seen() -> bool:
        driver.executor.send(Port.EXECUTOR, QueryActivity())
        activities = [message for message in driver.executor.receive() if isinstance(message, WorkerActivity)]
        return any(
            running.task == 0 and "long" in running.command
            for message in activities
            for running in message.running_tasks
        )

    wait_until(seen)
