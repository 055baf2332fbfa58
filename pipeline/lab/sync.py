"""The guide's synchronized publisher, compared with one that does not wait for its subscribers.

    publisher PUB ──"hello" ... 0, 1, 2 ... "end"──► SUB subscriber 1 ... N
              REP ◄─────────────"ready"───────────── REQ

A PUB socket drops messages without a subscription, and does not know its subscribers. So this one repeats a hello until
each subscriber has reported over REQ and REP that it arrives, and then sends the updates. The other publisher begins at
once, and its subscribers lose the first updates. High-water marks are off, so that slow subscribers lose nothing.
"""

from __future__ import annotations

import struct
import time
from contextlib import suppress
from functools import partial
from tempfile import TemporaryDirectory
from typing import Annotated

import zmq

from pipeline.lab.forks import fork_children
from pipeline.lab.table import table

TITLE = "a publisher that waits for its subscribers, and one that does not"
LEARN = "PUB loses early messages: let subscribers report over REQ before the first update"
TIMEOUT_MS, POLL_MS = 10_000, 10
HELLO, END, UPDATE, REPORT = b"hello", b"end", struct.Struct("<q"), struct.Struct("<qq")
HEADS = ("publisher", "subscribers", "updates", "lost at start", "lost later", "seconds")


def main(
    *,
    subscribers: Annotated[int, "number of subscribers, each a process", 1, 200] = 10,
    updates: Annotated[int, "number of updates", 1, 10**9] = 100_000,
) -> int:
    """Print a row for each publisher, with the worst of its subscribers.

    Return 1 if the waiting publisher lost updates, 3 if a subscriber did not report.
    """
    rows = []
    for way, waits in {"waits for subscribers": True, "begins at once": False}.items():
        start_time = time.monotonic()
        reports = publish(subscribers, updates, waits=waits)
        worst = [max(column) for column in zip(*reports or [(updates, 0)], strict=True)]
        rows.append((way, len(reports), updates, *worst, time.monotonic() - start_time))
    print(table(HEADS, rows))
    return 3 if any(row[1] < subscribers for row in rows) else int(any(rows[0][3:5]))


def publish(subscribers: int, updates: int, *, waits: bool) -> list[tuple[int, int]]:
    """Publish all updates. Return how many each subscriber lost before its first one, and after it."""
    with (
        TemporaryDirectory() as folder,
        fork_children([partial(subscribe, folder)] * subscribers),
        zmq.Context() as context,
        context.socket(zmq.PUB) as news,
        context.socket(zmq.REP) as reports,
    ):
        news.sndhwm = news.linger = 0
        news.bind(f"ipc://{folder}/news")
        reports.bind(f"ipc://{folder}/reports")
        gather_reports(news, HELLO, reports, subscribers if waits else 0)
        for number in range(updates):
            news.send(UPDATE.pack(number))
        counts = map(REPORT.unpack, gather_reports(news, END, reports, subscribers))
        return [(first, updates - first - count) if count else (updates, 0) for count, first in counts]


def gather_reports(news: zmq.Socket[bytes], message: bytes, reports: zmq.Socket[bytes], number: int) -> list[bytes]:
    """Repeat a message until this many subscribers have reported, or reports stop."""
    received, last = list[bytes](), time.monotonic()
    while len(received) < number and time.monotonic() - last < TIMEOUT_MS / 1000:
        news.send(message)
        while len(received) < number and reports.poll(POLL_MS):
            received.append(reports.recv())
            reports.send(b"")
            last = time.monotonic()
    return received


def subscribe(folder: str) -> None:
    """Report the first hello, count updates, then report their number and the first one."""
    count, first, reported = 0, 0, False
    with zmq.Context() as context, context.socket(zmq.SUB) as news, context.socket(zmq.REQ) as report:
        news.rcvtimeo, report.rcvtimeo, news.rcvhwm, report.linger = TIMEOUT_MS, TIMEOUT_MS, 0, 0
        news.reconnect_ivl = report.reconnect_ivl = 1  # ms: a subscriber may connect before its publisher has bound
        report.connect(f"ipc://{folder}/reports")
        news.connect(f"ipc://{folder}/news")
        news.subscribe(b"")
        with suppress(zmq.Again):
            while (message := news.recv()) != END:
                if message != HELLO:
                    count, first = count + 1, first if count else UPDATE.unpack(message)[0]
                elif not reported:
                    report.send(b"")
                    reported = report.recv() == b""
            report.send(REPORT.pack(count, first))
            report.recv()
