"""The guide's weather service: a publisher, readers by topic, and a forwarder between two networks.

    publisher PUB ──ipc, the inner network──┬──► SUB reader of a zip code
                                            ├──► SUB reader of another
                                            └──► XSUB forwarder XPUB ──tcp, the outer network──┬──► SUB reader
                                                                                               └──► SUB reader

An update is "zipcode temperature humidity"; each reader subscribes to one zip code. Subscriptions travel up to the
publisher, also through the forwarder. So the forwarder receives only what its readers subscribed to; its count shows
it.
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
LEARN = "XSUB and XPUB are the two sides of a forwarder: updates go down, subscriptions go up"
FIRST_ZIP_CODE, POLL_MS, TIMEOUT_MS = 10001, 50, 5_000
Context = zmq.Context[zmq.Socket[bytes]]
Rows = list[tuple[str, str, int, int, float]]


def main(
    *,
    readers: Annotated[int, "readers on each network", 1, 100] = 3,
    updates: Annotated[int, "updates per reader", 1, 10**9] = 100,
) -> int:
    """Print a row for each reader. Return 1 for updates without a subscription, 3 for a reader with too few."""
    rows: Rows = []
    with TemporaryDirectory() as folder, fork_children([partial(publish, f"ipc://{folder}/inner", 4 * readers)]):
        context = zmq.Context()
        try:
            forwarded = forward(context, f"ipc://{folder}/inner", readers, updates, rows)
        finally:
            context.term()  # wakes the waiting readers
    print(table(("network", "zip code", "updates", "of others", "average F"), sorted(rows)))
    print(f"the forwarder sent {forwarded.total()} updates of {len(forwarded)} zip codes; there are {4 * readers}")
    unsubscribed = len(forwarded) > readers or any(row[3] for row in rows)
    return 3 if any(row[2] < updates for row in rows) else int(unsubscribed)


def forward(context: Context, inner: str, readers: int, updates: int, rows: Rows) -> Counter[bytes]:
    """Run readers on both sides and forward until they end. Return the forwarded updates by zip code."""
    forwarded: Counter[bytes] = Counter()
    with context.socket(zmq.XSUB) as upstream, context.socket(zmq.XPUB) as downstream:
        upstream.connect(inner)
        outer = f"tcp://127.0.0.1:{downstream.bind_to_random_port('tcp://127.0.0.1')}"
        networks = [("inner", inner)] * readers + [("outer", outer)] * readers
        jobs = [(context, *network, str(code), updates, rows) for code, network in enumerate(networks, FIRST_ZIP_CODE)]
        threads = [Thread(target=read, args=job) for job in jobs]
        for reader in threads:
            reader.start()
        poller = zmq.Poller()
        poller.register(upstream, zmq.POLLIN)
        poller.register(downstream, zmq.POLLIN)
        while any(reader.is_alive() for reader in threads):
            ready = dict(poller.poll(POLL_MS))
            if downstream in ready:
                upstream.send(downstream.recv())  # a subscription: byte 1 (or 0 for its end) and the topic
            if upstream in ready:
                downstream.send(update := upstream.recv())
                forwarded[update.split()[0]] += 1
    return forwarded


def read(context: Context, network: str, endpoint: str, zip_code: str, updates: int, rows: Rows) -> None:
    """Read this many updates of one zip code, and add a row with their average temperature."""
    received: list[list[str]] = []
    with suppress(zmq.ZMQError), context.socket(zmq.SUB) as news:
        news.rcvtimeo = TIMEOUT_MS
        news.reconnect_ivl = 5  # ms: the publisher may not have bound yet
        news.connect(endpoint)
        news.subscribe(zip_code)
        while len(received) < updates:
            received.append(news.recv_string().split())
    temperatures = [int(degrees) for code, degrees, _ in received if code == zip_code]
    rows.append(
        (
            network,
            zip_code,
            len(temperatures),
            len(received) - len(temperatures),
            sum(temperatures) / max(1, len(temperatures)),
        )
    )


def publish(endpoint: str, zip_codes: int) -> None:
    """Publish random weather of all zip codes until killed."""
    with zmq.Context() as context, context.socket(zmq.PUB) as news:
        news.bind(endpoint)
        while True:
            news.send_string(f"{randrange(zip_codes) + FIRST_ZIP_CODE} {randint(-80, 135)} {randint(10, 60)}")
