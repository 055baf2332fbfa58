"""Two sockets, one thread: non-blocking reads against a poller, by latency and by CPU.

    sender ──PUSH, at the stroke of a clock──► PULL one ┐
           ──PUSH──────────────────────────► PULL two ┴ one thread, three ways to wait for both

Who asks both sockets again and again hears at once and burns a CPU; who sleeps between two looks burns less and hears
late; a poller sleeps in the kernel until there is something. A message is the time at which it was sent: one clock
holds for all processes of a machine.
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
LEARN = "a poller costs next to nothing and is not late; asking in a loop costs a CPU, or is late"
PATIENCE = 5_000  # ms until nothing comes any more
SENT = struct.Struct("<d")
Socket = zmq.Socket[bytes]
Way = Callable[[list[Socket], zmq.Poller], list[bytes]]


def main(
    *,
    msgs: Annotated[int, "how many come in each way", 2, 10**6] = 500,
    every: Annotated[float, "milliseconds between two of them, on average", 0.001, 1000] = 4.0,
) -> int:
    """Print a row for each way. 1 if a message did not come."""
    ways: dict[str, Way] = {"non-blocking reads": read_in_turn, "and a nap of 1 ms": partial(read_in_turn, nap=0.001)}
    ways["a poller"] = read_polled
    rows = [(name, *measure(way, msgs, every / 1000)) for name, way in ways.items()]
    print(table(("way", "messages", "us late, median", "99 of 100", "CPU %"), rows))
    return int(any(row[1] != msgs for row in rows))


def measure(way: Way, msgs: int, every: float) -> tuple[int, int, int, float]:
    """How many came, how late in the median and at 99 of 100, and this process's share of a CPU."""
    late: list[float] = []
    with TemporaryDirectory() as folder, fork_children([partial(send, folder, msgs, every)]), zmq.Context() as context:
        poller = zmq.Poller()
        with context.socket(zmq.PULL) as one, context.socket(zmq.PULL) as two:
            for name, socket in {"one": one, "two": two}.items():
                socket.rcvtimeo = PATIENCE
                socket.bind(f"ipc://{folder}/{name}")
                poller.register(socket, zmq.POLLIN)
            with suppress(zmq.Again):
                one.recv(), two.recv()  # hello
            began, worked, last = time.monotonic(), time.process_time(), time.monotonic()
            while len(late) < msgs and time.monotonic() - last < PATIENCE / 1000:
                for message in way([one, two], poller):
                    last = time.monotonic()
                    late.append(last - SENT.unpack(message)[0])
            share = (time.process_time() - worked) / (time.monotonic() - began)
    micros = [each * 1e6 for each in late] or [0.0]
    return len(late), round(median(micros)), round(quantiles([*micros, micros[0]], n=100)[-1]), share * 100


def read_in_turn(sockets: list[Socket], _: zmq.Poller, nap: float = 0) -> list[bytes]:
    """One after the other, without waiting; a nap when there was nothing."""
    messages = []
    for socket in sockets:
        with suppress(zmq.Again):
            messages.append(socket.recv(zmq.NOBLOCK))
    if nap and not messages:
        time.sleep(nap)
    return messages


def read_polled(_: list[Socket], poller: zmq.Poller) -> list[bytes]:
    """Wait for both in one call."""
    return [socket.recv() for socket, _ in poller.poll(PATIENCE)]


def send(folder: str, msgs: int, every: float) -> None:
    """Say hello on both, then tell the time on one or the other, as chance has it."""
    chance = random.Random(1)  # the same for each way
    with zmq.Context() as context, context.socket(zmq.PUSH) as one, context.socket(zmq.PUSH) as two:
        for name, socket in {"one": one, "two": two}.items():
            socket.connect(f"ipc://{folder}/{name}")
            socket.send(b"hello")
        for _ in range(msgs):
            time.sleep(chance.uniform(0.5, 1.5) * every)
            chance.choice((one, two)).send(SENT.pack(time.monotonic()))
