"""The guide's weather service: a publisher, readers by topic, and a forwarder between two networks.

    publisher PUB ──ipc, the inner network──┬──► SUB reader of a zip code
                                            ├──► SUB reader of another
                                            └──► XSUB forwarder XPUB ──tcp, the outer network──┬──► SUB reader
                                                                                               └──► SUB reader

An update is "zipcode temperature humidity"; each reader wants one zip code. What it has subscribed to goes up to the
publisher, through the forwarder, too: it sees no update that nobody behind it wants, as its count tells.
"""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from functools import partial
from random import randint, randrange
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Annotated

import zmq

from pipeline.lab.forks import fork_children
from pipeline.lab.table import table

TITLE = "weather by zip code: a publisher, readers, and a forwarder between two networks"
LEARN = "XSUB and XPUB are the two sides of a forwarder: updates go down through it, subscriptions go up"
FIRST, TICK, PATIENCE = 10001, 50, 5_000  # zip code; ms; ms
Context = zmq.Context[zmq.Socket[bytes]]
Rows = list[tuple[str, str, int, int, float]]


def main(
    *,
    readers: Annotated[int, "how many on each network", 1, 100] = 3,
    updates: Annotated[int, "how many each of them reads", 1, 10**9] = 100,
) -> int:
    """Print a row for each reader. 1 if something went where nobody wants it, 3 if a reader got too little."""
    rows: Rows = []
    with TemporaryDirectory() as folder, fork_children([partial(publish, f"ipc://{folder}/inner", 4 * readers)]):
        context = zmq.Context()
        try:
            passed = forward(context, f"ipc://{folder}/inner", readers, updates, rows)
        finally:
            context.term()  # wakes the readers that still wait
    print(table(("network", "zip code", "updates", "of others", "average F"), sorted(rows)))
    print(f"the forwarder passed on {passed.total()} updates of {len(passed)} zip codes; there are {4 * readers}")
    astray = len(passed) > readers or any(row[3] for row in rows)
    return 3 if any(row[2] < updates for row in rows) else int(astray)


def forward(context: Context, inner: str, readers: int, updates: int, rows: Rows) -> Counter[bytes]:
    """Start the readers on both sides, and be the forwarder for as long as they read; what passed, by zip code."""
    passed: Counter[bytes] = Counter()
    with context.socket(zmq.XSUB) as above, context.socket(zmq.XPUB) as below:
        above.connect(inner)
        outer = f"tcp://127.0.0.1:{below.bind_to_random_port('tcp://127.0.0.1')}"
        networks = [("inner", inner)] * readers + [("outer", outer)] * readers
        jobs = [(context, *network, str(code), updates, rows) for code, network in enumerate(networks, FIRST)]
        crew = [Thread(target=read, args=job) for job in jobs]
        for reader in crew:
            reader.start()
        poller = zmq.Poller()
        poller.register(above, zmq.POLLIN)
        poller.register(below, zmq.POLLIN)
        while any(reader.is_alive() for reader in crew):
            ready = dict(poller.poll(TICK))
            if below in ready:
                above.send(below.recv())  # a subscription: a byte that is 1, or 0 for its end, and the topic
            if above in ready:
                below.send(update := above.recv())
                passed[update.split()[0]] += 1
    return passed


def read(context: Context, network: str, at: str, zip_code: str, updates: int, rows: Rows) -> None:
    """A reader: so many updates of one zip code, and their average temperature."""
    seen: list[list[str]] = []
    with suppress(zmq.ZMQError), context.socket(zmq.SUB) as news:
        news.rcvtimeo = PATIENCE
        news.reconnect_ivl = 5  # ms: its publisher may not have bound yet
        news.connect(at)
        news.subscribe(zip_code)
        while len(seen) < updates:
            seen.append(news.recv_string().split())
    own = [int(degrees) for code, degrees, _ in seen if code == zip_code]
    rows.append((network, zip_code, len(own), len(seen) - len(own), sum(own) / max(1, len(own))))


def publish(at: str, zip_codes: int) -> None:
    """The weather of all zip codes, as chance has it, until we are killed."""
    with zmq.Context() as context, context.socket(zmq.PUB) as news:
        news.bind(at)
        while True:
            news.send_string(f"{randrange(zip_codes) + FIRST} {randint(-80, 135)} {randint(10, 60)}")
