"""One run of pings: threads that send all at once, and the main thread that reads them, as signal.py wants it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Barrier, BrokenBarrierError, Event, Thread

import zmq

DATA, CONTROL = "inproc://data", "inproc://control"
WATCHDOG, TICK, PAUSE = 5.0, 50, 0.0002  # seconds until a run hangs; ms of a poll; seconds between two looks
Socket = zmq.Socket[bytes]


@dataclass
class Pings:
    """What is to be sent, and what was: of each thread how many, and the numbers that came, from 1."""

    threads: int
    msgs: int
    sleep: float
    seconds: float = 0.0
    is_hung: bool = False
    stop_event: Event = field(default_factory=Event)
    sent_counts: list[int] = field(init=False)
    received_numbers: list[list[int]] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is sent yet."""
        self.sent_counts, self.received_numbers = [0] * self.threads, [[] for _ in range(self.threads)]

    def lost_at_start(self, thread: int) -> int:
        """How many of a thread's were sent before the first that came."""
        return min(self.received_numbers[thread], default=self.sent_counts[thread] + 1) - 1

    def gaps(self, thread: int) -> str:
        """Which of a thread's are missing, as first-last."""
        edges = pairwise([0, *self.received_numbers[thread], self.sent_counts[thread] + 1])
        return " ".join(f"{low + 1}-{high - 1}" for low, high in edges if high > low + 1)


def run_pings(kinds: tuple[str, str], pings: Pings, *, poll: bool) -> Pings:
    """Send and read them over sockets of these kinds, the threads' and ours."""
    theirs, ours = (getattr(zmq, kind) for kind in kinds)
    context, together = zmq.Context(), Barrier(pings.threads)
    if theirs == zmq.PAIR:
        context.sndhwm = context.rcvhwm = 10  # by the usual mark a thread would lose 2000 until it waits
    try:
        with context.socket(ours) as data, context.socket(zmq.PULL) as control:
            data.bind(DATA)
            control.bind(CONTROL)
            if ours == zmq.SUB:
                data.subscribe(b"")
            for thread in range(pings.threads):
                Thread(target=send, args=(context, theirs, together, pings, thread)).start()
            collect(data, control, pings, poll=poll)
    finally:
        pings.stop_event.set()
        together.abort()
        context.term()  # wakes the threads that still wait; each closes its own sockets
    return pings


def send(context: zmq.Context[Socket], kind: int, together: Barrier, pings: Pings, thread: int) -> None:
    """A thread: two sockets of its own, all its pings, and a word that this was all."""
    with suppress(zmq.ZMQError, BrokenBarrierError), context.socket(kind) as data, context.socket(zmq.PUSH) as control:
        data.connect(DATA)
        control.connect(CONTROL)
        together.wait()
        for number in range(1, pings.msgs + 1):
            data.send(b"%d %d" % (thread, number))
            pings.sent_counts[thread] = number
            if pings.sleep:
                pings.stop_event.wait(pings.sleep)
        control.send(b"done")


def collect(data: Socket, control: Socket, pings: Pings, *, poll: bool) -> None:
    """Read until all threads are done, or nothing has come for too long."""
    poller = zmq.Poller()
    poller.register(data, zmq.POLLIN)
    poller.register(control, zmq.POLLIN)
    done, began, last, ready = 0, time.monotonic(), time.monotonic(), {data: 1}
    while (ready or done < pings.threads) and time.monotonic() - last < WATCHDOG + pings.sleep:
        ready = dict(poller.poll(TICK)) if poll else {each: 1 for each in (data, control) if each.poll(0)}
        if data in ready:
            thread, number = data.recv_multipart()[-1].split()
            pings.received_numbers[int(thread)].append(int(number))
        elif control in ready:
            done += bool(control.recv())
        elif not poll:
            time.sleep(PAUSE)
        last = time.monotonic() if ready else last
    pings.seconds, pings.is_hung = max(last - began, 1e-9), done < pings.threads
