"""One batch in two ways: the guide's bare pipeline and `pipe run`; with --kill both again, with a killed worker.

    ventilator ──► worker 1 ──► sink       the same work as tasks of
               ──► worker 2 ──►            pipe run --workers N
               ──► worker 3 ✗

The bare sink only counts results. It cannot know what was in the queue of a killed worker and would wait forever, so a
watchdog ends it after 2 s without a result. Under `pipe run` a task prints its parent's pid, which is its worker's.
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

TITLE = "the whole parallel pipeline, compared with the same batch through pipe run"
LEARN = "what a killed worker costs: the bare pipeline loses its queue and hangs, pipe run loses nothing"
WATCHDOG_SECONDS, RESULTS_BEFORE_KILL = 2, 5  # the latter for each worker
Row = tuple[str, str, int, int, float, str]


def main(
    *,
    workers: Annotated[int, "number of workers", 1, 100] = 4,
    tasks: Annotated[int, "number of tasks, of 1 to 100 ms each", 1, 10_000] = 100,
    kill: Annotated[bool, "repeat both, and kill a worker"] = False,
) -> int:
    """Print a row for each way. Return 1 if a result is missing unexpectedly."""
    if kill and tasks < 2 * RESULTS_BEFORE_KILL * workers:
        needed = 2 * RESULTS_BEFORE_KILL * workers
        print(f"--kill with {workers} workers needs at least {needed} tasks", file=sys.stderr)
        return 2
    rows = [
        run(workers, tasks, killing=killing) for killing in (False, True)[: 1 + kill] for run in (run_bare, run_product)
    ]
    print(table(("way", "a worker", "results", "missing", "seconds", "how it ended"), rows))
    return int(any(missing for way, worker, _, missing, _, _ in rows if (way, worker) != ("bare", "killed")))


def run_bare(workers: int, tasks: int, *, killing: bool) -> Row:
    """Run the batch through the guide's programs."""
    start_time = time.monotonic()
    with ExitStack() as stack:
        task_port, result_port, control_port = reserve_ports(stack)
        ports, count = ("--port", task_port, "--sink-port", result_port), ("--tasks", str(tasks))
        sink_options = ("--port", result_port, "--control-port", control_port, "--patience", str(WATCHDOG_SECONDS))
        sink, _ = start(stack, "lab", "sink", *sink_options, *count)
        processes = [start(stack, "lab", "worker", *ports, "--control-port", control_port) for _ in range(workers)]
        for output in (sink, *(output for output, _ in processes)):
            output.readline()  # "ready"
        start(stack, "lab", "ventilator", *ports, *count, "--workers", str(workers))
        if killing:
            output, pid = processes[0]
            output.read(RESULTS_BEFORE_KILL)  # a dot for each result
            os.kill(pid, signal.SIGKILL)
        summary = sink.read().split("\n")[1:]
    results = int(summary[0].split()[0]) if summary else 0
    outcome = f"hung: ended by a watchdog after {WATCHDOG_SECONDS} s" if results < tasks else "complete"
    return "bare", "killed" if killing else "-", results, tasks - results, time.monotonic() - start_time, outcome


def run_product(workers: int, tasks: int, *, killing: bool) -> Row:
    """Run the batch through `pipe run`, which assigns tasks by credit and knows which worker holds which."""
    start_time, results, work = time.monotonic(), 0, [f"{milliseconds(task) / 1000}" for task in range(tasks)]
    with ExitStack() as stack:
        output, _ = start(stack, "run", "-j1", "--workers", str(workers), "sleep {}; echo $PPID", ":::", *work)
        for line in output:
            results += 1
            if killing and results == RESULTS_BEFORE_KILL * workers:
                os.kill(int(line), signal.SIGKILL)
    outcome = "complete" if results == tasks else "incomplete: this is a bug"
    return "pipe run", "killed" if killing else "-", results, tasks - results, time.monotonic() - start_time, outcome


def start(stack: ExitStack, *args: str) -> tuple[IO[str], int]:
    """Run `pipe ARGS` until the stack is closed. Return its output and its pid."""
    program = Popen([sys.executable, "-m", "pipeline", *args], stdin=DEVNULL, stdout=PIPE, stderr=DEVNULL, text=True)
    stack.callback(_end, program)
    assert program.stdout
    return program.stdout, program.pid


def _end(program: Popen[str]) -> None:
    program.terminate()
    with suppress(TimeoutExpired):
        program.wait(WATCHDOG_SECONDS)
    program.kill()
    program.communicate()


def reserve_ports(stack: ExitStack) -> list[str]:
    """Return three ports for this batch alone until the stack is closed, so that several batches can run at once.

    A bound socket that does not listen keeps its port. With SO_REUSEADDR, which libzmq sets too, the port can still be
    bound by its number.
    """
    sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
    for each in sockets:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(("127.0.0.1", 0))
    return [str(each.getsockname()[1]) for each in sockets]
