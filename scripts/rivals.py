"""What `pipe` is measured against, each rival a program of its own: `python rivals.py RIVAL FUNCTION ARGUMENT...`.

They are written as a person who knows Python would write them: results go through a buffered file, the pool has two
processes and forks. `spin` and `doze` are the callables of both sides. Nothing here imports pipeline.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.pool import Pool

CPUS = 2


def spin(task: str) -> int:
    """Keep a CPU busy for so many rounds."""
    total = 0
    for each in range(int(task)):
        total += each & 7
    return total


def doze(task: str) -> str:
    """Sleep for so many seconds."""
    time.sleep(float(task))
    return task.rstrip("\n")


def pool(processes: int) -> Pool:
    """Return a pool that forks."""
    from multiprocessing import get_context

    return get_context("fork").Pool(processes)


def loop(function: Callable[[str], object], source: str, target: str) -> None:
    """One plain process: each line through the function, each result a line."""
    with Path(source).open(encoding="utf-8") as lines, Path(target).open("w", encoding="utf-8") as out:
        write = out.write
        for line in lines:
            write(f"{function(line[:-1])}\n")


def loops(function: Callable[[str], object], source: str, target: str) -> None:
    """As many plain processes side by side as there are CPUs, each with every second line; nothing is exchanged."""
    import os
    from itertools import islice

    def part(number: int) -> None:
        with Path(source).open(encoding="utf-8") as lines, Path(f"{target}.{number}").open("w") as out:
            out.writelines(f"{function(line[:-1])}\n" for line in islice(lines, number, None, CPUS))

    children = []
    for number in range(CPUS):
        child = os.fork()
        if child == 0:
            part(number)
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)


def pooled(function: Callable[[str], object], source: str, target: str, processes: str, chunk: str) -> None:
    """`Pool.imap_unordered` over the lines, their newlines included: to cut them off would cost the pool a tenth."""
    with (
        Path(source).open(encoding="utf-8") as lines,
        Path(target).open("w", encoding="utf-8") as out,
        pool(int(processes)) as crew,
    ):
        out.writelines(f"{value}\n" for value in crew.imap_unordered(function, lines, chunksize=int(chunk)))


def pooled_records(function: Callable[[str], object], source: str, target: str) -> None:
    """`Pool.imap` over long records, one a message, read lazily."""
    with (
        Path(source).open(encoding="utf-8") as lines,
        Path(target).open("w", encoding="utf-8") as out,
        pool(CPUS) as crew,
    ):
        out.writelines(f"{value}\n" for value in crew.imap(function, lines, chunksize=1))


def applied(function: Callable[[str], object], rounds: str) -> None:
    """`Pool.apply`, one task at a time; prints the median of the warm ones, in seconds."""
    from statistics import median

    taken = []
    with pool(CPUS) as crew:
        for _ in range(int(rounds)):
            start = time.perf_counter()
            crew.apply(function, ("a line of a few words",))
            taken.append(time.perf_counter() - start)
    sys.stdout.write(f"{median(taken[len(taken) // 10 :])}\n")


FUNCTIONS: dict[str, Callable[[str], object]] = {"len": len, "spin": spin, "doze": doze}
RIVALS: dict[str, Callable[..., None]] = {
    "loop": loop,
    "loops": loops,
    "pooled": pooled,
    "pooled_records": pooled_records,
    "applied": applied,
}


if __name__ == "__main__":
    rival, called, *arguments = sys.argv[1:]
    RIVALS[rival](FUNCTIONS[called], *arguments)
