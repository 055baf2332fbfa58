"""Signals between threads: N threads send numbered pings to the main thread at once, each over its own socket.

    thread 1 ──pings──┐  data     PAIR, SUB, PULL, ROUTER or SERVER
    thread 2 ──pings──┼────────► main thread
    thread 3 ──"done"─┘  control  PULL

All sockets use inproc. The main thread reads two sockets: with --poll through a poller, without it one after the
other. PAIR has one peer: of several threads one is connected, the others block until a watchdog ends the run. PUB
drops what it sends before the subscription arrives. PUSH, DEALER and CLIENT wait for their peer and lose nothing. One
run is in pings.py; this module makes the runs and reports them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from typing import Annotated

import zmq

from pipeline.lab.pings import Pings, run_pings

TITLE = "pings from many threads to one, over five patterns"
LEARN = "PAIR hangs with more than two, PUB loses early messages; PUSH/PULL and DEALER/ROUTER lose none"
KINDS = {
    "pair": ("PAIR", "PAIR"),
    "pubsub": ("PUB", "SUB"),
    "pushpull": ("PUSH", "PULL"),
    "router-dealer": ("DEALER", "ROUTER"),
    "client-server": ("CLIENT", "SERVER"),
}
"""The socket kinds of the threads and of the main thread."""
MAY_LOSE = {"pair", "pubsub"}
ROW = "{:<13}  {:>7}  {:<4}  {:>7}  {:>8}  {:>13}  {:>10}  {:<8}  {:>10}"
HEAD = ("pattern", "threads", "poll", "sent", "received", "lost at start", "lost later", "deadlock", "messages/s")


def main(
    *patterns: Annotated[str, "pair, pubsub, pushpull, router-dealer, client-server, or all"],
    threads: Annotated[int, "number of sending threads; 0 for 1, 10 and 100", 0, 500] = 0,
    msgs: Annotated[int, "pings per thread", 1, 10**6] = 1000,
    poll: Annotated[bool, "wait for both sockets with a poller; `all` runs both ways"] = False,
    sleep: Annotated[float, "seconds between two pings of a thread", 0, 3600] = 0.0,
    debug: Annotated[bool, "print a line for each thread, not only for those with losses"] = False,
    quiet: Annotated[bool, "print no lines for threads"] = False,
) -> int:
    """Print a line for each run. Return 1 for an unexpected loss or deadlock, 3 if libzmq has none of the patterns."""
    names = [*KINDS] if "all" in patterns else [*patterns]
    if unknown := [name for name in patterns if name not in {*KINDS, "all"}]:
        print(f"no such pattern: {unknown[0]}; use one of {', '.join(KINDS)}, or all", file=sys.stderr)
        return 2
    available = [name for name in names if name != "client-server" or zmq.has("draft")]
    ways = (False, True) if "all" in patterns else (poll,)
    is_as_expected = True
    print(ROW.format(*HEAD))
    for name, number, way in product(available, (threads,) if threads else (1, 10, 100), ways):
        pings = run_pings(KINDS[name], Pings(number, msgs, sleep), poll=way)
        print(row(name, pings, poll=way), flush=True)
        is_as_expected &= name in MAY_LOSE or not (
            pings.is_hung or pings.sent_counts != [*map(len, pings.received_numbers)]
        )
        for line in () if quiet else describe_threads(pings, is_verbose=debug):
            print(line, flush=True)
    if len(available) < len(names):
        print("client-server  skipped: CLIENT and SERVER are drafts, and this libzmq was built without them")
    return int(not is_as_expected) if available else 3


def row(name: str, pings: Pings, *, poll: bool) -> str:
    """Return a line of the table."""
    answers = ["yes" if value else "no" for value in (poll, pings.is_hung)]
    sent, received, lost_first = (
        sum(pings.sent_counts),
        sum(map(len, pings.received_numbers)),
        sum(map(pings.lost_at_start, range(pings.threads))),
    )
    rate = f"{received / pings.seconds:.0f}"
    return ROW.format(
        name, pings.threads, answers[0], sent, received, lost_first, sent - received - lost_first, answers[1], rate
    )


def describe_threads(pings: Pings, *, is_verbose: bool) -> Iterator[str]:
    """Yield a line for each thread, or only for those with missing pings."""
    for number, (sent, received) in enumerate(zip(pings.sent_counts, pings.received_numbers, strict=True)):
        if is_verbose or sent > len(received):
            highest = f"highest sent {sent}, highest received {max(received, default=0)}"
            yield f"  thread {number + 1}: {highest}, missing: {pings.gaps(number) or 'none'}"
