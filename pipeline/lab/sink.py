"""The guide's tasksink2: count results, tell how long the batch took, PUB KILL to all workers.

    workers ──PUSH──5558──► PULL sink PUB ──"KILL"──5559──► workers

The first message is the ventilator's start of the batch. The guide's sink knows that there are 100 tasks, and waits
for as many results. If one is lost it waits for ever; ours looks at a clock, says how many are missing, and kills.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import zmq

TITLE = "the parallel pipeline, last part: counts results, then says KILL"
LEARN = "a sink that only counts waits for ever when one message is lost"
TEN = 10


def main(
    *,
    tasks: Annotated[int, "how many results make a batch", 0, 10**7] = 100,
    host: Annotated[str, "where to bind; * is everywhere"] = "127.0.0.1",
    port: Annotated[int, "where results come in", 1, 65535] = 5558,
    control_port: Annotated[int, "where KILL goes out", 1, 65535] = 5559,
    patience: Annotated[float, "seconds without a result until we give up", 0, 86400] = 30.0,
    start: Annotated[float, "seconds within which a batch must have begun", 0, 86400] = 30.0,
) -> int:
    """Collect a batch. 1 if results are missing, 3 if no batch began."""
    with zmq.Context() as context, context.socket(zmq.PULL) as receiver, context.socket(zmq.PUB) as controller:
        controller.linger = 1000  # ms
        receiver.bind(f"tcp://{host}:{port}")
        controller.bind(f"tcp://{host}:{control_port}")
        print("ready", flush=True)
        if not receiver.poll(int(start * 1000)):
            print(f"no batch began within {start:g} s", file=sys.stderr)
            return 3
        receiver.recv()
        began = time.monotonic()
        came = collect(receiver, tasks, patience)
        took = (time.monotonic() - began) * 1000
        print(f"\n{came} of {tasks} results, total elapsed time: {took:.0f} ms")
        controller.send(b"KILL")
    if came < tasks:
        print(f"{tasks - came} are missing: the guide's sink would wait for them for ever", file=sys.stderr)
        return 1
    return 0


def collect(receiver: zmq.Socket[bytes], tasks: int, patience: float) -> int:
    """How many results came: a dot for each, a colon for each tenth, as the guide's sink draws them."""
    for came in range(tasks):
        if not receiver.poll(int(patience * 1000)):
            return came
        receiver.recv()
        print(":" if came % TEN == 0 else ".", end="", flush=True)
    return tasks
