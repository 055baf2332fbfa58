"""Main loop of a warm process, which calls one function with each task of batch after batch.

The process reads the header of a batch from its socket and the records from shared memory, and publishes each result
there as soon as it has it. It ends when the worker closes the socket, or when it is killed.

Invariants:
  - an exception of a task fails that task only;
  - text is UTF-8, in any locale; bytes that are not UTF-8 are lone surrogates in it, as by os.fsdecode, and come back;
  - the process uses nothing of the worker except socket and shared memory;
  - `os.environ` contains the variables of the running task. Setting one takes longer than a short task, so the task
    number is computed when it is read; only in small batches, whose tasks may be long, it is really set, so that
    processes started by the task inherit it.
"""

from __future__ import annotations

import inspect
import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import compress
from resource import RUSAGE_SELF, getrusage
from socket import socket
from time import perf_counter, process_time
from typing import Any, NamedTuple

from pipeline.executor.callable_loader import error_line, traceback_text
from pipeline.executor.child_channel import (
    BATCH_HEADER,
    CHILD_MESSAGE,
    FAILED,
    FINISHED,
    HALT_EVENTS,
    INIT_FAILED,
    MAX_RESULT_BYTES,
    MAX_RUN_NAME_BYTES,
    MAX_TEXT_CHARS,
    NO_TERMINATOR,
    READY,
    RESOURCE_USAGE,
    SHAPES,
    TOO_LARGE,
    HaltGate,
    SharedBatch,
)
from pipeline.executor.limits import too_large_text
from pipeline.model.option_values import HaltEvent
from pipeline.model.records import encode_json

SMALL_BATCH_TASKS = 16  # up to which the variables of each task are really set
SMALL_INTEGERS = {number: b"%d\n" % number for number in range(1000)}
"""Encoded results. Looking a number up takes a third of the time of encoding it."""
TASK_NUMBER_VARIABLES = ("PIPE_INDEX", "PARALLEL_SEQ")

Function = Callable[..., Any]


class TooLargeError(Exception):
    """A task has returned more bytes than it may."""


class BytesParameters:
    """The parameters of a function that are annotated as `bytes`."""

    def __init__(self, function: Function) -> None:
        self._is_bytes: dict[int | str, bool] = {}
        self._defaults = {int: False, str: False}
        """For positions and names that no parameter has alone."""
        with suppress(Exception):  # an object without a signature, or with annotations that raise
            for index, parameter in enumerate(inspect.signature(function).parameters.values()):
                is_bytes = parameter.annotation is bytes or str(parameter.annotation) == "bytes"
                if parameter.kind is parameter.VAR_POSITIONAL:
                    self._defaults[int] = is_bytes
                elif parameter.kind is parameter.VAR_KEYWORD:
                    self._defaults[str] = is_bytes
                else:
                    self._is_bytes[parameter.name] = is_bytes
                    if parameter.kind is not parameter.KEYWORD_ONLY:
                        self._is_bytes[index] = is_bytes

    def __contains__(self, key: int | str) -> bool:
        """Return whether the parameter at this position, or with this name, is one of them."""
        return self._is_bytes.get(key, self._defaults[type(key)])

    def convert(self, key: int | str, value: Any) -> Any:
        """Return the argument for this parameter: bytes if it is text and is to be bytes."""
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) and key in self else value


class CallSpec(NamedTuple):
    """The function of a warm process, what to call once before it, the most bytes of a result, and the halt gate."""

    function: Function
    prepare: Callable[[], Any] | None
    max_result_bytes: int
    halt_gate: HaltGate


def run_child(channel: socket, shared_batches: Sequence[SharedBatch], call_spec: CallSpec) -> None:
    """Prepare once, then run batches until the worker closes the socket."""
    prepare = call_spec.prepare
    if prepare:
        try:
            prepare()
        except BaseException as error:  # noqa: BLE001 - it is the user's code, and may raise anything
            _send_texts(channel, INIT_FAILED, 0, [error_line(error), traceback_text(error)])
            return
    bytes_parameters = BytesParameters(call_spec.function)
    channel.send(CHILD_MESSAGE.pack(READY, 0, 0.0))
    environ = TaskEnviron()
    while header := channel.recv(BATCH_HEADER.size + MAX_RUN_NAME_BYTES):
        which, count, size, separator, first, attempt, slot, shape, has_metrics, event, closes_gate = (
            BATCH_HEADER.unpack_from(header)
        )
        batch = shared_batches[which]
        body_layout = batch.set_layout(count, size), separator
        environ.start_batch(header[BATCH_HEADER.size :].decode(), attempt, slot, first, batch.finished_count)
        before_task = environ.set_task if 1 < count <= SMALL_BATCH_TASKS else None
        spec = call_spec._replace(function=adapt_arguments(call_spec.function, SHAPES[shape], bytes_parameters))
        watch = HaltWatch(channel, call_spec.halt_gate, slot, HALT_EVENTS[event], closes_gate=bool(closes_gate))
        start, cpu_start = perf_counter(), process_time()
        _run_batch(watch, batch, body_layout, spec, first, before_task)
        watch.end_batch()
        sys.stdout.flush()
        sys.stderr.flush()
        message = CHILD_MESSAGE.pack(FINISHED, 0, perf_counter() - start)
        if has_metrics:
            message += RESOURCE_USAGE.pack(process_time() - cpu_start, getrusage(RUSAGE_SELF).ru_maxrss * 1024)
        channel.send(message)


def adapt_arguments(function: Function, shape: str, bytes_parameters: BytesParameters) -> Function:
    """Return a function that accepts a record of this shape."""
    convert = bytes_parameters.convert
    if shape == "line":
        return (lambda record: function(convert(0, record))) if 0 in bytes_parameters else function

    def call_with_record(record: str) -> Any:
        if not record.strip():
            raise ValueError("not JSON: blank line")
        if shape == "json":
            return function(convert(0, json.loads(record)))
        fields = json.loads(record, object_pairs_hook=tuple)
        if isinstance(fields, tuple):
            arguments = dict(fields)
            if len(arguments) < len(fields):
                raise ValueError("two columns have the same name, so they cannot be named arguments")
            return function(**{name: convert(name, value) for name, value in arguments.items()})
        return function(*[convert(index, value) for index, value in enumerate(fields)])

    return call_with_record


class HaltWatch:
    """The outcomes of a batch: failures are sent, and an outcome that may end the run closes the gate.

    A batch whose end closes it (at `success` or `done`) has one task.
    """

    def __init__(self, channel: socket, gate: HaltGate, slot: int, event: HaltEvent, *, closes_gate: bool) -> None:
        self._channel, self._gate, self._slot, self._event = channel, gate, slot, event
        self._closes_gate, self._has_failed = closes_gate, False

    def start_flags(self, batch: SharedBatch) -> Iterable[int]:
        """Return the flags of tasks that may be started, to be read before each."""
        return self._gate.filter(batch.start_flags()) if self._event else batch.start_flags()

    def send_failure(self, kind: int, index: int, texts: list[str]) -> None:
        self._has_failed = True
        if self._closes_gate and self._event == "fail":
            self._gate.set(self._slot, is_closed=True)
        _send_texts(self._channel, kind, index, texts)

    def end_batch(self) -> None:
        if self._closes_gate and (self._event == "done" or (self._event == "success" and not self._has_failed)):
            self._gate.set(self._slot, is_closed=True)


def _run_batch(
    watch: HaltWatch,
    batch: SharedBatch,
    body_layout: tuple[int, int],
    call_spec: CallSpec,
    first: int,
    before_task: Callable[[int], None] | None,
) -> None:
    """Run the tasks of a batch until its end, or until the worker stops it.

    `body_layout` is the offset of the records and their terminator; `before_task` gets each task's number.
    """
    tasks = _decode_tasks(batch.open_records(body_layout[0]), body_layout[1])
    function, max_bytes = call_spec.function, call_spec.max_result_bytes
    is_unlimited = max_bytes >= MAX_RESULT_BYTES  # then the size of a number is not checked
    ends, write, end, encode_small = batch.ends(), batch.map.write, 0, SMALL_INTEGERS.get
    # compress reads a start flag as late as possible, at no cost
    for index, task in compress(enumerate(tasks), watch.start_flags(batch)):
        if before_task:
            before_task(first + index)
        try:
            value = function(task)
            if is_unlimited and type(value) is int:
                data = encode_small(value) or b"%d\n" % value
            else:
                data = encode_result(value, max_bytes)
        except TooLargeError as error:
            watch.send_failure(TOO_LARGE, index, [str(error), ""])
            data = b""
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, fails only this task
            watch.send_failure(FAILED, index, [error_line(error), traceback_text(error)])
            data = b""
        try:
            end += write(data)
        except ValueError:
            # the memory is full: enlarge it, and end the batch so that the worker reads it before the next task
            batch.append_output(index, end, data)
            return
        ends[index] = end


def _decode_tasks(body: memoryview, terminator: int) -> Sequence[str]:
    """Return the tasks as text."""
    if terminator == NO_TERMINATOR:
        return [str(body, "utf-8", "surrogateescape")]
    text = str(body[:-1], "utf-8", "surrogateescape")
    return text.split(chr(terminator)) if chr(terminator) in text else [text]


def encode_result(value: object, max_bytes: int) -> bytes:
    """Return a result's bytes, with a newline: text and bytes as they are, None as nothing, all else as JSON.

    Raises ValueError or TypeError for a value that cannot be encoded, TooLargeError for one above `max_bytes`.
    """
    if value is None:
        return b""
    if isinstance(value, str):
        data = f"{value}\n".encode("utf-8", "surrogateescape")
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value) + b"\n"
    else:
        data = encode_json(value) + b"\n"
    if len(data) > max_bytes:
        raise TooLargeError(too_large_text(max_bytes))
    return data


def _send_texts(channel: socket, kind: int, index: int, texts: list[str]) -> None:
    """Send texts about a task; the middle of a long one is cut."""
    half = MAX_TEXT_CHARS // 2
    cut = [text if len(text) <= MAX_TEXT_CHARS else f"{text[:half]}\n[...]\n{text[-half:]}" for text in texts]
    channel.send(CHILD_MESSAGE.pack(kind, index, 0.0) + json.dumps(cut).encode())


class TaskEnviron:
    """Task variables in `os.environ` of a warm process."""

    def __init__(self) -> None:
        self._last_values: tuple[str, int, int] = "", -1, -1
        os.environ.__class__ = _LazyEnviron

    def start_batch(self, run: str, attempt: int, slot: int, first: int, finished_count: Callable[[], int]) -> None:
        """Set the variables for a batch that starts with task `first`, counted from 0."""
        _LazyEnviron.get_task_number = staticmethod(lambda: first + finished_count() + 1)
        if (run, attempt, slot) != self._last_values:
            self._last_values = run, attempt, slot
            os.environ["PIPE_RUN"], os.environ["PIPE_ATTEMPT"] = run, str(attempt + 1)
            os.environ["PIPE_SLOT"] = os.environ["PARALLEL_JOBSLOT"] = str(slot)
        self.set_task(first)

    def set_task(self, task: int) -> None:
        """Set the task number really, for started processes, which inherit the environment."""
        for name in TASK_NUMBER_VARIABLES:
            os.environ[name] = str(task + 1)


class _LazyEnviron(os._Environ):  # type: ignore[type-arg]  # noqa: SLF001 -- to be os.environ, it must be of its class
    """The environment in which the task number is computed when it is read."""

    get_task_number: Callable[[], int] = staticmethod(lambda: 0)

    def __getitem__(self, key: str) -> str:
        value: str = super().__getitem__(key)
        return str(type(self).get_task_number()) if key in TASK_NUMBER_VARIABLES else value
