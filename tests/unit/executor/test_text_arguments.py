"""Text and bytes of callables: whatever the bytes of a task are, they arrive and come back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from pipeline.executor.warm_process import BytesParameters, encode_result
from pipeline.model.messages import RecordFormat, Shape
from pipeline.model.records import encode_fields
from pipeline.model.state_machine import Port
from tests.unit.executor import call_driver
from tests.unit.executor.call_driver import StartDriver

start, module = call_driver.start, call_driver.module

RECORDS = ["ä".encode(), b"caf\xe9", b"\xff\xfe\x80", b"", "🙂\u2028".encode()]
FUNCTIONS = """
    from functools import partial
    def same(task): return task
    def wrapped(task): return {"task": task}
    def as_bytes(task: bytes): return task[::-1]
    def types(first: "bytes", second: str, *rest: bytes): return [type(value).__name__ for value in (first, second, *rest)]
    def named(a, b: bytes, *, c: bytes, **more: bytes): return [type(value).__name__ for value in (a, b, c, *more.values())]
    def fails(task): raise ValueError(task)
    def prints(task): print(task, "\\ud800")
    class Reverser:
        def __call__(self, task: bytes): return task[::-1]
    reverser = Reverser()
    bound = partial(types, b"x")
"""  # noqa: E501
Run = Callable[..., list[bytes]]


@pytest.fixture
def run(start: StartDriver, module: Callable[[str], str]) -> Run:
    """Return a function that calls a function with records, and returns the outputs."""

    def call(name: str, *records: bytes, shape: Shape = "line") -> list[bytes]:
        driver = start(f"{module(FUNCTIONS)}:{name}", slots=1)
        driver.executor.send(Port.EXECUTOR, RecordFormat(shape=shape))
        driver.send_records(*records)
        outputs = driver.run(len(records))
        failures = {failure.task: failure.text.encode() for failure in driver.failures()}
        return [failures.get(task, outputs[task]) for task in range(len(records))]

    return call


def test_text_of_any_bytes_comes_back(run: Run) -> None:
    lines = [record + b"\n" for record in RECORDS]
    assert run("same", *RECORDS) == lines
    assert run("same", *map(encode_fields, [[record] for record in RECORDS]), shape="columns") == lines
    assert run("same", *[b'"%s"' % record for record in RECORDS], shape="json") == lines


def test_json_result_with_any_bytes_is_valid_json(run: Run) -> None:
    texts = [json.loads(line)["task"] for line in run("wrapped", *RECORDS)]
    assert [text.encode("utf-8", "surrogateescape") for text in texts] == RECORDS
    assert json.loads(encode_result(["\ud800"], 100)) == ["\ud800"]


def test_parameter_annotated_as_bytes_gets_bytes(run: Run) -> None:
    reverse = [record[::-1] + b"\n" for record in RECORDS]
    assert run("as_bytes", *RECORDS) == run("reverser", *RECORDS) == reverse
    fields = encode_fields([b"\xff", b"b", b"c", b"d"])
    assert run("types", fields, shape="columns") == [b'["bytes", "str", "bytes", "bytes"]\n']
    assert run("bound", fields, shape="columns") == [b'["bytes", "str", "bytes", "bytes", "bytes"]\n']
    fields = encode_fields([b"\xff", b"b", b"c", b"d"], [b"a", b"b", b"c", b"d"])
    assert run("named", fields, shape="columns") == [b'["str", "bytes", "bytes", "bytes"]\n']
    assert run("as_bytes", b'"caf\xe9"', b"[1, 2]", shape="json") == [b"\xe9fac\n", b"[2, 1]\n"]


@pytest.mark.parametrize("function", [str, len, max, print, object()])
def test_callable_without_bytes_parameters_gets_text(function: Callable[..., object]) -> None:
    assert BytesParameters(function).convert(0, "a") == BytesParameters(function).convert("name", "a") == "a"


def test_exception_with_any_bytes_is_reported(run: Run) -> None:
    assert run("fails", b"caf\xe9") == [b"ValueError: caf\\udce9"]


def test_printed_text_of_any_bytes_is_shown(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    run("prints", "ä".encode(), b"caf\xe9")
    assert capfd.readouterr().err.splitlines() == ["ä \\ud800", "caf\ufffd \\ud800"]
