"""Ask the service of `pipe lab serve` from several clients at once, and check that each gets its own replies.

    client 1 ─REQ─┐
    client 2 ─REQ─┼─5555─► serve
    client 3 ─REQ─┘

REQ sends a request, waits for the reply, and only then sends the next. Each client puts its number before the text, and
the service answers in capitals, so that a reply to the wrong client shows. With --secure the clients use a key pair
from the service's folder (see keys.py); two clients without valid keys try as well and must be refused.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import suppress
from threading import Thread
from typing import Annotated

import zmq

from pipeline.lab.keys import default_folder, has_keys, set_keys, try_stranger, without_curve
from pipeline.lab.table import table

TITLE = "asks the service, and checks that each client gets its own replies"
LEARN = "REQ is one request, one reply; CURVE refuses unknown clients in the handshake"
Context = zmq.Context[zmq.Socket[bytes]]
Reply = tuple[str, bool]


def main(
    *texts: Annotated[str, "what to ask"],
    clients: Annotated[int, "number of clients", 1, 200] = 3,
    port: Annotated[int, "port of the service", 1, 65535] = 5555,
    secure: Annotated[bool, "use CURVE, and try two clients without valid keys as well"] = False,
    keys: Annotated[str, "with --secure: the key folder of the service"] = "",
    patience: Annotated[float, "seconds to wait for a reply", 0, 86400] = 5.0,
) -> int:
    """Send all texts from each client. Return 1 for a misrouted reply or an accepted stranger, 3 for a lost reply."""
    endpoint, folder = f"tcp://127.0.0.1:{port}", default_folder(keys, port) if secure else ""
    if secure and without_curve():
        return 3
    if secure and not has_keys(folder, patience):
        print(f"no keys in {folder}; start `pipe lab serve --secure` first", file=sys.stderr)
        return 3
    context = zmq.Context()
    context.linger = 0  # default of all sockets; these three are in ms
    context.sndtimeo = context.rcvtimeo = int(patience * 1000)  # a refused client would block in send
    replies: list[Reply] = []
    try:
        threads = [
            Thread(target=ask, args=(context, endpoint, folder, f"client {number + 1}", texts, replies))
            for number in range(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        strangers = [
            try_stranger(context, endpoint, folder, with_keys=with_keys, patience=patience)
            for with_keys in ((True, False) if secure else ())
        ]
    finally:
        context.term()  # wakes the clients that still wait for a reply
    return report(replies, len(texts) * clients, strangers)


def report(replies: list[Reply], asked: int, strangers: list[str]) -> int:
    """Print which worker sent how many replies, and return the exit code."""
    misrouted = sum(not is_own for _, is_own in replies)
    print(table(("worker", "replies"), sorted(Counter(worker for worker, _ in replies).items())))
    print(f"{asked} asked, {len(replies)} replies, {misrouted} misrouted")
    for kind, outcome in zip(("with made-up keys", "without keys"), strangers, strict=False):
        print(f"a client {kind}: {outcome}")
    if len(replies) < asked:
        return 3
    return int(misrouted > 0 or not all(outcome.startswith("refused") for outcome in strangers))


def ask(context: Context, endpoint: str, folder: str, name: str, texts: tuple[str, ...], replies: list[Reply]) -> None:
    """Send each text, and note which worker answered and whether the reply belongs to the request."""
    with suppress(zmq.ZMQError), context.socket(zmq.REQ) as socket:  # no reply, or the context has ended
        if folder:
            set_keys(socket, folder)
        socket.connect(endpoint)
        for text in texts:
            request = os.fsencode(f"{name}: {text}")
            socket.send(request)
            worker, reply = socket.recv_multipart()
            replies.append((worker.decode(errors="replace"), reply == request.upper()))
