"""What a workload is made of: cases, targets, and the shop that makes inputs and runs whole processes.

A case runs one process, start-up included, checks that it has as many results as tasks, and gives its cost: seconds a
task, or bytes. A target compares median costs. Inputs are made once, in a folder that is thrown away.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from memory import watched

RIVALS = Path(__file__).resolve().parent / "rivals.py"


@dataclass(frozen=True)
class Target:
    """At most so many times the cost of a rival, or of 1 where there is none."""

    case: str
    rival: str
    most: float
    said: str


@dataclass(frozen=True)
class Workload:
    """`show` makes the figure for a person out of a cost."""

    name: str
    title: str
    show: Callable[[float], str]
    cases: dict[str, Callable[[], float]]
    targets: tuple[Target, ...]


def faster(case: str, rival: str, times: float) -> Target:
    """Return a target: at least this many times the rival's rate."""
    return Target(case, rival, 1 / times, f"at least {times:g} x the rate of {rival}")


def shorter(case: str, rival: str, times: float) -> Target:
    """Return a target: at most this many times the rival's time or memory."""
    return Target(case, rival, times, f"at most {times:g} x {rival}")


def rate(unit: str, size: float = 1) -> Callable[[float], str]:
    """Cost in seconds to a rate."""
    return lambda cost: f"{size / cost:,.0f} {unit}/s"


class Shop:
    """Where programs and inputs are, and how they are run."""

    def __init__(self, python: str, folder: Path, lines: int) -> None:
        self._python, self._pipe = python, str(Path(python).with_name("pipe"))
        self.folder, self.lines, self.out = folder, lines, folder / "out"
        self.notes: list[str] = []

    def pipe(self, *words: object) -> list[str]:
        """Return the command of the environment's own `pipe run`."""
        return [self._pipe, "run", "--quiet", *map(str, words)]

    def rival(self, *words: object) -> list[str]:
        """Return the command of a rival in the same Python."""
        return [self._python, str(RIVALS), *map(str, words)]

    def input(self, name: str, lines: Iterator[str]) -> Path:
        """Return a file of these lines, made once."""
        path = self.folder / name
        if not path.exists():
            with path.open("w", encoding="utf-8") as file:
                file.writelines(lines)
        return path

    def many(self, count: int) -> Path:
        """So many lines of 61 bytes in the mean."""
        chance = random.Random(1)  # noqa: S311 - an input, no secret
        some = [f"{number:07d} {'x' * chance.randrange(32, 72)}\n" for number in range(100_000)]
        return self.input(f"lines-{count}", (some[number % len(some)] for number in range(count)))

    def timed(self, words: list[str], tasks: int, stdin: Path | None = None) -> Callable[[], float]:
        """Run a case and return its seconds per task."""

        def case() -> float:
            with (stdin or Path("/dev/null")).open("rb") as source, self.out.open("wb") as out:
                start = time.perf_counter()
                process = subprocess.run(words, stdin=source, stdout=out, check=False)
                taken = time.perf_counter() - start
            self.check(words, process.returncode, tasks)
            return taken / tasks

        return case

    def check(self, words: list[str], code: int, tasks: int) -> None:
        """As many results as tasks, or no figure at all."""
        with self.out.open("rb") as out:
            found = sum(1 for _ in out)
        if code or found not in (tasks, 0 if "loops" in words else tasks):
            raise RuntimeError(f"{' '.join(words)}: exit {code}, {found} results of {tasks} tasks")

    def weighed(self, words: list[str], tasks: int, *, tell: bool = False) -> Callable[[], float]:
        """Run a case and return the peak of all its processes together, in bytes; `tell` records their growth."""

        def case() -> float:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            seen = watched(process)
            self.check(words, process.returncode, tasks)
            if tell:
                self.notes = seen.growth()
            return float(seen.peak)

        return case
