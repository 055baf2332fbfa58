"""The guide's tasksink2: count results, print how long the batch took, publish KILL to all workers.

    workers ──PUSH──5558──► PULL sink PUB ──"KILL"──5559──► workers

The first message is the ventilator's start of the batch. The guide's sink expects 100 results and waits forever if
one is lost. This one has a timeout: it reports how many results are missing, and publishes KILL.
"""

from __future__ import annotations

import sys
import time
from typing import Annotated

import zmq

TITLE = "the parallel pipeline, last part: counts results, then publishes KILL"
LEARN = "a sink that only counts waits forever when one message is lost"
RESULTS_PER_COLON = 10


def main(
    *,
    tasks: Annotated[int, "number of results in a batch", 0, 10**7] = 100,
    host: Annotated[str, "address to bind; * for all"] = "127.0.0.1",
    port: Annotated[int, "port for results", 1, 65535] = 5558,
    control_port: Annotated[int, "port for KILL", 1, 65535] = 5559,
    patience: Annotated[float, "seconds without a result until the sink gives up", 0, 86400] = 30.0,
    start: Annotated[float, "seconds to wait for the start of the batch", 0, 86400] = 30.0,
) -> int:
    """Collect a batch. Return 1 if results are missing, 3 if no batch began."""
    with zmq.Context() as context, context.socket(zmq.PULL) as receiver, context.socket(zmq.PUB) as controller:
        controller.linger = 1000  # ms
        receiver.bind(f"tcp://{host}:{port}")
        controller.bind(f"tcp://{host}:{control_port}")
        print("ready", flush=True)
        if not receiver.poll(int(start * 1000)):
            print(f"no batch began within {start:g} s", file=sys.stderr)
            return 3
        receiver.recv()
        start_time = time.monotonic()
        received = collect(receiver, tasks, patience)
        elapsed_ms = (time.monotonic() - start_time) * 1000
        print(f"\n{received} of {tasks} results, total elapsed time: {elapsed_ms:.0f} ms")
        controller.send(b"KILL")
    if received < tasks:
        print(f"{tasks - received} results are missing: the guide's sink would wait for them forever", file=sys.stderr)
        return 1
    return 0


def collect(receiver: zmq.Socket[bytes], tasks: int, patience: float) -> int:
    """Return the number of results; print a dot for each and a colon for each tenth, as the guide's sink does."""
    for received in range(tasks):
        if not receiver.poll(int(patience * 1000)):
            return received
        receiver.recv()
        print(":" if received % RESULTS_PER_COLON == 0 else ".", end="", flush=True)
    return tasks
