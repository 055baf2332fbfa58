"""Signals between threads: N threads send numbered pings to the main one, all at once, over sockets of their own.

    thread 1 ──pings──┐  data     PAIR, SUB, PULL, ROUTER or SERVER
    thread 2 ──pings──┼────────► main thread
    thread 3 ──"done"─┘  control  PULL

All over inproc. The main thread reads two sockets: with --poll a poller waits for both, without it asks one after the
other. PAIR is for two: of more threads one is heard, the others wait for ever, so a watchdog ends them. PUB drops what
it says before the subscription has come to it. PUSH, DEALER and CLIENT wait for their peer, and lose nothing. What one
run does is on the page beside this, pings.py; here are the runs, and what is told of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import product
from typing import Annotated

import zmq

from pipeline.lab.pings import Pings, run_pings

TITLE = "pings from many threads to one, over five patterns"
LEARN = "PAIR hangs with more than two, PUB forgets who comes late; PUSH/PULL and DEALER/ROUTER keep all"
KINDS = {
    "pair": ("PAIR", "PAIR"),
    "pubsub": ("PUB", "SUB"),
    "pushpull": ("PUSH", "PULL"),
    "router-dealer": ("DEALER", "ROUTER"),
    "client-server": ("CLIENT", "SERVER"),
}
"""The sockets of the threads and of the main one."""
MAY_LOSE = {"pair", "pubsub"}
ROW = "{:<13}  {:>7}  {:<4}  {:>7}  {:>8}  {:>13}  {:>10}  {:<8}  {:>10}"
HEAD = ("pattern", "threads", "poll", "sent", "received", "lost at start", "lost later", "deadlock", "messages/s")


def main(
    *patterns: Annotated[str, "pair, pubsub, pushpull, router-dealer, client-server, or all"],
    threads: Annotated[int, "how many send; 0 is 1, 10 and 100", 0, 500] = 0,
    msgs: Annotated[int, "pings of each thread", 1, 10**6] = 1000,
    poll: Annotated[bool, "wait for both sockets with a poller; `all` shows both ways"] = False,
    sleep: Annotated[float, "seconds between two pings of a thread", 0, 3600] = 0.0,
    debug: Annotated[bool, "tell of each thread what was sent and what came, not only where that differs"] = False,
    quiet: Annotated[bool, "tell it of none"] = False,
) -> int:
    """A line for each run. 1 if a pattern lost something or hung that should not, 3 if this libzmq has none of them."""
    names = [*KINDS] if "all" in patterns else [*patterns]
    if wrong := [name for name in patterns if name not in {*KINDS, "all"}]:
        print(f"no such pattern: {wrong[0]}; there are {', '.join(KINDS)} and all", file=sys.stderr)
        return 2
    here = [name for name in names if name != "client-server" or zmq.has("draft")]
    ways = (False, True) if "all" in patterns else (poll,)
    as_it_should = True
    print(ROW.format(*HEAD))
    for name, number, way in product(here, (threads,) if threads else (1, 10, 100), ways):
        pings = run_pings(KINDS[name], Pings(number, msgs, sleep), poll=way)
        print(row(name, pings, poll=way), flush=True)
        as_it_should &= name in MAY_LOSE or not (
            pings.is_hung or pings.sent_counts != [*map(len, pings.received_numbers)]
        )
        for line in () if quiet else threads_of(pings, all_of_them=debug):
            print(line, flush=True)
    if len(here) < len(names):
        print("client-server  skipped: CLIENT and SERVER are drafts, and this libzmq was built without them")
    return int(not as_it_should) if here else 3


def row(name: str, pings: Pings, *, poll: bool) -> str:
    """A line of the table."""
    words = [{True: "yes", False: "no"}[word] for word in (poll, pings.is_hung)]
    sent, came, first = (
        sum(pings.sent_counts),
        sum(map(len, pings.received_numbers)),
        sum(map(pings.lost_at_start, range(pings.threads))),
    )
    rate = f"{came / pings.seconds:.0f}"
    return ROW.format(name, pings.threads, words[0], sent, came, first, sent - came - first, words[1], rate)


def threads_of(pings: Pings, *, all_of_them: bool) -> Iterator[str]:
    """A line for each thread, or for those from which something is missing."""
    for number, (sent, came) in enumerate(zip(pings.sent_counts, pings.received_numbers, strict=True)):
        if all_of_them or sent > len(came):
            highest = f"highest sent {sent}, highest received {max(came, default=0)}"
            yield f"  thread {number + 1}: {highest}, missing: {pings.gaps(number) or 'none'}"
