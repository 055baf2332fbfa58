"""What `pipe` is measured against, each rival a program of its own: `python rivals.py NAME ARGUMENT...`.

They are written as a person who knows Python would write them: results go through a buffered file, the pool has two
processes and forks. `spin` and `doze` are the callables of both sides. Nothing here imports pipeline.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
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
    return task


def pool(processes: int) -> Pool:
    """A pool that forks."""
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
    """`Pool.imap_unordered` over the lines."""
    with Path(source).open(encoding="utf-8") as lines, Path(target).open("w", encoding="utf-8") as out:
        tasks = (line[:-1] for line in lines)
        with pool(int(processes)) as crew:
            out.writelines(f"{value}\n" for value in crew.imap_unordered(function, tasks, chunksize=int(chunk)))


def pooled_records(source: str, target: str) -> None:
    """`Pool.imap` of `len` over long records, one a message, read lazily."""
    with Path(source).open(encoding="utf-8") as lines, Path(target).open("w") as out, pool(CPUS) as crew:
        out.writelines(f"{value}\n" for value in crew.imap(len, (line[:-1] for line in lines), chunksize=1))


def applied(rounds: str) -> None:
    """`Pool.apply`, one task at a time, warm; prints the median in seconds."""
    from statistics import median

    def once(crew: Pool) -> float:
        start = time.perf_counter()
        crew.apply(len, ("a line of a few words",))
        return time.perf_counter() - start

    with pool(CPUS) as crew:
        taken: Iterator[float] = (once(crew) for _ in range(int(rounds)))
        sys.stdout.write(f"{median(list(taken)[int(rounds) // 10 :])}\n")


FUNCTIONS: dict[str, Callable[[str], object]] = {"len": len, "spin": spin, "doze": doze}
RIVALS = {"loop": loop, "loops": loops, "pooled": pooled}


def main(name: str, *arguments: str) -> None:
    """Be one rival."""
    if name == "pooled_records":
        pooled_records(*arguments)
    elif name == "applied":
        applied(*arguments)
    else:
        RIVALS[name](FUNCTIONS[arguments[0]], *arguments[1:])  # type: ignore[operator]


if __name__ == "__main__":
    main(*sys.argv[1:])
