"""Two sockets, one thread: non-blocking reads and a poller, compared by latency and CPU.

    sender ──PUSH, at random times──────► PULL one ┐
           ──PUSH──────────────────────────► PULL two ┴ one thread, three ways to wait for both

Reading both sockets in a loop is fast and uses a whole CPU. A sleep between two reads uses less CPU and adds latency. A
poller sleeps in the kernel until a message arrives. A message contains the time at which it was sent; all processes of
a machine share one monotonic clock.
"""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Annotated

import zmq

from pipeline.lab.forks import fork_children
from pipeline.lab.table import table

TITLE = "two sockets, one thread: non-blocking reads against a poller"
LEARN = "a poller is cheap and fast; reading in a loop costs a CPU, or is late"
TIMEOUT_MS = 5_000
SENT = struct.Struct("<d")
Socket = zmq.Socket[bytes]
Way = Callable[[list[Socket], zmq.Poller], list[bytes]]


def main(
    *,
    msgs: Annotated[int, "number of messages for each way", 2, 10**6] = 500,
    every: Annotated[float, "mean interval between two messages in milliseconds", 0.001, 1000] = 4.0,
) -> int:
    """Print a row for each way. Return 1 if a message is missing."""
    ways: dict[str, Way] = {"non-blocking reads": read_in_turn, "and a nap of 1 ms": partial(read_in_turn, nap=0.001)}
    ways["a poller"] = read_polled
    rows = [(name, *measure(way, msgs, every / 1000)) for name, way in ways.items()]
    print(table(("way", "messages", "us late, median", "99 of 100", "CPU %"), rows))
    return int(any(row[1] != msgs for row in rows))


def measure(way: Way, msgs: int, every: float) -> tuple[int, int, int, float]:
    """Return the number of messages, their median and 99th percentile latency in us, and the CPU use in percent."""
    latencies: list[float] = []
    with TemporaryDirectory() as folder, fork_children([partial(send, folder, msgs, every)]), zmq.Context() as context:
        poller = zmq.Poller()
        with context.socket(zmq.PULL) as one, context.socket(zmq.PULL) as two:
            for name, socket in {"one": one, "two": two}.items():
                socket.rcvtimeo = TIMEOUT_MS
                socket.bind(f"ipc://{folder}/{name}")
                poller.register(socket, zmq.POLLIN)
            with suppress(zmq.Again):
                one.recv(), two.recv()  # hello
            start_time, start_cpu, last = time.monotonic(), time.process_time(), time.monotonic()
            while len(latencies) < msgs and time.monotonic() - last < TIMEOUT_MS / 1000:
                for message in way([one, two], poller):
                    last = time.monotonic()
                    latencies.append(last - SENT.unpack(message)[0])
            share = (time.process_time() - start_cpu) / (time.monotonic() - start_time)
    micros = [latency * 1e6 for latency in latencies] or [0.0]
    return len(latencies), round(median(micros)), round(quantiles([*micros, micros[0]], n=100)[-1]), share * 100


def read_in_turn(sockets: list[Socket], _: zmq.Poller, nap: float = 0) -> list[bytes]:
    """Read each socket without waiting; sleep for `nap` seconds if there was nothing."""
    messages = []
    for socket in sockets:
        with suppress(zmq.Again):
            messages.append(socket.recv(zmq.NOBLOCK))
    if nap and not messages:
        time.sleep(nap)
    return messages


def read_polled(_: list[Socket], poller: zmq.Poller) -> list[bytes]:
    """Wait for both sockets in one call."""
    return [socket.recv() for socket, _ in poller.poll(TIMEOUT_MS)]


def send(folder: str, msgs: int, every: float) -> None:
    """Send a hello on both sockets, then the time on one of them at random."""
    rng = random.Random(1)  # the same sequence for each way
    with zmq.Context() as context, context.socket(zmq.PUSH) as one, context.socket(zmq.PUSH) as two:
        for name, socket in {"one": one, "two": two}.items():
            socket.connect(f"ipc://{folder}/{name}")
            socket.send(b"hello")
        for _ in range(msgs):
            time.sleep(rng.uniform(0.5, 1.5) * every)
            rng.choice((one, two)).send(SENT.pack(time.monotonic()))
