"""A request-reply service of many workers behind one address; `pipe lab ask` asks it.

    ask ─REQ─┐                                ┌─ REP worker 1
    ask ─REQ─┼─5555─ ROUTER ◄─zmq.proxy─► DEALER ─ REP worker 2    threads over inproc,
    ask ─REQ─┘           PAIR: counted here   └─ REP worker 3      or processes over ipc

ROUTER puts the name of the asker's connection before each request, DEALER deals out in turn, and by that name a reply
finds home. With --secure the front speaks CURVE, and a guard lets in friends only (see keys.py).
"""

from __future__ import annotations

import sys
from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Annotated

import zmq

from pipeline.lab.forks import forked
from pipeline.lab.keys import Context, Socket, guarded, usual, without_curve
from pipeline.lab.table import table

TITLE = "a request-reply service: many workers behind one address"
LEARN = "ROUTER knows who has asked, DEALER deals out in turn; between them a proxy of one line"
SEEN = "inproc://seen"


def main(
    *,
    processes: Annotated[int, "how many workers, as processes"] = 0,
    threads: Annotated[int, "how many workers, as threads; 3 if neither is said"] = 0,
    port: Annotated[int, "where requests come in"] = 5555,
    secure: Annotated[bool, "speak CURVE, and let in friends only"] = False,
    keys: Annotated[str, "with --secure: the folder for the keys, made and removed; by default a temporary one"] = "",
    seconds: Annotated[float, "end when nobody has asked for so long"] = 30.0,
) -> int:
    """Serve until nobody asks any more, and tell which worker has answered how often. 3 if there is no CURVE."""
    if processes and threads:
        print("workers are --threads or --processes, not both", file=sys.stderr)
        return 2
    if secure and without_curve():
        return 3
    names = [f"{'process' if processes else 'thread'} {each + 1}" for each in range(processes or threads or 3)]
    with TemporaryDirectory() as folder:
        back = f"ipc://{folder}/back" if processes else "inproc://back"
        with forked(partial(work, back, name) for name in names[:processes]):
            serve(f"tcp://127.0.0.1:{port}", back, names[processes:], usual(keys) if secure else "", seconds)
    return 0


def serve(at: str, back: str, names: list[str], keys: str, seconds: float) -> None:
    """Bind both sides, put the proxy between them, count what it shows."""
    context = zmq.Context()
    context.linger = 0
    front, inside, seen = (context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PAIR))
    proxy = Thread(target=between, args=(context, front, inside))
    try:
        with guarded(context, front, keys) if keys else nullcontext():
            for socket, place in ((front, at), (inside, back), (seen, SEEN)):
                socket.bind(place)
            proxy.start()
            for name in names:
                Thread(target=work, args=(back, name, context)).start()
            print("ready", flush=True)
            count(seen, seconds)
    finally:
        seen.close()
        # term wakes the threads, and each closes its own; a proxy that never began would not
        context.term() if proxy.ident else context.destroy()


def between(context: Context, front: Socket, inside: Socket) -> None:
    """All that a broker is: what comes in on one side goes out on the other, and a copy of it to who looks on."""
    with front, inside, suppress(zmq.ZMQError), context.socket(zmq.PAIR) as shown:
        shown.connect(SEEN)
        zmq.proxy(front, inside, shown)


def count(seen: Socket, seconds: float) -> None:
    """Count replies; they name their worker before the last frame, where requests have an empty one."""
    passed: Counter[bytes] = Counter()
    try:
        while seen.poll(int(seconds * 1000)):
            passed[seen.recv_multipart()[-2]] += 1
    finally:
        print(table(("worker", "replies"), sorted((name.decode(), said) for name, said in passed.items() if name)))


def work(back: str, name: str, shared: Context | None = None) -> None:
    """A worker: the reply is its name, and the same in capitals. A process makes a context of its own."""
    context = shared or zmq.Context()
    with suppress(zmq.ZMQError), context.socket(zmq.REP) as replies:
        replies.reconnect_ivl = 5  # ms: a process may come before its service has bound
        replies.connect(back)
        while True:
            replies.send_multipart([name.encode(), replies.recv().upper()])
