"""The guide's envelope: filter key, sender address and data, each in its own frame.

    publisher 1 ─┐  ["B", "publisher 1", "..."]           ┌────────────┐
    publisher 2 ─┼─ ["A", ...] goes nowhere ────PUB──► SUB│ "B"        │
    publisher 3 ─┘  ["BB", ...] comes, too                └────────────┘

A subscription is a prefix that is compared with the first frame: a subscriber to B gets BB, too. A publisher does not
send messages without a subscriber. PUB and SUB have no way back, so the address is only a text here.
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
LEARN = "a filter is a prefix of the first frame; a message arrives with all its frames or not at all"
KEYS = ("A", "B", "BB")
TIMEOUT_MS = 2_000
PAUSE_SECONDS = 0.001  # between two rounds of a publisher


def main(
    *,
    key: Annotated[str, "subscription; publishers send A, B and BB; empty for all"] = "B",
    messages: Annotated[int, "number of messages to read", 1, 10**9] = 300,
    publishers: Annotated[int, "number of publishers", 1, 100] = 3,
) -> int:
    """Print a row for each address and key. Return 1 for a message without subscription, 3 for too few messages."""
    prefix, counts = os.fsencode(key), Counter[tuple[bytes, bytes]]()
    context, stop_event = zmq.Context(), Event()
    try:
        with context.socket(zmq.SUB) as reader:
            reader.rcvtimeo = TIMEOUT_MS
            reader.bind("inproc://envelopes")
            reader.subscribe(prefix)
            for number in range(publishers):
                Thread(target=publish, args=(context, f"publisher {number + 1}", stop_event)).start()
            with suppress(zmq.Again):
                while counts.total() < messages:
                    message_key, address, data = reader.recv_multipart()
                    counts[address, message_key] += data.startswith(b"news of ")
    finally:
        stop_event.set()
        context.term()
    print(
        table(
            ("address", "key", "messages"),
            [(*map(bytes.decode, pair), count) for pair, count in sorted(counts.items())],
        )
    )
    print(f"{counts.total()} messages whose key begins with {key!r}")
    if counts.total() < messages:
        print(f"too few messages: the keys are {', '.join(KEYS)}", file=sys.stderr)
        return 3
    return int(not all(message_key.startswith(prefix) for _, message_key in counts))


def publish(context: zmq.Context[zmq.Socket[bytes]], address: str, stop_event: Event) -> None:
    """Publish a message for each key, round after round, over a socket of this thread."""
    with suppress(zmq.ZMQError), context.socket(zmq.PUB) as publisher:
        publisher.connect("inproc://envelopes")
        while not stop_event.wait(PAUSE_SECONDS):
            for key in KEYS:
                publisher.send_multipart([key.encode(), address.encode(), b"news of " + key.encode()])
