"""One batch in two ways: the guide's bare pipeline, and `pipe run`; with --kill once more, and a worker is killed.

    ventilator ──► worker 1 ──► sink       the same work as tasks of
               ──► worker 2 ──►            pipe run --workers N
               ──► worker 3 ✗

The bare sink counts and can't know what a dead worker had in its queue: it would wait for ever, so a watchdog ends it
after 2 s without a result. Of `pipe run`, tasks tell who their worker is: it is their parent.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO, Annotated

from pipeline.lab.table import table
from pipeline.lab.ventilator import milliseconds

TITLE = "the parallel pipeline as a whole, beside the same batch through pipe run"
LEARN = "what a killed worker costs: the bare pipeline loses its queue and hangs, pipe run loses nothing"
WATCHDOG, BEFORE = 2, 5  # seconds; results of each worker, until one is killed
Row = tuple[str, str, int, int, float, str]


def main(
    *,
    workers: Annotated[int, "how many workers", 1, 100] = 4,
    tasks: Annotated[int, "how many tasks, of 1 to 100 ms each", 1, 10_000] = 100,
    kill: Annotated[bool, "do it again, and kill a worker"] = False,
) -> int:
    """Print a row for each way. 1 if a result is missing where none should be."""
    if kill and tasks < 2 * BEFORE * workers:
        print(f"a worker is killed after {BEFORE} results: that needs {2 * BEFORE * workers} tasks", file=sys.stderr)
        return 2
    rows = [
        way(workers, tasks, killing=killing) for killing in (False, True)[: 1 + kill] for way in (run_bare, run_product)
    ]
    print(table(("way", "a worker", "results", "missing", "seconds", "how it ended"), rows))
    return int(any(missing for way, fate, _, missing, _, _ in rows if (way, fate) != ("bare", "killed")))


def run_bare(workers: int, tasks: int, *, killing: bool) -> Row:
    """The guide's programs."""
    began, (deal, results, control) = time.monotonic(), free_ports()
    places, count = ("--port", deal, "--sink-port", results), ("--tasks", str(tasks))
    heard = ("--port", results, "--control-port", control, "--patience", str(WATCHDOG))
    with ExitStack() as until:
        sink, _ = start(until, "lab", "sink", *heard, *count)
        hands = [start(until, "lab", "worker", *places, "--control-port", control) for _ in range(workers)]
        for said in (sink, *(said for said, _ in hands)):
            said.readline()  # it is ready
        start(until, "lab", "ventilator", *places, *count, "--workers", str(workers))
        if killing:
            said, pid = hands[0]
            said.read(BEFORE)  # a dot for each result
            os.kill(pid, signal.SIGKILL)
        counted = sink.read().split("\n")[1:]
    came = int(counted[0].split()[0]) if counted else 0
    how = f"hung: ended by a watchdog after {WATCHDOG} s" if came < tasks else "all came home"
    return "bare", "killed" if killing else "-", came, tasks - came, time.monotonic() - began, how


def run_product(workers: int, tasks: int, *, killing: bool) -> Row:
    """The same through `pipe run`, which deals work out by credit and knows who has what."""
    began, came, work = time.monotonic(), 0, [f"{milliseconds(task) / 1000}" for task in range(tasks)]
    with ExitStack() as until:
        said, _ = start(until, "run", "-j1", "--workers", str(workers), "sleep {}; echo $PPID", ":::", *work)
        for line in said:
            came += 1
            if killing and came == BEFORE * workers:
                os.kill(int(line), signal.SIGKILL)
    how = "all came home" if came == tasks else "it did not do what it promises"
    return "pipe run", "killed" if killing else "-", came, tasks - came, time.monotonic() - began, how


def start(until: ExitStack, *words: str) -> tuple[IO[str], int]:
    """`pipe WORDS` as a process until the block is left: what it says, and its pid."""
    program = Popen([sys.executable, "-m", "pipeline", *words], stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, text=True)
    until.callback(_end, program)
    assert program.stdout
    return program.stdout, program.pid


def _end(program: Popen[str]) -> None:
    program.terminate()
    with suppress(TimeoutExpired):
        program.wait(WATCHDOG)
    program.kill()
    program.communicate()


def free_ports() -> list[str]:
    """Three that nobody listens on, so that a batch of somebody else can run beside this one."""
    with ExitStack() as until:
        taken = [until.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(3)]
        return [str(each.getsockname()[1]) for each in taken]
