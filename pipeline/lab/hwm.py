"""High-water marks: how many messages a receiver swallows that reads none.

    PUSH, sndhwm ──► buffers of two kernels' sockets ──► PULL, rcvhwm, in a process that stands still

A mark counts messages of one socket's queue, and there are two; what the kernel and libzmq's batches hold comes on top
and counts bytes. So the sum is no number that anybody has set, and each of these sends was told that all is well. With
--frozen the receiver is stopped by SIGSTOP: its io thread stands still, too, and its queue stays empty.
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

TITLE = "high-water marks: how many messages a receiver swallows that reads none"
LEARN = "a mark is no measure of work: what was sent without an error may be a thousand tasks that wait"
MARKS, SIZES, MOST = (1, 10, 1000), (10, 100, 1_000, 10_000, 100_000), 50_000
SETTLED_MS, PATIENCE = 200, 10_000  # ms that a socket takes nothing; ms for the receiver to come
ROW = "{:<4}  {:>5}" + "  {:>8}" * len(SIZES)
HEADS = ("over", "mark", "10 B", "100 B", "1 kB", "10 kB", "100 kB")


def main(
    *,
    frozen: Annotated[bool, "stop the receiver's process: its io thread stands still, too"] = False,
) -> int:
    """A row for each transport and mark, a column for each size of a message. 1 if nothing could be sent."""
    print(ROW.format(*HEADS), flush=True)
    least = 1
    with TemporaryDirectory() as folder:
        for over, mark in product(("ipc", "tcp"), MARKS):
            place = f"ipc://{folder}/{mark}" if over == "ipc" else "tcp://127.0.0.1:*"
            counts = [count_swallowed(place, mark, size, frozen=frozen) for size in SIZES]
            print(ROW.format(over, mark, *(f">{MOST}" if count > MOST else count for count in counts)), flush=True)
            least = min(least, *counts)
    print("both sides have the same mark; where nobody sets it, it is 1000")
    return int(least == 0)


def count_swallowed(place: str, mark: int, size: int, *, frozen: bool) -> int:
    """How many messages of so many bytes a PUSH can send until its receiver's side takes no more."""
    read, write = os.pipe()
    with (
        os.fdopen(read) as come,
        os.fdopen(write, "w") as tell,
        fork_children([partial(run_idle_receiver, come, mark)]) as pids,
        zmq.Context() as context,
        context.socket(zmq.PUSH) as sender,
    ):
        sender.linger, sender.sndhwm = 0, mark
        sender.bind(place)
        tell.write(sender.getsockopt_string(zmq.LAST_ENDPOINT) + "\n")
        tell.flush()
        if not sender.poll(PATIENCE, zmq.POLLOUT):
            return 0
        if frozen:
            os.kill(pids[0], signal.SIGSTOP)
        count, message = 0, b"x" * size
        while count <= MOST and sender.poll(SETTLED_MS, zmq.POLLOUT):
            sender.send(message, zmq.NOBLOCK)
            count += 1
        return count


def run_idle_receiver(come: IO[str], mark: int) -> None:
    """The receiver: connects, and reads nothing until it is killed."""
    with zmq.Context() as context, context.socket(zmq.PULL) as receiver:
        receiver.rcvhwm = mark
        receiver.connect(come.readline().strip())
        while True:
            time.sleep(1)
