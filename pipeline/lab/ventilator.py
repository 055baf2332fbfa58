"""The guide's taskvent: PUSH tasks to the workers, after one message "0" to the sink that starts its clock.

    ventilator ──PUSH─5557──► workers ──PUSH─5558──► sink
         └──────────────"0"──────────────────────────┘

A task is a text: the milliseconds to work. PUSH distributes tasks in turn to the workers that are connected, as fast
as it can, and forgets them. So all workers must be connected before the first task: the guide waits for the Enter
key, this program counts handshakes on the socket's monitor.
"""

from __future__ import annotations

import sys
from typing import Annotated

import zmq
from zmq.utils.monitor import recv_monitor_message

TITLE = "the parallel pipeline, first part: distributes tasks to workers"
LEARN = "PUSH distributes in turn to the connected workers, all at once; it does not track progress"
START = b"0"
MAX_TASK_MS = 100
WORKER_CONNECTED = zmq.EVENT_HANDSHAKE_SUCCEEDED


def main(
    *,
    tasks: Annotated[int, "number of tasks", 0, 10**7] = 100,
    workers: Annotated[int, "number of workers to wait for", 0, 1000] = 1,
    host: Annotated[str, "address to bind, and of the sink; * binds all"] = "127.0.0.1",
    port: Annotated[int, "port for workers", 1, 65535] = 5557,
    sink_port: Annotated[int, "port of the sink", 1, 65535] = 5558,
    patience: Annotated[float, "seconds to wait for each peer", 0, 86400] = 30.0,
) -> int:
    """Wait for the workers and the sink, then send all tasks. Return 3 if a peer is missing."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender, context.socket(zmq.PUSH) as sink:
        for socket in (sender, sink):
            socket.linger = socket.sndtimeo = int(patience * 1000)  # ms
        monitors: list[zmq.Socket[bytes]] = []
        try:
            for socket in (sender, sink):  # one by one, so that an interrupt between the two leaves none open
                monitors.append(socket.get_monitor_socket(WORKER_CONNECTED | zmq.EVENT_DISCONNECTED))  # noqa: PERF401
            worker_monitor, sink_monitor = monitors
            sender.bind(f"tcp://{host}:{port}")
            sink.connect(f"tcp://{host.replace('*', '127.0.0.1')}:{sink_port}")
            connected = count_handshakes(worker_monitor, workers, patience)
            if connected == workers and count_handshakes(sink_monitor, 1, patience):
                sender.poll(0, zmq.POLLOUT)  # process the events of all connections
                return send_tasks(sender, sink, tasks)
        except KeyboardInterrupt:
            sender.linger = sink.linger = 0  # the user will not wait for unsent tasks
            raise
        finally:
            sender.disable_monitor()
            sink.disable_monitor()
            for monitor in monitors:
                monitor.close()
    peers = "no sink" if connected == workers else f"only {connected} of {workers} workers"
    print(f"{peers} connected within {patience:g} s", file=sys.stderr)
    return 3


def count_handshakes(monitor: zmq.Socket[bytes], peers: int, patience: float) -> int:
    """Wait for this many peers, `patience` seconds for each, and return how many are connected."""
    connected = 0
    while connected < peers and monitor.poll(int(patience * 1000)):
        connected += 1 if recv_monitor_message(monitor)["event"] == WORKER_CONNECTED else -1
    return connected


def send_tasks(sender: zmq.Socket[bytes], sink: zmq.Socket[bytes], tasks: int) -> int:
    """Send the start signal to the sink, and all tasks to the workers."""
    work = [milliseconds(task) for task in range(tasks)]
    try:
        sink.send(START)
        for duration in work:
            sender.send(str(duration).encode())
    except zmq.Again:
        print("the workers and the sink accept nothing", file=sys.stderr)
        return 3
    print(f"sent {tasks} tasks: {sum(work)} ms of work")
    return 0


def milliseconds(task: int) -> int:
    """Return the work of a task: 1 to 100 ms, each equally often, in mixed order."""
    return 1 + task * 37 % MAX_TASK_MS
