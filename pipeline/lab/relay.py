"""The relay race: a baton goes from step to step over PAIR sockets, through threads or through processes.

    step 1 ──PAIR──► step 2 ──PAIR──► step 3 ──PAIR──► home
           inproc: each a thread of one context
           ipc:    each a process with a context of its own

A PAIR is for two that know each other. Each step binds where the one before it connects, writes its name on the
baton and hands it on. Nobody waits for anybody to be up: what is sent to a place that is not bound yet, waits there.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory
from typing import Annotated

import zmq

from pipeline.lab.forks import fork_children

TITLE = "the relay race: a baton goes from step to step over PAIR sockets"
LEARN = "PAIR is for exactly two; the same program over inproc by threads and over ipc by processes"
INPROC, IPC = "inproc", "ipc"
PATIENCE = 10_000  # ms
Context = zmq.Context[zmq.Socket[bytes]]


def main(
    *,
    transport: Annotated[str, "inproc: steps are threads; ipc: steps are processes"] = INPROC,
    steps: Annotated[int, "how many", 1, 400] = 3,
) -> int:
    """Start the steps, give the first one the baton, and wait for it at home. 1 if it does not come, or not by all."""
    ways = {INPROC: threads, IPC: processes}
    if transport not in ways:
        print(f"--transport is inproc or ipc, not {transport}", file=sys.stderr)
        return 2
    began = time.monotonic()
    with ways[transport](steps) as (context, track), context.socket(zmq.PAIR) as home:
        home.bind(f"{track}-{steps}")
        with context.socket(zmq.PAIR) as start:
            start.linger = 0
            start.connect(f"{track}-0")
            start.send_multipart([b"start"])
            names = home.recv_multipart()[1:] if home.poll(PATIENCE) else []
    took = (time.monotonic() - began) * 1000
    print("\n".join(name.decode() for name in names))
    print(f"{len(names)} of {steps} steps over {transport}, {took:.1f} ms")
    return int(len(names) != steps)


def run_step(context: Context, track: str, number: int) -> None:
    """Take the baton, write a name on it, hand it on."""
    name = f"step {number + 1}: {threading.current_thread().name} of process {os.getpid()}"
    try:
        with context.socket(zmq.PAIR) as before, context.socket(zmq.PAIR) as after:
            before.rcvtimeo = after.sndtimeo = after.linger = PATIENCE
            before.bind(f"{track}-{number}")
            after.connect(f"{track}-{number + 1}")
            after.send_multipart([*before.recv_multipart(), name.encode()])
    except zmq.ZMQError:
        return  # it has not come, or the context has ended


def run_step_process(track: str, number: int) -> None:
    """A step in a process of its own, with a context of its own."""
    with zmq.Context() as context:
        run_step(context, track, number)


@contextmanager
def threads(steps: int) -> Iterator[tuple[Context, str]]:
    """Steps as threads; they end with the context, which wakes whoever still waits in it."""
    context, track = zmq.Context(), "inproc://step"
    try:
        for number in range(steps):
            threading.Thread(target=run_step, args=(context, track, number)).start()
        yield context, track
    finally:
        context.term()


@contextmanager
def processes(steps: int) -> Iterator[tuple[Context, str]]:
    """Steps as processes, forked before there is a context."""
    with TemporaryDirectory() as folder:
        track = f"ipc://{folder}/step"
        with (
            fork_children(partial(run_step_process, track, number) for number in range(steps)),
            zmq.Context() as context,
        ):
            yield context, track
