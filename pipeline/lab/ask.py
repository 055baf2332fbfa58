"""Ask the service of `pipe lab serve`, from several clients at once, and look whether each gets its own replies.

    client 1 ─REQ─┐
    client 2 ─REQ─┼─5555─► serve
    client 3 ─REQ─┘

REQ asks, waits, and asks again. Each client puts its number before what it asks, and the service answers in capitals:
so a reply that came home to somebody else would be seen. With --secure the clients are friends, whose keys are in the
service's folder (see keys.py); two strangers try as well, and must be refused.
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

TITLE = "asks the service, and checks that each reply comes home to its asker"
LEARN = "REQ is one question, one answer; CURVE keeps strangers out before they can say a word"
Context = zmq.Context[zmq.Socket[bytes]]
Reply = tuple[str, bool]


def main(
    *texts: Annotated[str, "what to ask"],
    clients: Annotated[int, "how many ask at once", 1, 200] = 3,
    port: Annotated[int, "where the service is", 1, 65535] = 5555,
    secure: Annotated[bool, "speak CURVE, and let two strangers try, too"] = False,
    keys: Annotated[str, "with --secure: the folder that the service was given"] = "",
    patience: Annotated[float, "seconds to wait for a reply", 0, 86400] = 5.0,
) -> int:
    """Ask all texts from each client. 1 if a reply went astray or a stranger came in, 3 if one did not come."""
    at, folder = f"tcp://127.0.0.1:{port}", default_folder(keys, port) if secure else ""
    if secure and without_curve():
        return 3
    if secure and not has_keys(folder, patience):
        print(f"no keys of ours in {folder}: they are there while `pipe lab serve --secure` runs", file=sys.stderr)
        return 3
    context = zmq.Context()
    context.linger = 0  # of each socket, and in ms, as what follows
    context.sndtimeo = context.rcvtimeo = int(patience * 1000)  # who was refused would wait for ever to send
    replies: list[Reply] = []
    try:
        asking = [
            Thread(target=ask, args=(context, at, folder, f"client {each + 1}", texts, replies))
            for each in range(clients)
        ]
        for each in asking:
            each.start()
        for each in asking:
            each.join()
        ways = (True, False) if secure else ()
        strangers = [try_stranger(context, at, folder, with_keys=way, patience=patience) for way in ways]
    finally:
        context.term()  # wakes who still waits for a reply
    return report(replies, len(texts) * clients, strangers)


def report(replies: list[Reply], asked: int, strangers: list[str]) -> int:
    """Tell how the replies were spread, and whether all is as it should be."""
    astray = sum(not is_home for _, is_home in replies)
    print(table(("worker", "replies"), sorted(Counter(worker for worker, _ in replies).items())))
    print(f"{asked} asked, {len(replies)} replies, {astray} astray")
    for who, what in zip(("with made-up keys", "without keys"), strangers, strict=False):
        print(f"a stranger {who}: {what}")
    if len(replies) < asked:
        return 3
    return int(astray > 0 or not all(what.startswith("refused") for what in strangers))


def ask(context: Context, at: str, folder: str, name: str, texts: tuple[str, ...], replies: list[Reply]) -> None:
    """A client: asks each text, and notes who has answered and whether it was this very question."""
    with suppress(zmq.ZMQError), context.socket(zmq.REQ) as question:  # no reply, or all is over
        if folder:
            set_keys(question, folder)
        question.connect(at)
        for text in texts:
            asked = os.fsencode(f"{name}: {text}")
            question.send(asked)
            worker, said = question.recv_multipart()
            replies.append((worker.decode(errors="replace"), said == asked.upper()))
