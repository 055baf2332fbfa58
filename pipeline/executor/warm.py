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
from socket import socket
from time import perf_counter
from typing import Any, NamedTuple

from pipeline.executor.arena import LARGEST, Arena
from pipeline.executor.callee import story, summary
from pipeline.executor.hearing import BATCH, FAILED, FINISHED, LARGE, LONGEST, READY, SAYING, UNFIT, WHOLE
from pipeline.executor.limits import too_large

COMMON = {number: b"%d\n" % number for number in range(1000)}
"""Small numbers as they are written; looking them up takes a third of the time."""

Function = Callable[[str], Any]


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
    while message := talk.recv(BATCH.size):
        which, count, size, mark = BATCH.unpack(message)
        arena = arenas[which]
        start = perf_counter()
        _run(talk, arena, arena.lay(count, size), mark, work)
        sys.stdout.flush()
        sys.stderr.flush()
        talk.send(SAYING.pack(FINISHED, 0, perf_counter() - start))


def _run(talk: socket, arena: Arena, at: int, mark: int, work: Work) -> None:
    """Run the batch's tasks, whose records lie at `at`, up to its end or the agent's halt."""
    tasks, function = _tasks(arena.body(at), mark, work.function)
    most, free = work.most, work.most >= LARGEST  # then a number need not be measured
    ends, write, place, common = arena.ends(), arena.map.write, 0, COMMON.get
    for index, task in compress(enumerate(tasks), arena.go()):  # looks at `go` as late as it can, at no cost
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
            place += write(data)
        except ValueError:
            # no room is left: make some, and let the agent take what there is before the next task
            arena.append(index, place, data)
            return
        ends[index] = place


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
