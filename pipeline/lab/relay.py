"""A relay race: a baton passes from step to step over PAIR sockets, through threads or processes.

    step 1 ──PAIR──► step 2 ──PAIR──► step 3 ──PAIR──► finish
           inproc: each a thread of one context
           ipc:    each a process with a context of its own

A PAIR socket has exactly one peer. Each step binds the endpoint that the previous step connects to, adds its name to
the baton and passes it on. The start order does not matter: a message to an endpoint that is not bound yet waits.
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

TITLE = "a relay race: a baton passes from step to step over PAIR sockets"
LEARN = "PAIR is for exactly two; the same program over inproc by threads and over ipc by processes"
INPROC, IPC = "inproc", "ipc"
TIMEOUT_MS = 10_000
Context = zmq.Context[zmq.Socket[bytes]]


def main(
    *,
    transport: Annotated[str, "inproc: steps are threads; ipc: steps are processes"] = INPROC,
    steps: Annotated[int, "number of steps", 1, 400] = 3,
) -> int:
    """Start the steps, send the baton, and wait for it at the finish. Return 1 if it is lost or misses a step."""
    runners = {INPROC: threads, IPC: processes}
    if transport not in runners:
        print(f"invalid --transport {transport!r}; use inproc or ipc", file=sys.stderr)
        return 2
    start_time = time.monotonic()
    with runners[transport](steps) as (context, track), context.socket(zmq.PAIR) as finish:
        finish.bind(f"{track}-{steps}")
        with context.socket(zmq.PAIR) as start:
            start.linger = 0
            start.connect(f"{track}-0")
            start.send_multipart([b"start"])
            names = finish.recv_multipart()[1:] if finish.poll(TIMEOUT_MS) else []
    elapsed_ms = (time.monotonic() - start_time) * 1000
    print("\n".join(name.decode() for name in names))
    print(f"{len(names)} of {steps} steps over {transport}, {elapsed_ms:.1f} ms")
    return int(len(names) != steps)


def run_step(context: Context, track: str, number: int) -> None:
    """Receive the baton, add a name, pass it on."""
    name = f"step {number + 1}: {threading.current_thread().name} of process {os.getpid()}"
    try:
        with context.socket(zmq.PAIR) as before, context.socket(zmq.PAIR) as after:
            before.rcvtimeo = after.sndtimeo = after.linger = TIMEOUT_MS
            before.bind(f"{track}-{number}")
            after.connect(f"{track}-{number + 1}")
            after.send_multipart([*before.recv_multipart(), name.encode()])
    except zmq.ZMQError:
        return  # no baton, or the context has ended


def run_step_process(track: str, number: int) -> None:
    """Run a step in its own process, with its own context."""
    with zmq.Context() as context:
        run_step(context, track, number)


@contextmanager
def threads(steps: int) -> Iterator[tuple[Context, str]]:
    """Run the steps as threads. The end of the context wakes the threads that still wait."""
    context, track = zmq.Context(), "inproc://step"
    try:
        for number in range(steps):
            threading.Thread(target=run_step, args=(context, track, number)).start()
        yield context, track
    finally:
        context.term()


@contextmanager
def processes(steps: int) -> Iterator[tuple[Context, str]]:
    """Run the steps as processes, forked before there is a context."""
    with TemporaryDirectory() as folder:
        track = f"ipc://{folder}/step"
        with (
            fork_children(partial(run_step_process, track, number) for number in range(steps)),
            zmq.Context() as context,
        ):
            yield context, track
