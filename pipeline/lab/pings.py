"""One run of pings for signal.py: threads send at once, and the main thread reads."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Barrier, BrokenBarrierError, Event, Thread

import zmq

DATA, CONTROL = "inproc://data", "inproc://control"
DEADLOCK_SECONDS, POLL_MS, PAUSE_SECONDS = 5.0, 50, 0.0002  # the last: between two non-blocking reads
Socket = zmq.Socket[bytes]


@dataclass
class Pings:
    """The parameters and results of one run. Pings of a thread are numbered from 1."""

    threads: int
    msgs: int
    sleep: float
    seconds: float = 0.0
    is_hung: bool = False
    stop_event: Event = field(default_factory=Event)
    sent_counts: list[int] = field(init=False)
    received_numbers: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.sent_counts, self.received_numbers = [0] * self.threads, [[] for _ in range(self.threads)]

    def lost_at_start(self, thread: int) -> int:
        """Return how many pings of a thread were lost before the first that arrived."""
        return min(self.received_numbers[thread], default=self.sent_counts[thread] + 1) - 1

    def gaps(self, thread: int) -> str:
        """Return the missing pings of a thread, as first-last."""
        edges = pairwise([0, *self.received_numbers[thread], self.sent_counts[thread] + 1])
        return " ".join(f"{low + 1}-{high - 1}" for low, high in edges if high > low + 1)


def run_pings(kinds: tuple[str, str], pings: Pings, *, poll: bool) -> Pings:
    """Send and read pings over sockets of these kinds: the threads' and the main thread's."""
    sender_kind, receiver_kind = (getattr(zmq, kind) for kind in kinds)
    context, barrier = zmq.Context(), Barrier(pings.threads)
    if sender_kind == zmq.PAIR:
        context.sndhwm = context.rcvhwm = 10  # with the default marks a thread would lose 2000 pings before it blocks
    try:
        with context.socket(receiver_kind) as data, context.socket(zmq.PULL) as control:
            data.bind(DATA)
            control.bind(CONTROL)
            if receiver_kind == zmq.SUB:
                data.subscribe(b"")
            for thread in range(pings.threads):
                Thread(target=send, args=(context, sender_kind, barrier, pings, thread)).start()
            collect(data, control, pings, poll=poll)
    finally:
        pings.stop_event.set()
        barrier.abort()
        context.term()  # wakes the waiting threads; each closes its own sockets
    return pings


def send(context: zmq.Context[Socket], kind: int, barrier: Barrier, pings: Pings, thread: int) -> None:
    """Send all pings of one thread over its own sockets, then `done`."""
    with suppress(zmq.ZMQError, BrokenBarrierError), context.socket(kind) as data, context.socket(zmq.PUSH) as control:
        data.connect(DATA)
        control.connect(CONTROL)
        barrier.wait()
        for number in range(1, pings.msgs + 1):
            data.send(b"%d %d" % (thread, number))
            pings.sent_counts[thread] = number
            if pings.sleep:
                pings.stop_event.wait(pings.sleep)
        control.send(b"done")


def collect(data: Socket, control: Socket, pings: Pings, *, poll: bool) -> None:
    """Read until all threads are done, or nothing has arrived for DEADLOCK_SECONDS."""
    poller = zmq.Poller()
    poller.register(data, zmq.POLLIN)
    poller.register(control, zmq.POLLIN)
    done, start_time, last, ready = 0, time.monotonic(), time.monotonic(), {data: 1}
    while (ready or done < pings.threads) and time.monotonic() - last < DEADLOCK_SECONDS + pings.sleep:
        ready = dict(poller.poll(POLL_MS)) if poll else {socket: 1 for socket in (data, control) if socket.poll(0)}
        if data in ready:
            thread, number = data.recv_multipart()[-1].split()
            pings.received_numbers[int(thread)].append(int(number))
        elif control in ready:
            done += bool(control.recv())
        elif not poll:
            time.sleep(PAUSE_SECONDS)
        last = time.monotonic() if ready else last
    pings.seconds, pings.is_hung = max(last - start_time, 1e-9), done < pings.threads
