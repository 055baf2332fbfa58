"""The guide's taskwork2: PULL a task, work, PUSH a result; and a SUB socket on which KILL may come at any time.

    ventilator ──5557──► PULL worker PUSH ──5558──► sink
                           SUB ▲                     │
                               └───────"KILL"──5559──┘

Two sockets, one thread: a poller says which of them has something. The work is to sleep, so that a hundred workers
fit on one core. A result is an empty message: the sink only counts.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Annotated

import zmq

TITLE = "the parallel pipeline, second part: works until somebody says KILL"
LEARN = "a poller over two sockets; what waits in a worker's queue dies with it"
LONGEST = 60_000  # ms


def main(
    *,
    host: Annotated[str, "where ventilator and sink are"] = "127.0.0.1",
    port: Annotated[int, "where the ventilator deals out tasks", 1, 65535] = 5557,
    sink_port: Annotated[int, "where the sink listens", 1, 65535] = 5558,
    control_port: Annotated[int, "where the sink says KILL", 1, 65535] = 5559,
    patience: Annotated[float, "seconds without a task or KILL until we give up", 0, 86400] = 30.0,
) -> int:
    """Work, a dot for each task, until KILL. 3 if nothing comes any more."""
    with (
        zmq.Context() as context,
        context.socket(zmq.PULL) as receiver,
        context.socket(zmq.PUSH) as sender,
        context.socket(zmq.SUB) as controller,
    ):
        sender.linger = sender.sndtimeo = int(patience * 1000)  # ms: a sink that has gone must not hold us for ever
        receiver.connect(f"tcp://{host}:{port}")
        sender.connect(f"tcp://{host}:{sink_port}")
        controller.connect(f"tcp://{host}:{control_port}")
        controller.subscribe(b"")
        print("ready", flush=True)
        try:
            return work(receiver, sender, controller, patience)
        except KeyboardInterrupt:
            sender.linger = 0  # who interrupts us will not wait for what is not sent
            raise


def work(receiver: zmq.Socket[bytes], sender: zmq.Socket[bytes], controller: zmq.Socket[bytes], patience: float) -> int:
    """Task after task, until whatever comes from the controller."""
    poller = zmq.Poller()
    poller.register(receiver, zmq.POLLIN)
    poller.register(controller, zmq.POLLIN)
    done = 0
    while ready := dict(poller.poll(int(patience * 1000))):
        if receiver in ready:
            time.sleep(milliseconds(receiver.recv()) / 1000)
            try:
                sender.send(b"")
            except zmq.Again:
                break
            print(".", end="", flush=True)
            done += 1
        if controller in ready:
            print(f"\n{controller.recv().decode(errors='replace')} after {done} tasks")
            return 0
    print(
        f"\nnothing happened for {patience:g} s, after {done} tasks: the guide's worker waits for ever", file=sys.stderr
    )
    return 3


def milliseconds(task: bytes) -> int:
    """The work of a task, a minute at most; as C's atoi, the number that it begins with, or 0."""
    digits = re.match(rb"\s*\+?([0-9]{1,9})", task)
    return min(int(digits[1]), LONGEST) if digits else 0
