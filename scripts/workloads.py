"""The workloads W1 to W8 and memory: what is run, beside which rivals, and what is aimed at.

A case runs one whole process, start-up included, checks that it has as many results as tasks, and gives its cost:
seconds a task, or bytes. A target compares median costs. Inputs are made once, in a folder that is thrown away.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from memory import watched
from rivals import spin

RIVALS = Path(__file__).resolve().parent / "rivals.py"
MIB = 1 << 20
CHUNK = 1000
"""Lines that a pool is given at a time where it may choose."""


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
    """A target: at least so many times the rival's rate."""
    return Target(case, rival, 1 / times, f"at least {times:g} x the rate of {rival}")


def shorter(case: str, rival: str, times: float) -> Target:
    """A target: at most so many times the rival's time, or memory."""
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
        """The environment's own `pipe run`."""
        return [self._pipe, "run", "--quiet", *map(str, words)]

    def rival(self, *words: object) -> list[str]:
        """A rival in the same environment's Python."""
        return [self._python, str(RIVALS), *map(str, words)]

    def input(self, name: str, lines: Iterator[str]) -> Path:
        """A file of these lines, made once."""
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
        """A case: its seconds a task."""

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
        """A case: the peak of all its processes together, in bytes; `tell` notes how each grew."""

        def case() -> float:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            seen = watched(process)
            self.check(words, process.returncode, tasks)
            if tell:
                self.notes = seen.growth()
            return float(seen.peak)

        return case


def w1(shop: Shop) -> Workload:
    """Very many tiny calls."""
    lines, out = shop.many(shop.lines), shop.out
    cases = {
        "pipe": shop.timed(shop.pipe("-a", lines, "-o", out, "--call", "builtins:len"), shop.lines),
        "Pool(2)": shop.timed(shop.rival("pooled", "len", lines, out, 2, CHUNK), shop.lines),
        "one loop": shop.timed(shop.rival("loop", "len", lines, out), shop.lines),
    }
    targets = (shorter("pipe", "Pool(2)", 0.5), shorter("pipe", "one loop", 1.0))
    return Workload("W1", f"{shop.lines:,} lines through len, to a file", rate("lines"), cases, targets)


def w2(shop: Shop) -> Workload:
    """No option set, against a pool that is told nothing either."""
    few = min(50_000, shop.lines)
    all_lines, some, out = shop.many(shop.lines), shop.many(few), shop.out
    cases = {
        "pipe": shop.timed(shop.pipe("-a", all_lines, "-o", out, "--call", "builtins:len"), shop.lines),
        "pipe --chunk 1": shop.timed(shop.pipe("--chunk", 1, "-a", some, "-o", out, "--call", "builtins:len"), few),
        "Pool(2), chunk 1": shop.timed(shop.rival("pooled", "len", some, out, 2, 1), few),
    }
    targets = (faster("pipe", "Pool(2), chunk 1", 15), faster("pipe --chunk 1", "Pool(2), chunk 1", 0.5))
    return Workload("W2", "tasks without any option; one by one", rate("tasks"), cases, targets)


def w3(shop: Shop) -> Workload:
    """Short commands, as an argv and as a line that needs a shell."""
    lines = shop.many(2000)
    shell, argv = ["sh", "-c", 'echo "$0" $$'], ["echo"]
    cases = {
        "pipe argv": shop.timed(shop.pipe("echo", "{}"), 2000, lines),
        "pipe shell": shop.timed(shop.pipe("echo {} $$"), 2000, lines),
        "xargs argv": shop.timed(["xargs", "-d", "\n", "-P2", "-n1", *argv], 2000, lines),
        "xargs shell": shop.timed(["xargs", "-d", "\n", "-P2", "-n1", *shell], 2000, lines),
        "GNU parallel": shop.timed(["parallel", "-j2", "echo {}"], 2000, lines),
    }
    pairs = (("pipe argv", "xargs argv"), ("pipe shell", "xargs shell"))
    targets = [faster(case, rival, 0.9) for case, rival in pairs]
    targets += [faster(case, "GNU parallel", 5) for case, _ in pairs]
    return Workload("W3", "2,000 x echo LINE", rate("commands"), cases, tuple(targets))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def w4(shop: Shop) -> Workload:
    """Tasks of about 1 ms of CPU."""
    rounds = int(1e-3 / min(_seconds(lambda: spin("10000")) for _ in range(20)) * 10_000)
    lines, out = shop.input("spins", (f"{rounds}\n" for _ in range(5000))), shop.out
    cases = {
        "pipe": shop.timed(shop.pipe("-a", lines, "-o", out, "--call", f"{RIVALS}:spin"), 5000),
        "two loops": shop.timed(shop.rival("loops", "spin", lines, out), 5000),
        "Pool(2)": shop.timed(shop.rival("pooled", "spin", lines, out, 2, 10), 5000),
    }
    return Workload("W4", "5,000 tasks of 1 ms of CPU", rate("tasks"), cases, (faster("pipe", "two loops", 0.95),))


def w5(shop: Shop) -> Workload:
    """A heavy tail: 60 s of sleep, a few of them of 2 s."""
    chance = random.Random(5)  # noqa: S311 - an input, no secret
    sleeps = [chance.paretovariate(1.3) for _ in range(195)]
    sleeps = [each * 50 / sum(sleeps) for each in sleeps] + [2.0] * 5
    chance.shuffle(sleeps)
    lines, out = shop.input("sleeps", (f"{min(each, 2):.4f}\n" for each in sleeps)), shop.out
    four = shop.pipe("--workers", 4, "--jobs", 2, "-a", lines, "-o", out, "--call", f"{RIVALS}:doze")
    cases = {
        "pipe, 4 workers": shop.timed(four, 200),
        "Pool(8)": shop.timed(shop.rival("pooled", "doze", lines, out, 8, 1), 200),
    }
    show = lambda cost: f"{200 * cost:.2f} s"  # noqa: E731 - a figure
    return Workload("W5", "200 sleeps on 8 slots", show, cases, (shorter("pipe, 4 workers", "Pool(8)", 1.03),))


def w6(shop: Shop) -> Workload:
    """One task, from the shell's command to its exit."""
    cases = {
        "pipe": shop.timed(shop.pipe("echo", ":::", "hi"), 1),
        "GNU parallel": shop.timed(["parallel", "echo", ":::", "hi"], 1),
    }
    often = {name: (lambda case=case: median(case() for _ in range(5))) for name, case in cases.items()}
    show = lambda cost: f"{1000 * cost:.0f} ms"  # noqa: E731 - a figure
    return Workload("W6", "one echo, whole", show, often, (shorter("pipe", "GNU parallel", 1.0),))


def w7(shop: Shop) -> Workload:
    """Long records."""
    count = 2000
    records = shop.input("records", (("y" * (MIB - 1) + "\n") for _ in range(count)))
    cases = {
        "pipe": shop.timed(shop.pipe("-a", records, "-o", shop.out, "--call", "builtins:len"), count),
        "Pool(2)": shop.timed(shop.rival("pooled_records", "len", records, shop.out), count),
    }
    targets = (Target("pipe", "", MIB / 1e9, "at least 1,000 MB/s"), faster("pipe", "Pool(2)", 3))
    return Workload("W7", "2,000 records of 1 MiB through len", rate("MB", MIB / 1e6), cases, targets)


def w8(shop: Shop) -> Workload:
    """One task at a time into a warm line."""

    def by_pipe() -> float:
        words = shop.pipe("--call", "builtins:len")
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
            assert process.stdin
            assert process.stdout
            taken = []
            for _ in range(330):
                start = time.perf_counter()
                process.stdin.write(b"a line of a few words\n")
                process.stdout.readline()
                taken.append(time.perf_counter() - start)
        return median(taken[30:])

    def by_pool() -> float:
        words = shop.rival("applied", "len", 330)
        return float(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)

    show = lambda cost: f"{1000 * cost:.3f} ms"  # noqa: E731 - a figure
    cases = {"pipe": by_pipe, "Pool.apply": by_pool}
    return Workload("W8", "one at a time, warm", show, cases, (shorter("pipe", "Pool.apply", 1.0),))


def memory(shop: Shop) -> Workload:
    """The peak of all processes together (PSS), of W1 and W7."""
    lines, out = shop.many(shop.lines), shop.out
    records = shop.input("records", (("y" * (MIB - 1) + "\n") for _ in range(2000)))
    len_of = ("-o", out, "--call", "builtins:len")
    cases = {
        "pipe W7": shop.weighed(shop.pipe("-a", records, *len_of), 2000),
        "pipe W1": shop.weighed(shop.pipe("-a", lines, *len_of), shop.lines, tell=True),
        "Pool W1": shop.weighed(shop.rival("pooled", "len", lines, out, 2, CHUNK), shop.lines),
    }
    show = lambda cost: f"{cost / 1e6:.0f} MB"  # noqa: E731 - a figure
    targets = (shorter("pipe W1", "Pool W1", 3.0), Target("pipe W7", "", 150e6, "under 150 MB"))
    return Workload("memory", "peak PSS of all processes", show, cases, targets)


WORKLOADS: dict[str, Callable[[Shop], Workload]] = {
    "W1": w1, "W2": w2, "W3": w3, "W4": w4, "W5": w5, "W6": w6, "W7": w7, "W8": w8, "memory": memory,
}  # fmt: skip
