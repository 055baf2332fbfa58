"""A soak: sockets, contexts and messages come and go, and nothing may be left of them.

    context ─┬─ PUSH ──inproc──► PULL    multipart
             ├─ REQ ◄───ipc────► REP     one question
             ├─ PUB ──inproc───► SUB     what nobody wants
             └─ PUSH ───tcp────► PULL    1 MB with copy=False: libzmq reads Python's memory, and says when it has

Round after round. Descriptors, threads and resident memory are looked at; those of the first tenth, in which caches
fill and pyzmq starts a thread that frees zero-copy messages, are what the others are compared with.
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

TITLE = "a soak: sockets, contexts and messages come and go, and nothing is left"
LEARN = "close all sockets, then end the context; zero-copy memory is not yours until it is sent"
LINES, PATIENCE = 10, 5_000  # of the table; ms
GROWTH_LIMIT_MB = 4.0  # MB that memory may wander without a leak: an allocator keeps what it may need again
ROW = "{:>7}  {:>7}  {:>9}  {:>11}  {:>7}  {:>9}"
HEADS = ("seconds", "rounds", "messages", "descriptors", "threads", "memory MB")
PAUSE = 0.005  # seconds: a tcp port that was used is free again after a minute only
Socket = zmq.Socket[bytes]


class HeldResources(NamedTuple):
    """What this process holds; memory in MB."""

    descriptors: int
    threads: int
    memory: float


def main(*, minutes: Annotated[float, "how long", 0.001, 1440] = 1.0) -> int:
    """Print what is held ten times. 1 if that is not flat, or a message did not come."""
    print(ROW.format(*HEADS))
    began, rounds, messages, seen = time.monotonic(), 0, 0, list[HeldResources]()
    with TemporaryDirectory() as folder, ExitStack() as until:
        until.callback(gc.stop)  # the thread that pyzmq starts for zero-copy messages
        for line in range(1, LINES + 1):
            while time.monotonic() - began < minutes * 60 * line / LINES:
                messages += run_round(f"ipc://{folder}/{rounds}")
                rounds += 1
                time.sleep(PAUSE)
            seen.append(measure_held())
            print(ROW.format(round(time.monotonic() - began), rounds, messages, *seen[-1]), flush=True)
    first, most = seen[0], HeldResources(*map(max, zip(*seen[1:], strict=True)))
    flat = all(end <= start + room for end, start, room in zip(most, first, (0, 0, GROWTH_LIMIT_MB), strict=True))
    print("flat" if flat else "not flat: something is left of each round")
    return int(not flat)


def measure_held() -> HeldResources:
    """What is open now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files, tasks = (len(os.listdir(f"/proc/self/{name}")) for name in ("fd", "task"))
    return HeldResources(files, tasks, round(pages * os.sysconf("SC_PAGESIZE") / 1e6, 1))


def run_round(place: str) -> int:
    """A context, eight sockets, and messages of each kind; how many came. Raises zmq.Again if one does not."""
    with zmq.Context() as context:
        context.rcvtimeo, context.sndtimeo, context.linger = PATIENCE, PATIENCE, 0
        with connected_pair(context, zmq.PUSH, zmq.PULL, "inproc://parts") as (out, into):
            out.send_multipart([b"a", b"", b"c"])
            came = [into.recv_multipart()[0]]
        with connected_pair(context, zmq.REQ, zmq.REP, place) as (question, answer):
            question.send(b"?")
            answer.send(answer.recv())
            came.append(question.recv())
        with connected_pair(context, zmq.SUB, zmq.PUB, "inproc://news") as (reader, news):
            reader.subscribe(b"a")
            news.send(b"b")
        with connected_pair(context, zmq.PUSH, zmq.PULL, "tcp://127.0.0.1:*") as (out, into):
            sent = out.send(bytes(1 << 20), copy=False, track=True)
            came.append(into.recv())
            sent.wait(PATIENCE / 1000)
    return len(came)


@contextmanager
def connected_pair(
    context: zmq.Context[Socket], connects: int, binds: int, place: str
) -> Iterator[tuple[Socket, Socket]]:
    """Sockets of these kinds that know each other."""
    with context.socket(connects) as one, context.socket(binds) as other:
        other.bind(place)
        one.connect(other.getsockopt_string(zmq.LAST_ENDPOINT))
        yield one, other
