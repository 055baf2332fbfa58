"""The alternatives to `pipe`, and the limits of the machine, as programs: `alternatives.py NAME FUNCTION ARGUMENT...`.

The alternatives are written as a user who knows Python would write them: results go through a buffered file, and the
pool forks. A limit does the least work that the workload can cost. `spin` and `sleep` are the functions of all cases.
Nothing here imports pipeline.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.pool import Pool
from pathlib import Path
from statistics import median

Function = Callable[[str], object]
CPUS = 2
COPY_BYTES = 1 << 20
WARM_UP = 30
"""Round trips that are not counted."""
LINE = "a line of a few words\n"


def spin(task: str) -> int:
    """Use the CPU for this number of iterations."""
    total = 0
    for number in range(int(task)):
        total += number & 7
    return total


def sleep(task: str) -> str:
    """Sleep for this number of seconds."""
    time.sleep(float(task))
    return task.rstrip("\n")


def _fork_pool(processes: int) -> Pool:
    return get_context("fork").Pool(processes)


def _in_processes(count: int, run: Callable[[int], None]) -> None:
    """Call `run` with each number below `count`, each in its own process."""
    context = get_context("fork")
    processes = [context.Process(target=run, args=(number,)) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def loop(function: Function, source: str, target: str) -> None:
    """Call the function with each line in one process."""
    with Path(source).open(encoding="utf-8") as lines, Path(target).open("w", encoding="utf-8") as out:
        write = out.write
        for line in lines:
            write(f"{function(line[:-1])}\n")


def loops(function: Function, source: str, target: str) -> None:
    """Run a loop for each CPU over its own part of the input, which begins at a line; nothing is exchanged."""
    size = os.path.getsize(source)

    def run(number: int) -> None:
        with Path(source).open("rb") as lines, Path(f"{target}.{number}").open("w", encoding="utf-8") as out:
            end = size * (number + 1) // CPUS
            position = size * number // CPUS
            if position:
                lines.seek(position - 1)
                position += len(lines.readline()) - 1
            for line in lines:
                if position >= end:
                    break
                position += len(line)
                out.write(f"{function(line[:-1].decode())}\n")

    _in_processes(CPUS, run)


def pool(function: Function, source: str, target: str, processes: str, chunk: str) -> None:
    """Use `Pool.imap_unordered` over the lines with their newlines: to remove them would cost the pool a tenth."""
    with (
        Path(source).open(encoding="utf-8") as lines,
        Path(target).open("w", encoding="utf-8") as out,
        _fork_pool(int(processes)) as workers,
    ):
        out.writelines(f"{value}\n" for value in workers.imap_unordered(function, lines, chunksize=int(chunk)))


def pool_apply(function: Function, rounds: str) -> None:
    """Use `Pool.apply` for one task at a time; print the median seconds."""
    with _fork_pool(CPUS) as workers:
        _print_median(lambda: workers.apply(function, (LINE,)), int(rounds))


def round_trips(function: Function, rounds: str) -> None:
    """Send one task at a time to one process over a pipe; print the median seconds."""
    context = get_context("fork")
    ours, theirs = context.Pipe()

    def serve() -> None:
        ours.close()
        while task := theirs.recv_bytes():
            theirs.send_bytes(str(function(task.decode())).encode())

    process = context.Process(target=serve)
    process.start()

    def call() -> None:
        ours.send_bytes(LINE.encode())
        ours.recv_bytes()

    _print_median(call, int(rounds))
    ours.send_bytes(b"")
    process.join()


def messages(function: Function, source: str, target: str) -> None:
    """Pass each line as one message from reader to worker, and each result as one from worker to writer."""
    context = get_context("fork")
    task_input, task_output = context.Pipe(duplex=False)
    result_input, result_output = context.Pipe(duplex=False)

    def read() -> None:
        with Path(source).open("rb") as lines:
            for line in lines:
                task_output.send_bytes(line)
        task_output.send_bytes(b"")

    def work() -> None:
        while task := task_input.recv_bytes():
            result_output.send_bytes(f"{function(task[:-1].decode())}\n".encode())
        result_output.send_bytes(b"")

    def write() -> None:
        with Path(target).open("wb") as out:
            while result := result_input.recv_bytes():
                out.write(result)

    _in_processes(3, lambda number: (read, work, write)[number]())


def copy(function: Function, source: str, target: str, record: str) -> None:
    """Copy the input into memory once, and write a result for each record of this many bytes."""
    buffer = bytearray(COPY_BYTES)
    result = f"{function('x' * (int(record) - 1))}\n"
    count = 0
    with Path(source).open("rb", buffering=0) as file, Path(target).open("w", encoding="utf-8") as out:
        while size := file.readinto(buffer):
            count += size
        out.writelines(result for _ in range(count // int(record)))


def _print_median(call: Callable[[], object], rounds: int) -> None:
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    sys.stdout.write(f"{median(seconds[WARM_UP:])}\n")


FUNCTIONS: dict[str, Function] = {"len": len, "spin": spin, "sleep": sleep}
PROGRAMS: dict[str, Callable[..., None]] = {
    program.__name__: program for program in (loop, loops, pool, pool_apply, round_trips, messages, copy)
}


if __name__ == "__main__":
    name, function_name, *arguments = sys.argv[1:]
    PROGRAMS[name](FUNCTIONS[function_name], *arguments)
