"""A warm child from the inside: one function, called with each task of batch after batch.

It reads a batch's sizes from its socket, the tasks from its arena, and publishes each result there as it comes. What
a task raises fails that task alone. Its life ends when the agent's end of the socket closes, or it is killed.
It never reads or writes anything of the agent's but these two.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from itertools import compress
from resource import RUSAGE_SELF, getrusage
from socket import socket
from time import perf_counter, process_time
from typing import Any, NamedTuple

from pipeline.executor.arena import LARGEST, Arena
from pipeline.executor.callee import story, summary
from pipeline.executor.hearing import (
    BATCH,
    COST,
    FAILED,
    FINISHED,
    LARGE,
    LONGEST,
    READY,
    RUN,
    SAYING,
    SHAPES,
    UNFIT,
    WHOLE,
)
from pipeline.executor.limits import too_large
from pipeline.executor.surroundings import FEW, Surroundings

COMMON = {number: b"%d\n" % number for number in range(1000)}
"""Small numbers as they are written; looking them up takes a third of the time."""

Function = Callable[..., Any]


class TooLargeError(Exception):
    """A task has returned more bytes than it may."""


class Work(NamedTuple):
    """What a warm child does: call `function` with each task, after `prepare`; `most` bytes a result may have."""

    function: Function
    prepare: Callable[[], Any] | None
    most: int


def live(talk: socket, arenas: Sequence[Arena], work: Work) -> None:
    """Prepare once, then run batches until the agent closes its end."""
    prepare = work.prepare
    if prepare:
        try:
            prepare()
        except BaseException as error:  # noqa: BLE001 - it is the person's code, and may raise anything
            _say(talk, UNFIT, 0, [summary(error), story(error)])
            return
    talk.send(SAYING.pack(READY, 0, 0.0))
    around = Surroundings()
    while message := talk.recv(BATCH.size + RUN):
        which, count, size, mark, first, tries, slot, shape, costs = BATCH.unpack_from(message)
        arena = arenas[which]
        at = arena.lay(count, size)
        around.begin(message[BATCH.size :].decode(), tries, slot, first, arena.finished)
        each = around.set if 1 < count <= FEW else None
        start, cpu = perf_counter(), process_time()
        _run(talk, arena, (at, mark), work._replace(function=shaped(work.function, SHAPES[shape])), first, each)
        sys.stdout.flush()
        sys.stderr.flush()
        seconds = perf_counter() - start
        cost = COST.pack(process_time() - cpu, getrusage(RUSAGE_SELF).ru_maxrss * 1024) if costs else b""
        talk.send(SAYING.pack(FINISHED, 0, seconds) + cost)


def shaped(function: Callable[..., Any], shape: str) -> Function:
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


def _run(
    talk: socket, arena: Arena, place: tuple[int, int], work: Work, first: int, each: Callable[[int], None] | None
) -> None:
    """Run the batch's tasks, whose records lie and end as `place` says, up to its end or the agent's halt.

    `each` is told the number of every task before it runs.
    """
    tasks, function = _tasks(arena.body(place[0]), place[1], work.function)
    most, free = work.most, work.most >= LARGEST  # then a number need not be measured
    ends, write, end, common = arena.ends(), arena.map.write, 0, COMMON.get
    for index, task in compress(enumerate(tasks), arena.go()):  # looks at `go` as late as it can, at no cost
        if each:
            each(first + index)
        try:
            value = function(task)
            data = (common(value) or b"%d\n" % value) if free and type(value) is int else written(value, most)
        except TooLargeError as error:
            _say(talk, LARGE, index, [str(error), ""])
            data = b""
        except BaseException as error:  # noqa: BLE001 - SystemExit, too, fails this task and no other
            _say(talk, FAILED, index, [summary(error), story(error)])
            data = b""
        try:
            end += write(data)
        except ValueError:
            # no room is left: make some, and let the agent take what there is before the next task
            arena.append(index, end, data)
            return
        ends[index] = end


def _tasks(body: memoryview, mark: int, function: Function) -> tuple[Sequence[Any], Callable[[Any], Any]]:
    """The batch's tasks as text, and what to call with each."""
    if mark != WHOLE:
        body = body[:-1]
    try:
        text = str(body, "utf-8")
    except UnicodeDecodeError:
        # some record is not text: cut the bytes, so that each record fails or not by itself
        records = [bytes(body)] if mark == WHOLE else bytes(body).split(bytes([mark]))
        return records, lambda record: function(str(record, "utf-8"))
    return [text] if mark == WHOLE or chr(mark) not in text else text.split(chr(mark)), function


def written(value: object, most: int) -> bytes:
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
    if len(data) > most:
        raise TooLargeError(too_large(most))
    return data


def _say(talk: socket, what: int, index: int, texts: list[str]) -> None:
    """Tell the agent about a task; the middle of a text that is too long is cut."""
    half = LONGEST // 2
    cut = [text if len(text) <= LONGEST else f"{text[:half]}\n[...]\n{text[-half:]}" for text in texts]
    talk.send(SAYING.pack(what, index, 0.0) + json.dumps(cut).encode())
