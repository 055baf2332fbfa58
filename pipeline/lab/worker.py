"""The guide's taskwork2: PULL a task, work, PUSH a result; a SUB socket receives KILL at any time.

    ventilator ──5557──► PULL worker PUSH ──5558──► sink
                           SUB ▲                     │
                               └───────"KILL"──5559──┘

One thread waits for two sockets with a poller. The work is a sleep, so that a hundred workers fit on one core. A
result is an empty message: the sink only counts.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Annotated

import zmq

TITLE = "the parallel pipeline, second part: works until KILL arrives"
LEARN = "a poller over two sockets; tasks in a worker's queue are lost with it"
MAX_TASK_MS = 60_000


def main(
    *,
    host: Annotated[str, "address of ventilator and sink"] = "127.0.0.1",
    port: Annotated[int, "port of the ventilator", 1, 65535] = 5557,
    sink_port: Annotated[int, "port of the sink", 1, 65535] = 5558,
    control_port: Annotated[int, "port for KILL", 1, 65535] = 5559,
    patience: Annotated[float, "seconds without a task or KILL until the worker gives up", 0, 86400] = 30.0,
) -> int:
    """Work until KILL, and print a dot for each task. Return 3 if messages stop."""
    with (
        zmq.Context() as context,
        context.socket(zmq.PULL) as receiver,
        context.socket(zmq.PUSH) as sender,
        context.socket(zmq.SUB) as controller,
    ):
        sender.linger = sender.sndtimeo = int(patience * 1000)  # ms: a lost sink must not block the worker forever
        receiver.connect(f"tcp://{host}:{port}")
        sender.connect(f"tcp://{host}:{sink_port}")
        controller.connect(f"tcp://{host}:{control_port}")
        controller.subscribe(b"")
        print("ready", flush=True)
        try:
            return work(receiver, sender, controller, patience)
        except KeyboardInterrupt:
            sender.linger = 0  # the user will not wait for unsent results
            raise


def work(receiver: zmq.Socket[bytes], sender: zmq.Socket[bytes], controller: zmq.Socket[bytes], patience: float) -> int:
    """Run tasks until a message from the controller arrives."""
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
        f"\nno message for {patience:g} s, after {done} tasks: the guide's worker would wait forever", file=sys.stderr
    )
    return 3


def milliseconds(task: bytes) -> int:
    """Return the work of a task, at most a minute: its leading number, as C's atoi reads it, or 0."""
    digits = re.match(rb"\s*\+?([0-9]{1,9})", task)
    return min(int(digits[1]), MAX_TASK_MS) if digits else 0
