"""The guide's envelope: a key that is filtered by, the sender's address, and the data, a frame each.

    publisher 1 ─┐  ["B", "publisher 1", "..."]           ┌────────────┐
    publisher 2 ─┼─ ["A", ...] goes nowhere ────PUB──► SUB│ "B"        │
    publisher 3 ─┘  ["BB", ...] comes, too                └────────────┘

A subscription is the beginning of what is wanted, and it is compared with the beginning of the first frame: who
subscribes to B gets BB, too. What nobody wants does not leave its publisher. The address tells whom to answer; PUB and
SUB have no way back, so it is only a text here.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import suppress
from threading import Event, Thread
from typing import Annotated

import zmq

from pipeline.lab.table import table

TITLE = "an envelope: key, address and data in frames of their own, and a filter by key"
LEARN = "a filter is a prefix of the first frame; all frames of a message come together, or none"
KEYS = ("A", "B", "BB")
PATIENCE = 2_000  # ms
PAUSE = 0.001  # seconds between two rounds of a publisher


def main(
    *,
    key: Annotated[str, "what to subscribe to; publishers say A, B and BB; empty is everything"] = "B",
    messages: Annotated[int, "how many to read", 1, 10**9] = 300,
    publishers: Annotated[int, "how many there are", 1, 100] = 3,
) -> int:
    """Print who has said what. 1 if something came that was not subscribed to, 3 if nobody says anything like that."""
    wanted, came = os.fsencode(key), Counter[tuple[bytes, bytes]]()
    context, enough = zmq.Context(), Event()
    try:
        with context.socket(zmq.SUB) as reader:
            reader.rcvtimeo = PATIENCE
            reader.bind("inproc://envelopes")
            reader.subscribe(wanted)
            for number in range(publishers):
                Thread(target=publish, args=(context, f"publisher {number + 1}", enough)).start()
            with suppress(zmq.Again):
                while came.total() < messages:
                    heard, address, data = reader.recv_multipart()
                    came[address, heard] += data.startswith(b"news of ")
    finally:
        enough.set()
        context.term()
    print(
        table(
            ("address", "key", "messages"),
            [(of.decode(), heard.decode(), count) for (of, heard), count in sorted(came.items())],
        )
    )
    print(f"{came.total()} messages whose key begins with {key!r}")
    if came.total() < messages:
        print(f"nobody says so: the keys are {', '.join(KEYS)}", file=sys.stderr)
        return 3
    return int(not all(heard.startswith(wanted) for _, heard in came))


def publish(context: zmq.Context[zmq.Socket[bytes]], address: str, enough: Event) -> None:
    """A thread with a socket of its own: a message for each key, round after round."""
    with suppress(zmq.ZMQError), context.socket(zmq.PUB) as publisher:
        publisher.connect("inproc://envelopes")
        while not enough.wait(PAUSE):
            for key in KEYS:
                publisher.send_multipart([key.encode(), address.encode(), b"news of " + key.encode()])
