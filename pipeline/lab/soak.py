"""A soak test: open and close sockets and contexts, send messages, and check that nothing leaks.

    context ─┬─ PUSH ──inproc──► PULL    multipart
             ├─ REQ ◄───ipc────► REP     one request
             ├─ PUB ──inproc───► SUB     without a subscriber
             └─ PUSH ───tcp────► PULL    1 MB with copy=False: libzmq reads Python's memory, and reports when done

Descriptors, threads and resident memory are measured ten times. The first measurement is the baseline: by then caches
are full and pyzmq has started its thread that frees zero-copy messages.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, NamedTuple

import zmq
from zmq.utils.garbage import gc

TITLE = "a soak test: sockets, contexts and messages come and go, and nothing leaks"
LEARN = "close all sockets, then the context; leave zero-copy memory alone until it is sent"
LINES, TIMEOUT_MS = 10, 5_000
GROWTH_LIMIT_MB = 4.0  # an allocator keeps some freed memory
ROW = "{:>7}  {:>7}  {:>9}  {:>11}  {:>7}  {:>9}"
HEADS = ("seconds", "rounds", "messages", "descriptors", "threads", "memory MB")
PAUSE_SECONDS = 0.005  # a used tcp port stays reserved for a minute
Socket = zmq.Socket[bytes]


class HeldResources(NamedTuple):
    """The resources of this process; memory in MB."""

    descriptors: int
    threads: int
    memory: float


def main(*, minutes: Annotated[float, "duration in minutes", 0.001, 1440] = 1.0) -> int:
    """Print the held resources ten times. Return 1 if they grow."""
    print(ROW.format(*HEADS))
    start_time, rounds, messages, samples = time.monotonic(), 0, 0, list[HeldResources]()
    with TemporaryDirectory() as folder, ExitStack() as stack:
        stack.callback(gc.stop)  # the thread that pyzmq starts for zero-copy messages
        for line in range(1, LINES + 1):
            while time.monotonic() - start_time < minutes * 60 * line / LINES:
                messages += run_round(f"ipc://{folder}/{rounds}")
                rounds += 1
                time.sleep(PAUSE_SECONDS)
            samples.append(measure_held())
            print(ROW.format(round(time.monotonic() - start_time), rounds, messages, *samples[-1]), flush=True)
    first, peak = samples[0], HeldResources(*map(max, zip(*samples[1:], strict=True)))
    flat = all(
        peak_value <= start + margin
        for peak_value, start, margin in zip(peak, first, (0, 0, GROWTH_LIMIT_MB), strict=True)
    )
    print("flat" if flat else "not flat: each round leaks")
    return int(not flat)


def measure_held() -> HeldResources:
    """Return what this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files, tasks = (len(os.listdir(f"/proc/self/{name}")) for name in ("fd", "task"))
    return HeldResources(files, tasks, round(pages * os.sysconf("SC_PAGESIZE") / 1e6, 1))


def run_round(endpoint: str) -> int:
    """Open a context and eight sockets, send messages of each kind, and return how many arrived.

    Raise zmq.Again if one does not.
    """
    with zmq.Context() as context:
        context.rcvtimeo, context.sndtimeo, context.linger = TIMEOUT_MS, TIMEOUT_MS, 0
        with connected_pair(context, zmq.PUSH, zmq.PULL, "inproc://parts") as (out, into):
            out.send_multipart([b"a", b"", b"c"])
            received = [into.recv_multipart()[0]]
        with connected_pair(context, zmq.REQ, zmq.REP, endpoint) as (request, reply):
            request.send(b"?")
            reply.send(reply.recv())
            received.append(request.recv())
        with connected_pair(context, zmq.SUB, zmq.PUB, "inproc://news") as (reader, news):
            reader.subscribe(b"a")
            news.send(b"b")
        with connected_pair(context, zmq.PUSH, zmq.PULL, "tcp://127.0.0.1:*") as (out, into):
            sent = out.send(bytes(1 << 20), copy=False, track=True)
            received.append(into.recv())
            sent.wait(TIMEOUT_MS / 1000)
    return len(received)


@contextmanager
def connected_pair(
    context: zmq.Context[Socket], connects: int, binds: int, endpoint: str
) -> Iterator[tuple[Socket, Socket]]:
    """Yield two connected sockets of these kinds."""
    with context.socket(connects) as one, context.socket(binds) as other:
        other.bind(endpoint)
        one.connect(other.getsockopt_string(zmq.LAST_ENDPOINT))
        yield one, other
