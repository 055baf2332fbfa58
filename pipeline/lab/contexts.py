"""Contexts, processes and threads: which of them can use which context.

    process 1                      process 2         process 3, and its child
    ┌ context ─────────────────┐   ┌ context ───┐    ┌ context ┐ ┌ the same one ┐
    │ REP ◄──inproc── thread's │   │            │    │   REP   │✗│              │
    │  ▲   ◄──inproc── thread's│   │            │    │         │ │     REQ      │
    └──┼───────────────────────┘   └── REQ ─────┘    └─────────┘ └──────────────┘
       └──────────────ipc───────────────┘

Each of them sends a request over a socket of its own; a reply shows that the context works. A context consists of I/O
threads and mailboxes between them. A fork copies the mailboxes but no thread, so a message sent in an inherited context
waits for an I/O thread that does not exist. A watchdog kills that child after 1 s. The child has a parent of its own,
because the half-shared mailboxes can make libzmq abort the parent, too.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from tempfile import TemporaryDirectory
from typing import Annotated

import zmq

from pipeline.lab.forks import fork_children, wait_for_exit
from pipeline.lab.table import table

TITLE = "which processes and threads can use a context, and a child that inherits one"
LEARN = "one context per process, made after the fork; threads share it, each with its own socket"
WATCHDOG_MS, TIMEOUT_MS = 1000, 10_000
HUNG_CODE, ANSWERED_CODE = 0, 1
Context = zmq.Context[zmq.Socket[bytes]]


def main(
    *,
    processes: Annotated[int, "children with a context of their own", 0, 200] = 2,
    threads: Annotated[int, "threads in the context of this process", 0, 200] = 2,
) -> int:
    """Print a row for each requester. Return 1 if the inherited context works, or another one does not."""
    read, write = os.pipe()
    with TemporaryDirectory() as folder, os.fdopen(read) as reader, os.fdopen(write, "w") as writer:
        endpoint = f"ipc://{folder}/ask"
        inheriting = partial(run_inherited_context, f"{endpoint}.3", writer.fileno())
        with fork_children([*[partial(run_own_context, endpoint)] * processes, inheriting]) as pids:
            rows = [(*row, "works") for row in collect_requests(endpoint, processes, threads)]
            code = wait_for_exit(pids[-1], TIMEOUT_MS / 1000)
        outcomes = {HUNG_CODE: "hangs: killed by the watchdog", ANSWERED_CODE: "works", None: "hangs with its parent"}
        rows.append((*reader.readline().rstrip().split("|"), outcomes.get(code, f"its parent was aborted: {code}")))
    print(table(("requester", "pid", "context", "thread", "outcome"), rows))
    return int(len(rows) <= processes + threads or code == ANSWERED_CODE)


def collect_requests(endpoint: str, processes: int, threads: int) -> list[tuple[str, ...]]:
    """Answer requests, over ipc from other processes and over inproc from own threads. Return a sorted row for each."""
    context = zmq.Context()
    askers = [threading.Thread(target=ask, args=(context, "inproc://ask", "thread")) for _ in range(threads)]
    try:
        with context.socket(zmq.REP) as answers:
            answers.bind(endpoint)
            answers.bind("inproc://ask")
            for asker in askers:
                asker.start()
            rows: list[tuple[str, ...]] = []
            while len(rows) < processes + threads and answers.poll(TIMEOUT_MS):
                rows.append(tuple(answers.recv_string().split("|")))
                answers.send(b"yes")
            return sorted(rows)
    finally:
        context.term()  # wakes the threads that still wait; each closes its own socket


def ask(context: Context, endpoint: str, requester: str, creator_pid: int = 0) -> None:
    """Send requester, pid, creator of the context and thread over a new socket; wait for the reply."""
    pid, name = os.getpid(), threading.current_thread().name
    try:
        with context.socket(zmq.REQ) as socket:
            socket.linger, socket.rcvtimeo = 0, TIMEOUT_MS
            socket.connect(endpoint)
            socket.send_string(f"{requester}|{pid}|of {creator_pid or pid}|{name}")
            socket.recv()
    except zmq.ZMQError:
        return  # no reply, or the context has ended


def run_own_context(endpoint: str) -> None:
    """Ask from a child that makes a context of its own."""
    with zmq.Context() as context:
        ask(context, endpoint, "process")


def run_inherited_context(endpoint: str, writer: int) -> int:
    """Make a context and fork a child that uses it. Return whether its request arrived, as an exit code."""
    creator_pid = os.getpid()
    with zmq.Context() as context, context.socket(zmq.REP) as answers:
        answers.bind(endpoint)
        with fork_children([partial(ask, context, endpoint, "forked child", creator_pid)]) as pids:
            os.write(writer, f"forked child|{pids[0]}|of {creator_pid}|MainThread\n".encode())
            return ANSWERED_CODE if answers.poll(WATCHDOG_MS) else HUNG_CODE
