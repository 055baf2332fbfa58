"""High-water marks: how many messages can be sent to a receiver that reads none.

    PUSH, sndhwm ──► buffers of two kernels' sockets ──► PULL, rcvhwm, in a process that reads nothing

A mark counts the messages in the queue of one socket, and there are two sockets. The buffers of the kernel and libzmq's
batches add to that, and they count bytes. So the sum is none of the configured numbers, and each of these sends
succeeded. With --frozen the receiver is stopped by SIGSTOP: its I/O thread stops, too, and its queue stays empty.
"""

from __future__ import annotations

import os
import signal
import time
from functools import partial
from itertools import product
from tempfile import TemporaryDirectory
from typing import IO, Annotated

import zmq

from pipeline.lab.forks import fork_children

TITLE = "high-water marks: how many messages can be sent to a receiver that reads none"
LEARN = "a mark does not measure work: a thousand tasks sent without error may all still wait"
MARKS, SIZES, MAX_COUNT = (1, 10, 1000), (10, 100, 1_000, 10_000, 100_000), 50_000
FULL_AFTER_MS, TIMEOUT_MS = 200, 10_000
ROW = "{:<4}  {:>5}" + "  {:>8}" * len(SIZES)
HEADS = ("over", "mark", "10 B", "100 B", "1 kB", "10 kB", "100 kB")


def main(
    *,
    frozen: Annotated[bool, "stop the receiver's process, including its I/O thread"] = False,
) -> int:
    """Print a row for each transport and mark, a column for each message size. Return 1 if nothing could be sent."""
    print(ROW.format(*HEADS), flush=True)
    least = 1
    with TemporaryDirectory() as folder:
        for transport, mark in product(("ipc", "tcp"), MARKS):
            endpoint = f"ipc://{folder}/{mark}" if transport == "ipc" else "tcp://127.0.0.1:*"
            counts = [count_swallowed(endpoint, mark, size, frozen=frozen) for size in SIZES]
            print(
                ROW.format(transport, mark, *(f">{MAX_COUNT}" if count > MAX_COUNT else count for count in counts)),
                flush=True,
            )
            least = min(least, *counts)
    print("both sides have the same mark; the default is 1000")
    return int(least == 0)


def count_swallowed(endpoint: str, mark: int, size: int, *, frozen: bool) -> int:
    """Return how many messages of this size a PUSH socket can send before it blocks."""
    read, write = os.pipe()
    with (
        os.fdopen(read) as reader,
        os.fdopen(write, "w") as writer,
        fork_children([partial(run_idle_receiver, reader, mark)]) as pids,
        zmq.Context() as context,
        context.socket(zmq.PUSH) as sender,
    ):
        sender.linger, sender.sndhwm = 0, mark
        sender.bind(endpoint)
        writer.write(sender.getsockopt_string(zmq.LAST_ENDPOINT) + "\n")
        writer.flush()
        if not sender.poll(TIMEOUT_MS, zmq.POLLOUT):
            return 0
        if frozen:
            os.kill(pids[0], signal.SIGSTOP)
        count, message = 0, b"x" * size
        while count <= MAX_COUNT and sender.poll(FULL_AFTER_MS, zmq.POLLOUT):
            sender.send(message, zmq.NOBLOCK)
            count += 1
        return count


def run_idle_receiver(reader: IO[str], mark: int) -> None:
    """Connect, and read nothing until killed."""
    with zmq.Context() as context, context.socket(zmq.PULL) as receiver:
        receiver.rcvhwm = mark
        receiver.connect(reader.readline().strip())
        while True:
            time.sleep(1)
