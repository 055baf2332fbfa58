"""A request-reply service of many workers behind one address; `pipe lab ask` asks it.

    ask ─REQ─┐                                ┌─ REP worker 1
    ask ─REQ─┼─5555─ ROUTER ◄─zmq.proxy─► DEALER ─ REP worker 2    threads over inproc,
    ask ─REQ─┘           PAIR: counted here   └─ REP worker 3      or processes over ipc

ROUTER names the asker's connection, and by that name a reply finds home. With --secure a guard lets in friends only.
"""

from __future__ import annotations

from collections import Counter
from contextlib import nullcontext, suppress
from functools import partial
from socket import create_server
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Annotated

import zmq

from pipeline.lab.forks import fork_children
from pipeline.lab.keys import Context, Socket, authenticate, default_folder, without_curve
from pipeline.lab.table import table

TITLE = "a request-reply service: many workers behind one address"
LEARN = "ROUTER knows who has asked, DEALER deals out in turn; between them a proxy of one line"
COUNTER_ENDPOINT = "inproc://seen"


def main(
    *,
    processes: Annotated[int, "how many workers, as processes", 0, 200] = 0,
    threads: Annotated[int, "how many, as threads; 3 if there are no others", 0, 200] = 0,
    port: Annotated[int, "where requests come in", 1, 65535] = 5555,
    secure: Annotated[bool, "speak CURVE, and let in friends only"] = False,
    keys: Annotated[str, "with --secure: the folder for the keys, made and removed; by default a temporary one"] = "",
    seconds: Annotated[float, "end when nobody has asked for so long", 0, 86400] = 30.0,
) -> int:
    """Serve until nobody asks any more, and tell who has answered how often. 3 if nobody asked, or without CURVE."""
    if secure and without_curve():
        return 3
    with create_server(("127.0.0.1", port)):
        pass  # in vain if a service is there, whose keys shall stay
    counts = {"process": processes, "thread": threads or 3 * (not processes)}
    names = [f"{kind} {each + 1}" for kind, count in counts.items() for each in range(count)]
    keys = default_folder(keys, port) if secure else ""
    with TemporaryDirectory() as folder:
        back = f"ipc://{folder}/back" if processes else "inproc://back"
        with fork_children(partial(work, back, name) for name in names[:processes]):
            return 0 if serve(f"tcp://127.0.0.1:{port}", back, names[processes:], keys, seconds) else 3


def serve(at: str, back: str, names: list[str], keys: str, seconds: float) -> int:
    """Bind both sides, put the proxy between them, count what it shows."""
    context = zmq.Context()
    context.linger = 0
    front, inside, seen = (context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PAIR))
    proxy = Thread(target=run_proxy, args=(context, front, inside))
    try:
        with authenticate(context, front, keys) if keys else nullcontext():
            for socket, place in ((front, at), (inside, back), (seen, COUNTER_ENDPOINT)):
                socket.bind(place)
            for each in (proxy, *(Thread(target=work, args=(back, name, context)) for name in names)):
                each.start()
            print("ready", flush=True)
            return count(seen, seconds)
    finally:
        seen.close()
        # term wakes the threads, and each closes its own; a proxy that never began would not
        context.term() if proxy.ident else context.destroy()


def run_proxy(context: Context, front: Socket, inside: Socket) -> None:
    """All that a broker is: what comes in on one side goes out on the other, and a copy of it to who looks on."""
    with front, inside, suppress(zmq.ZMQError), context.socket(zmq.PAIR) as shown:
        shown.connect(COUNTER_ENDPOINT)
        zmq.proxy(front, inside, shown)


def count(seen: Socket, seconds: float) -> int:
    """Count replies; they name their worker before the last frame, where requests have an empty one."""
    passed: Counter[str] = Counter()
    try:
        while seen.poll(int(seconds * 1000)):
            if name := seen.recv_multipart()[-2].decode(errors="replace"):
                passed[name] += 1
        return passed.total()
    finally:
        print(table(("worker", "replies"), sorted(passed.items())))


def work(back: str, name: str, shared: Context | None = None) -> None:
    """A worker: the reply is its name, and the same in capitals. A process makes a context of its own."""
    own = nullcontext(shared) if shared else zmq.Context()
    with suppress(zmq.ZMQError), own as context, context.socket(zmq.REP) as replies:
        replies.reconnect_ivl = 5  # ms: a process may come before its service has bound
        replies.connect(back)
        while True:
            replies.send_multipart([name.encode(), replies.recv_multipart()[-1].upper()])
