"""A request-reply service: many workers behind one address. `pipe lab ask` is its client.

    ask ─REQ─┐                                ┌─ REP worker 1
    ask ─REQ─┼─5555─ ROUTER ◄─zmq.proxy─► DEALER ─ REP worker 2    threads over inproc,
    ask ─REQ─┘           PAIR: counts replies └─ REP worker 3      or processes over ipc

ROUTER puts the name of the client's connection before each request, and uses it to route the reply back. With --secure
an authenticator accepts known keys only.
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
LEARN = "ROUTER knows the client, DEALER distributes in turn; the proxy between them is one line"
COUNTER_ENDPOINT = "inproc://counter"


def main(
    *,
    processes: Annotated[int, "number of workers that are processes", 0, 200] = 0,
    threads: Annotated[int, "number of workers that are threads; 3 if there are no processes", 0, 200] = 0,
    port: Annotated[int, "port for requests", 1, 65535] = 5555,
    secure: Annotated[bool, "use CURVE, and accept known keys only"] = False,
    keys: Annotated[str, "with --secure: the key folder, made and removed; by default a temporary one"] = "",
    seconds: Annotated[float, "end after so many seconds without a request", 0, 86400] = 30.0,
) -> int:
    """Serve until requests stop, and print how often each worker replied. Return 3 without requests or CURVE."""
    if secure and without_curve():
        return 3
    with create_server(("127.0.0.1", port)):
        pass  # fails if a service is running: its keys must stay
    counts = {"process": processes, "thread": threads or 3 * (not processes)}
    names = [f"{kind} {number + 1}" for kind, count in counts.items() for number in range(count)]
    keys = default_folder(keys, port) if secure else ""
    with TemporaryDirectory() as folder:
        backend = f"ipc://{folder}/back" if processes else "inproc://back"
        with fork_children(partial(work, backend, name) for name in names[:processes]):
            return 0 if serve(f"tcp://127.0.0.1:{port}", backend, names[processes:], keys, seconds) else 3


def serve(frontend: str, backend: str, names: list[str], keys: str, seconds: float) -> int:
    """Bind both sides, run the proxy between them, and return the number of replies."""
    context = zmq.Context()
    context.linger = 0
    front, back, counter = (context.socket(kind) for kind in (zmq.ROUTER, zmq.DEALER, zmq.PAIR))
    proxy = Thread(target=run_proxy, args=(context, front, back))
    try:
        with authenticate(context, front, keys) if keys else nullcontext():
            for socket, endpoint in ((front, frontend), (back, backend), (counter, COUNTER_ENDPOINT)):
                socket.bind(endpoint)
            for thread in (proxy, *(Thread(target=work, args=(backend, name, context)) for name in names)):
                thread.start()
            print("ready", flush=True)
            return count(counter, seconds)
    finally:
        counter.close()
        # term wakes the threads, and each closes its sockets; a proxy that never started would not
        context.term() if proxy.ident else context.destroy()


def run_proxy(context: Context, front: Socket, back: Socket) -> None:
    """Forward between both sides, with a copy of each message to the counter."""
    with front, back, suppress(zmq.ZMQError), context.socket(zmq.PAIR) as capture:
        capture.connect(COUNTER_ENDPOINT)
        zmq.proxy(front, back, capture)


def count(counter: Socket, seconds: float) -> int:
    """Count replies by worker. The frame before the last is the worker's name; in a request it is empty."""
    counts: Counter[str] = Counter()
    try:
        while counter.poll(int(seconds * 1000)):
            if name := counter.recv_multipart()[-2].decode(errors="replace"):
                counts[name] += 1
        return counts.total()
    finally:
        print(table(("worker", "replies"), sorted(counts.items())))


def work(backend: str, name: str, shared: Context | None = None) -> None:
    """Reply with the worker's name and the text in capitals. A process makes its own context."""
    manager = nullcontext(shared) if shared else zmq.Context()
    with suppress(zmq.ZMQError), manager as context, context.socket(zmq.REP) as replies:
        replies.reconnect_ivl = 5  # ms: a process may connect before its service has bound
        replies.connect(backend)
        while True:
            replies.send_multipart([name.encode(), replies.recv_multipart()[-1].upper()])
