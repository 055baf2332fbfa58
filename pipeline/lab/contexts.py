"""Contexts, processes and threads: each who asks over a socket of its own and is answered can use its context.

    process 1                      process 2         process 3, and its child
    ┌ context ─────────────────┐   ┌ context ───┐    ┌ context ┐ ┌ the same one ┐
    │ REP ◄──inproc── thread's │   │            │    │   REP   │✗│              │
    │  ▲   ◄──inproc── thread's│   │            │    │         │ │     REQ      │
    └──┼───────────────────────┘   └── REQ ─────┘    └─────────┘ └──────────────┘
       └──────────────ipc───────────────┘

A context is threads, and mailboxes between them. A fork copies the mailboxes and no thread: what is sent in an
inherited context waits for an io thread that is not there. The one that tries is watched, and killed after 1 s. It
has a parent of its own, because what it does to mailboxes that are half shared can make libzmq abort that, too.
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

TITLE = "who may use a context: processes, threads, and a child that inherits one"
LEARN = "a context a process, made after the fork; threads share it, and have a socket each"
WATCHDOG, PATIENCE = 1000, 10_000  # ms
HUNG_CODE, ANSWERED_CODE = 0, 1
Context = zmq.Context[zmq.Socket[bytes]]


def main(
    *,
    processes: Annotated[int, "children with a context of their own", 0, 200] = 2,
    threads: Annotated[int, "threads in the context of this process", 0, 200] = 2,
) -> int:
    """Print a row for each who asked. 1 if somebody could not do what it should, or what it should not."""
    read, write = os.pipe()
    with TemporaryDirectory() as folder, os.fdopen(read) as inherits, os.fdopen(write, "w") as tell:
        at = f"ipc://{folder}/ask"
        works = [partial(run_own_context, at)] * processes + [partial(run_inherited_context, f"{at}.3", tell.fileno())]
        with fork_children(works) as pids:
            rows = [(*row, "works") for row in collect_requests(at, processes, threads)]
            code = wait_for_exit(pids[-1], PATIENCE / 1000)
        how = {HUNG_CODE: "hangs: killed by the watchdog", ANSWERED_CODE: "works", None: "hangs, and its parent, too"}
        rows.append((*inherits.readline().rstrip().split("|"), how.get(code, f"its parent was aborted: {code}")))
    print(table(("who", "pid", "context", "thread", "outcome"), rows))
    return int(len(rows) <= processes + threads or code == ANSWERED_CODE)


def collect_requests(at: str, processes: int, threads: int) -> list[tuple[str, ...]]:
    """Who has asked, over ipc from other processes and over inproc from threads of this one, as rows in order."""
    context = zmq.Context()
    asking = [threading.Thread(target=ask, args=(context, "inproc://ask", "a thread")) for _ in range(threads)]
    try:
        with context.socket(zmq.REP) as answers:
            answers.bind(at)
            answers.bind("inproc://ask")
            for each in asking:
                each.start()
            rows: list[tuple[str, ...]] = []
            while len(rows) < processes + threads and answers.poll(PATIENCE):
                rows.append(tuple(answers.recv_string().split("|")))
                answers.send(b"yes")
            return sorted(rows)
    finally:
        context.term()  # wakes the threads that still wait; each closes its own socket


def ask(context: Context, at: str, who: str, made_by: int = 0) -> None:
    """Ask over a new socket of the context: who, pid, maker of the context and thread; wait for the answer."""
    pid, name = os.getpid(), threading.current_thread().name
    try:
        with context.socket(zmq.REQ) as question:
            question.linger, question.rcvtimeo = 0, PATIENCE
            question.connect(at)
            question.send_string(f"{who}|{pid}|of {made_by or pid}|{name}")
            question.recv()
    except zmq.ZMQError:
        return  # nobody has answered, or the context has ended


def run_own_context(at: str) -> None:
    """A child that makes a context of its own."""
    with zmq.Context() as context:
        ask(context, at, "a process")


def run_inherited_context(at: str, tell: int) -> int:
    """A child that makes a context, and has a child that uses it. Whether what that asks came, as an exit code."""
    maker = os.getpid()
    with zmq.Context() as context, context.socket(zmq.REP) as answers:
        answers.bind(at)
        with fork_children([partial(ask, context, at, "an heir", maker)]) as pids:
            os.write(tell, f"an heir|{pids[0]}|of {maker}|MainThread\n".encode())
            return ANSWERED_CODE if answers.poll(WATCHDOG) else HUNG_CODE
