"""Main loop of a warm process; task variables in os.environ.

What a callable finds in `os.environ` of the task that it is called with: its number, its try, its run, its slot.

To set a variable takes longer than a short task. So the number is computed when somebody reads it, from how far the
batch has come; where tasks are few, and so may be long, it is really set, and processes that they start see it, too.

A warm child from the inside: one function, called with each task of batch after batch.

It reads a batch's sizes from its socket, the tasks from its arena, and publishes each result there as it comes. What
a task raises fails that task alone. Its life ends when the agent's end of the socket closes, or it is killed.
It never reads or writes anything of the agent's but these two.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
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
    INIT_FAILED,
    MAX_RESULT_BYTES,
    MAX_RUN_NAME_BYTES,
    MAX_TEXT_CHARS,
    NO_TERMINATOR,
    READY,
    RESOURCE_USAGE,
    SHAPES,
    TOO_LARGE,
    SharedBatch,
)
from pipeline.executor.limits import too_large_text

SMALL_BATCH_TASKS = 16
"""Tasks in a batch up to which each is set."""
TASK_NUMBER_VARIABLES = ("PIPE_INDEX", "PARALLEL_SEQ")


class _LazyEnviron(os._Environ):  # type: ignore[type-arg]  # noqa: SLF001 -- to be os.environ, it must be of its class
    """The environment, in which the numbers are those of the present task."""

    get_task_number: Callable[[], int] = staticmethod(lambda: 0)

    def __getitem__(self, key: str) -> str:
        value: str = super().__getitem__(key)
        return str(type(self).get_task_number()) if key in TASK_NUMBER_VARIABLES else value


class TaskEnviron:
    """Of one warm child."""

    def __init__(self) -> None:
        self._last_values: tuple[str, int, int] = "", -1, -1
        os.environ.__class__ = _LazyEnviron

    def start_batch(self, run: str, attempt: int, slot: int, first: int, finished_count: Callable[[], int]) -> None:
        """A batch, which begins with task `first`, counted from 0; `present` counts those that have ended."""
        _LazyEnviron.get_task_number = staticmethod(lambda: first + finished_count() + 1)
        if (run, attempt, slot) != self._last_values:
            self._last_values = run, attempt, slot
            os.environ["PIPE_RUN"], os.environ["PIPE_ATTEMPT"] = run, str(attempt + 1)
            os.environ["PIPE_SLOT"] = os.environ["PARALLEL_JOBSLOT"] = str(slot)
        self.set_task(first)

    def set_task(self, task: int) -> None:
        """This one is the present task, for who looks into the environment of a process."""
        for name in TASK_NUMBER_VARIABLES:
            os.environ[name] = str(task + 1)


SMALL_INTEGERS = {number: b"%d\n" % number for number in range(1000)}
"""Small numbers as they are written; looking them up takes a third of the time."""

Function = Callable[..., Any]


class TooLargeError(Exception):
    """A task has returned more bytes than it may."""


class CallSpec(NamedTuple):
    """What a warm child does: call `function` with each task, after `prepare`; `most` bytes a result may have."""

    function: Function
    prepare: Callable[[], Any] | None
    max_result_bytes: int


def run_child(channel: socket, shared_batches: Sequence[SharedBatch], call_spec: CallSpec) -> None:
    """Prepare once, then run batches until the agent closes its end."""
    prepare = call_spec.prepare
    if prepare:
        try:
            prepare()
        except BaseException as error:  # noqa: BLE001 - it is the person's code, and may raise anything
            _send_texts(channel, INIT_FAILED, 0, [error_line(error), traceback_text(error)])
            return
    channel.send(CHILD_MESSAGE.pack(READY, 0, 0.0))
    around = TaskEnviron()
    while message := channel.recv(BATCH_HEADER.size + MAX_RUN_NAME_BYTES):
        which, count, size, mark, first, tries, slot, shape, costs = BATCH_HEADER.unpack_from(message)
        arena = shared_batches[which]
        at = arena.set_layout(count, size)
        around.start_batch(message[BATCH_HEADER.size :].decode(), tries, slot, first, arena.finished_count)
        each = around.set_task if 1 < count <= SMALL_BATCH_TASKS else None
        start, cpu = perf_counter(), process_time()
        _run_batch(
            channel,
            arena,
            (at, mark),
            call_spec._replace(function=adapt_arguments(call_spec.function, SHAPES[shape])),
            first,
            each,
        )
        sys.stdout.flush()
        sys.stderr.flush()
        seconds = perf_counter() - start
        cost = RESOURCE_USAGE.pack(process_time() - cpu, getrusage(RUSAGE_SELF).ru_maxrss * 1024) if costs else b""
        channel.send(CHILD_MESSAGE.pack(FINISHED, 0, seconds) + cost)


def adapt_arguments(function: Callable[..., Any], shape: str) -> Function:
    """The function, to be called with a record of this shape."""
    if shape == "line":
        return function

    def called(record: str) -> Any:
        if not record.strip():
            raise ValueError("a blank line is no JSON")
        if shape == "json":
            return function(json.loads(record))
        found = json.loads(record, object_pairs_hook=tuple)
        if isinstance(found, tuple):
            named = dict(found)
            if len(named) < len(found):
                raise ValueError("two columns have the same name, so they can't be named arguments")
            return function(**named)
        return function(*found)

    return called


def _run_batch(
    channel: socket,
    shared_batch: SharedBatch,
    body_layout: tuple[int, int],
    call_spec: CallSpec,
    first: int,
    before_task: Callable[[int], None] | None,
) -> None:
    """Run the batch's tasks, whose records lie and end as `place` says, up to its end or the agent's halt.

    `each` is told the number of every task before it runs.
    """
    tasks, function = _decode_tasks(shared_batch.open_records(body_layout[0]), body_layout[1], call_spec.function)
    most, free = (
        call_spec.max_result_bytes,
        call_spec.max_result_bytes >= MAX_RESULT_BYTES,
    )  # then a number need not be measured
    ends, write, end, common = shared_batch.ends(), shared_batch.map.write, 0, SMALL_INTEGERS.get
    for index, task in compress(
        enumerate(tasks), shared_batch.start_flags()
    ):  # looks at `go` as late as it can, at no cost
        if before_task:
            before_task(first + index)
        try:
            value = function(task)
            data = (common(value) or b"%d\n" % value) if free and type(value) is int else encode_result(value, most)
        except TooLargeError as error:
            _send_texts(channel, TOO_LARGE, index, [str(error), ""])
            data = b""
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, fails this task and no other
            _send_texts(channel, FAILED, index, [error_line(error), traceback_text(error)])
            data = b""
        try:
            end += write(data)
        except ValueError:
            # no room is left: make some, and let the agent take what there is before the next task
            shared_batch.append_output(index, end, data)
            return
        ends[index] = end


def _decode_tasks(body: memoryview, terminator: int, function: Function) -> tuple[Sequence[Any], Callable[[Any], Any]]:
    """The batch's tasks as text, and what to call with each."""
    if terminator != NO_TERMINATOR:
        body = body[:-1]
    try:
        text = str(body, "utf-8")
    except UnicodeDecodeError:
        # some record is not text: cut the bytes, so that each record fails or not by itself
        records = [bytes(body)] if terminator == NO_TERMINATOR else bytes(body).split(bytes([terminator]))
        return records, lambda record: function(str(record, "utf-8"))
    return [text] if terminator == NO_TERMINATOR or chr(terminator) not in text else text.split(
        chr(terminator)
    ), function


def encode_result(value: object, max_bytes: int) -> bytes:
    """A result's bytes, `most` at most: text and bytes as they are, None nothing, all else JSON; a newline behind.

    Raises ValueError or TypeError for what can't be written so, TooLargeError for what is larger.
    """
    if value is None:
        return b""
    if isinstance(value, str):
        data = f"{value}\n".encode()
    elif isinstance(value, bytes | bytearray | memoryview):
        data = bytes(value) + b"\n"
    else:
        data = f"{json.dumps(value, ensure_ascii=False)}\n".encode()
    if len(data) > max_bytes:
        raise TooLargeError(too_large_text(max_bytes))
    return data


def _send_texts(channel: socket, kind: int, index: int, texts: list[str]) -> None:
    """Tell the agent about a task; the middle of a text that is too long is cut."""
    half = MAX_TEXT_CHARS // 2
    cut = [text if len(text) <= MAX_TEXT_CHARS else f"{text[:half]}\n[...]\n{text[-half:]}" for text in texts]
    channel.send(CHILD_MESSAGE.pack(kind, index, 0.0) + json.dumps(cut).encode())
