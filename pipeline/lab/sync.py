"""The guide's synchronized publisher, and beside it one that does not wait for its subscribers.

    publisher PUB ──"hello" ... 0, 1, 2 ... "end"──► SUB subscriber 1 ... N
              REP ◄────────────"I hear you"───────── REQ

A PUB drops what it says while nobody has subscribed, and is not told who has. So it says hello until each subscriber
has reported, over REQ and REP, that it hears; only then come the updates. The other one begins at once, as its
subscribers do: they lose the first updates. There are no marks, so that none is lost because somebody is slow.
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
LEARN = "PUB forgets who comes late: let subscribers report before the first update, over REQ"
PATIENCE, TICK = 10_000, 10  # ms
HELLO, END, UPDATE, REPORT = b"hello", b"end", struct.Struct("<q"), struct.Struct("<qq")
HEADS = ("a publisher that", "subscribers", "updates", "lost at start", "lost later", "seconds")


def main(
    *,
    subscribers: Annotated[int, "how many, each a process", 1, 200] = 10,
    updates: Annotated[int, "how many", 1, 10**9] = 100_000,
) -> int:
    """Print a row for each way, the worst of its subscribers. 1 if who was waited for lost something, 3 if silent."""
    rows = []
    for way, waits in {"waits for them": True, "begins at once": False}.items():
        began = time.monotonic()
        reports = publish(subscribers, updates, waits=waits)
        worst = [max(column) for column in zip(*reports or [(updates, 0)], strict=True)]
        rows.append((way, len(reports), updates, *worst, time.monotonic() - began))
    print(table(HEADS, rows))
    return 3 if any(row[1] < subscribers for row in rows) else int(any(rows[0][3:5]))


def publish(subscribers: int, updates: int, *, waits: bool) -> list[tuple[int, int]]:
    """Say all updates; how many each subscriber lost before the first that it got, and after it."""
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
        found = map(REPORT.unpack, gather_reports(news, END, reports, subscribers))
        return [(first, updates - first - got) if got else (updates, 0) for got, first in found]


def gather_reports(news: zmq.Socket[bytes], word: bytes, reports: zmq.Socket[bytes], number: int) -> list[bytes]:
    """Say a word again and again until so many have reported, or none does any more."""
    come, last = list[bytes](), time.monotonic()
    while len(come) < number and time.monotonic() - last < PATIENCE / 1000:
        news.send(word)
        while len(come) < number and reports.poll(TICK):
            come.append(reports.recv())
            reports.send(b"")
            last = time.monotonic()
    return come


def subscribe(folder: str) -> None:
    """Report that there is a hello, count updates, and report how many there were, and which was the first."""
    count, first, reported = 0, 0, False
    with zmq.Context() as context, context.socket(zmq.SUB) as news, context.socket(zmq.REQ) as report:
        news.rcvtimeo, report.rcvtimeo, news.rcvhwm, report.linger = PATIENCE, PATIENCE, 0, 0
        news.reconnect_ivl = report.reconnect_ivl = 1  # ms: a subscriber may come before its publisher has bound
        report.connect(f"ipc://{folder}/reports")
        news.connect(f"ipc://{folder}/news")
        news.subscribe(b"")
        with suppress(zmq.Again):
            while (word := news.recv()) != END:
                if word != HELLO:
                    count, first = count + 1, first if count else UPDATE.unpack(word)[0]
                elif not reported:
                    report.send(b"")
                    reported = report.recv() == b""
            report.send(REPORT.pack(count, first))
            report.recv()
