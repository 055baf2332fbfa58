"""What a callable is called with and finds around it, and what is told of it where an account is wanted."""

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


def give(driver: CallDriver, *records: str, first: int = 0, tries: int = 0) -> None:
    body = "".join(f"{record}\n" for record in records).encode()
    driver.executor.send(Port.EXECUTOR, Chunk("run7", 1, 1, first, len(records), body, tries))


def test_a_short_task_knows_its_number_its_try_and_its_run(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":sees")
    give(driver, *"abc", first=41, tries=2)
    outputs = driver.run(3)
    assert outputs[42] == b'["43", "43", "43", "3", "run7"]\n'
    assert set(outputs) == {41, 42, 43}


def test_each_of_very_many_knows_its_own_number(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":number")
    for first in range(0, 60_000, 10_000):
        give(driver, *("x" for _ in range(10_000)), first=first)
    assert driver.run(60_000) == {task: b"%d\n" % (task + 1) for task in range(60_000)}


def test_processes_that_it_starts_know_it_too(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":starts")
    give(driver, *"abcdef")
    assert driver.run(6) == {task: b"%d\n\n" % (task + 1) for task in range(6)}


def test_a_slot_has_one_number(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":slots")
    give(driver, *"ab")
    assert set(driver.run(2).values()) == {b"true\n"}


def called(start: StartDriver, module: Callable[[str], str], shape: Shape, *records: str) -> CallDriver:
    driver = start(module("def told(*values, **named): return [values, named]") + ":told")
    driver.executor.send(Port.EXECUTOR, RecordFormat(shape=shape))
    give(driver, *records)
    return driver


def test_columns_are_arguments_and_names_are_theirs(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = called(start, module, "columns", '["a","b"]', '{"x":"1"}', '{"x":"1","x":"2"}', "[", "[1]")
    outputs = driver.run(5)
    assert (outputs[0], outputs[1]) == (b'[["a", "b"], {}]\n', b'[[], {"x": "1"}]\n')
    assert [note.task for note in driver.failures()] == [2, 3]
    assert "two columns have the same name" in driver.failures()[0].text


def test_json_is_a_value_and_what_is_none_fails_alone(start: StartDriver, module: Callable[[str], str]) -> None:
    driver = called(start, module, "json", '{"a": [1]}', "", "{", "7")
    outputs = driver.run(4)
    assert (outputs[0], outputs[3]) == (b'[[{"a": [1]}], {}]\n', b"[[7], {}]\n")
    assert [(note.task, note.kind) for note in driver.failures()] == [(1, "exception"), (2, "exception")]
    assert "a blank line is no JSON" in driver.failures()[0].text


def test_each_has_an_account_also_the_one_that_took_its_process_along(
    start: StartDriver, module: Callable[[str], str]
) -> None:
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
    give(driver, "works", "dies", "raises")
    driver.run(3)
    for done in driver.finished_messages():
        results.check_metrics(done.metrics, done.count, len(done.stderr))
    told = {
        done.first: account for done in driver.finished_messages() for account in results.decode_metrics(done.metrics)
    }
    assert sorted(told) == [0, 1, 2]
    assert {account.record for account in told.values()} == {b"works", b"dies", b"raises"}
    assert told[0].cpu_seconds >= 0.05
    assert told[0].seconds >= told[0].cpu_seconds
    assert told[0].max_rss > 1_000_000
    assert told[0].command == f"{path}:value('works')".encode()
    assert told[2].stderr_size > 0
    assert told[1].slot in {1, 2}


def test_who_looks_sees_what_runs(start: StartDriver, module: Callable[[str], str]) -> None:
    path = module("import time\ndef value(task): time.sleep(60 if task == 'long' else 0)")
    driver = start(path + ":value")
    give(driver, "long")

    def seen() -> bool:
        driver.executor.send(Port.EXECUTOR, QueryActivity())
        found = [word for word in driver.executor.receive() if isinstance(word, WorkerActivity)]
        return any(doing.task == 0 and "long" in doing.command for word in found for doing in word.running_tasks)

    wait_until(seen)
