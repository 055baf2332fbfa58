"""What a callable is called with and finds around it, and what is told of it where an account is wanted."""

from __future__ import annotations

from collections.abc import Callable

import callables
from callables import Driver, Start
from orphans import until

from pipeline.words import accounts
from pipeline.words.errands import Look
from pipeline.words.messages import Chunk, Glance
from pipeline.words.parts import Recipe, Shape
from pipeline.words.station import Port

start, module = callables.start, callables.module

SEES = """
    def sees(task):
        e = os.environ
        return [e["PIPE_INDEX"], e["PARALLEL_SEQ"], dict(e)["PIPE_INDEX"], e.get("PIPE_ATTEMPT"), e["PIPE_RUN"]]
    def slots(task): return os.environ["PIPE_SLOT"] == os.environ["PARALLEL_JOBSLOT"]
    def starts(task): return subprocess.run("echo $PIPE_INDEX", shell=True, capture_output=True, text=True).stdout
    def number(task): return int(os.environ["PIPE_INDEX"])
"""
IMPORTS = "\n    import os, subprocess, signal, time\n"


def give(driver: Driver, *records: str, first: int = 0, tries: int = 0) -> None:
    body = "".join(f"{record}\n" for record in records).encode()
    driver.edge.send(Port.EXECUTOR, Chunk("run7", 1, 1, first, len(records), body, tries))


def test_a_short_task_knows_its_number_its_try_and_its_run(start: Start, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":sees")
    give(driver, *"abc", first=41, tries=2)
    outputs = driver.run(3)
    assert outputs[42] == b'["43", "43", "43", "3", "run7"]\n'
    assert set(outputs) == {41, 42, 43}


def test_each_of_very_many_knows_its_own_number(start: Start, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":number")
    for first in range(0, 60_000, 10_000):
        give(driver, *("x" for _ in range(10_000)), first=first)
    assert driver.run(60_000) == {task: b"%d\n" % (task + 1) for task in range(60_000)}


def test_processes_that_it_starts_know_it_too(start: Start, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":starts")
    give(driver, *"abcdef")
    assert driver.run(6) == {task: b"%d\n\n" % (task + 1) for task in range(6)}


def test_a_slot_has_one_number(start: Start, module: Callable[[str], str]) -> None:
    driver = start(module(IMPORTS + SEES) + ":slots")
    give(driver, *"ab")
    assert set(driver.run(2).values()) == {b"true\n"}


def called(start: Start, module: Callable[[str], str], shape: Shape, *records: str) -> Driver:
    driver = start(module("def told(*values, **named): return [values, named]") + ":told")
    driver.edge.send(Port.EXECUTOR, Recipe(shape=shape))
    give(driver, *records)
    return driver


def test_columns_are_arguments_and_names_are_theirs(start: Start, module: Callable[[str], str]) -> None:
    driver = called(start, module, "columns", '["a","b"]', '{"x":"1"}', '{"x":"1","x":"2"}', "[", "[1]")
    outputs = driver.run(5)
    assert (outputs[0], outputs[1]) == (b'[["a", "b"], {}]\n', b'[[], {"x": "1"}]\n')
    assert [note.task for note in driver.notes()] == [2, 3]
    assert "two columns have the same name" in driver.notes()[0].text


def test_json_is_a_value_and_what_is_none_fails_alone(start: Start, module: Callable[[str], str]) -> None:
    driver = called(start, module, "json", '{"a": [1]}', "", "{", "7")
    outputs = driver.run(4)
    assert (outputs[0], outputs[3]) == (b'[[{"a": [1]}], {}]\n', b"[[7], {}]\n")
    assert [(note.task, note.kind) for note in driver.notes()] == [(1, "exception"), (2, "exception")]
    assert "a blank line is no JSON" in driver.notes()[0].text


def test_each_has_an_account_also_the_one_that_took_its_process_along(
    start: Start, module: Callable[[str], str]
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
    driver.edge.send(Port.EXECUTOR, Recipe(collect_metrics=True))
    give(driver, "works", "dies", "raises")
    driver.run(3)
    for done in driver.dones():
        accounts.check(done.accounts, done.count, len(done.errors))
    told = {done.first: account for done in driver.dones() for account in accounts.each(done.accounts)}
    assert sorted(told) == [0, 1, 2]
    assert {account.record for account in told.values()} == {b"works", b"dies", b"raises"}
    assert told[0].cpu >= 0.05
    assert told[0].seconds >= told[0].cpu
    assert told[0].rss > 1_000_000
    assert told[0].command == f"{path}:value('works')".encode()
    assert told[2].errors > 0
    assert told[1].slot in {1, 2}


def test_who_looks_sees_what_runs(start: Start, module: Callable[[str], str]) -> None:
    path = module("import time\ndef value(task): time.sleep(60 if task == 'long' else 0)")
    driver = start(path + ":value")
    give(driver, "long")

    def seen() -> bool:
        driver.edge.send(Port.EXECUTOR, Look())
        found = [word for word in driver.edge.receive() if isinstance(word, Glance)]
        return any(doing.task == 0 and "long" in doing.command for word in found for doing in word.doing)

    until(seen)
