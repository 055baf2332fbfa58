"""The guide's taskvent: PUSH tasks to the workers, after one message "0" to the sink that starts its clock.

    ventilator ──PUSH─5557──► workers ──PUSH─5558──► sink
         └──────────────"0"──────────────────────────┘

A task is a text, the milliseconds to work. PUSH deals tasks out in turn to the workers that are connected now, as
fast as it can, and forgets them. So it matters that all workers are there before the first one: the guide asks for
the Enter key, we count handshakes on the socket's monitor.
"""

from __future__ import annotations

import sys
from typing import Annotated

import zmq
from zmq.utils.monitor import recv_monitor_message

TITLE = "the parallel pipeline, first part: deals tasks out to workers"
LEARN = "PUSH deals in turn to who is there now, all at once; it never asks who has done what"
START = b"0"
LONGEST = 100  # ms
WORKER_CONNECTED = zmq.EVENT_HANDSHAKE_SUCCEEDED


def main(
    *,
    tasks: Annotated[int, "how many tasks", 0, 10**7] = 100,
    workers: Annotated[int, "begin when so many workers are connected", 0, 1000] = 1,
    host: Annotated[str, "where to bind, and where the sink is; * binds everywhere"] = "127.0.0.1",
    port: Annotated[int, "where workers get their tasks", 1, 65535] = 5557,
    sink_port: Annotated[int, "where the sink listens", 1, 65535] = 5558,
    patience: Annotated[float, "seconds to wait for each of them", 0, 86400] = 30.0,
) -> int:
    """Wait for the workers and the sink, start it, send all tasks. 3 if somebody does not come."""
    with zmq.Context() as context, context.socket(zmq.PUSH) as sender, context.socket(zmq.PUSH) as sink:
        for socket in (sender, sink):
            socket.linger = socket.sndtimeo = int(patience * 1000)  # ms, for what is not sent yet
        monitors: list[zmq.Socket[bytes]] = []
        try:
            for socket in (sender, sink):  # one by one: an interrupt between the two must not leave one open
                monitors.append(socket.get_monitor_socket(WORKER_CONNECTED | zmq.EVENT_DISCONNECTED))
            hands, drain = monitors
            sender.bind(f"tcp://{host}:{port}")
            sink.connect(f"tcp://{host.replace('*', '127.0.0.1')}:{sink_port}")
            here = count_handshakes(hands, workers, patience)
            if here == workers and count_handshakes(drain, 1, patience):
                sender.poll(0, zmq.POLLOUT)  # it takes note of all its connections
                return deal(sender, sink, tasks)
        except KeyboardInterrupt:
            sender.linger = sink.linger = 0  # who interrupts us will not wait for what is not sent
            raise
        finally:
            sender.disable_monitor()
            sink.disable_monitor()
            for monitor in monitors:
                monitor.close()
    who = "no sink" if here == workers else f"{here} of {workers} workers"
    print(f"{who} came within {patience:g} s", file=sys.stderr)
    return 3


def count_handshakes(monitor: zmq.Socket[bytes], hands: int, patience: float) -> int:
    """How many of the others have shaken hands and not gone; waits for as many, `patience` seconds for each."""
    here = 0
    while here < hands and monitor.poll(int(patience * 1000)):
        here += 1 if recv_monitor_message(monitor)["event"] == WORKER_CONNECTED else -1
    return here


def deal(sender: zmq.Socket[bytes], sink: zmq.Socket[bytes], tasks: int) -> int:
    """Send the start, and all tasks."""
    work = [milliseconds(task) for task in range(tasks)]
    try:
        sink.send(START)
        for each in work:
            sender.send(str(each).encode())
    except zmq.Again:
        print("nobody takes what we send", file=sys.stderr)
        return 3
    print(f"sent {tasks} tasks: {sum(work)} ms of work")
    return 0


def milliseconds(task: int) -> int:
    """The work of a task: 1 to 100 ms, each as often as any other, in a mixed order."""
    return 1 + task * 37 % LONGEST
