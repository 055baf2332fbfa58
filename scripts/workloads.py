"""The workloads W1 to W8 and memory: what is run, beside which rivals, and what is aimed at."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Callable
from statistics import median

from rivals import spin
from shop import RIVALS, Shop, Target, Workload, faster, rate, shorter

MIB = 1 << 20
CHUNK = 1000
"""Lines that a pool is given at a time where it may choose."""


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
    """Run a heavy tail: 60 s of sleep, with a few tasks of 2 s."""
    chance = random.Random(5)  # noqa: S311 - an input, no secret
    sleeps = [min(chance.paretovariate(1.3) / 14, 2) for _ in range(195)] + [2.0] * 5
    chance.shuffle(sleeps)
    scale = 60 / sum(sleeps)
    lines, out = shop.input("sleeps", (f"{scale * each:.4f}\n" for each in sleeps)), shop.out
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
    """Measure the peak of all processes together (PSS), of W1 and W7."""
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
