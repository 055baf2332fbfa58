"""The workloads: the commands that are measured, the alternatives, the limits and the targets.

Each function of `WORKLOADS` makes the workload of its name. A case runs whole processes, start-up included, checks that
there is a result for each task, and returns its cost: wall seconds, seconds of latency, or bytes. Inputs are made once,
in a temporary folder.
"""

from __future__ import annotations

import csv
import heapq
import random
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from scripts.benchmark import alternatives
from scripts.benchmark.measurement import Sample, measure_cpu, memory_of_tree, run, run_for_memory

ALTERNATIVES = Path(alternatives.__file__)
AGAINST = " (against)"
"""The end of the name of a case of the other environment."""
MIB = 1 << 20
POOL_CHUNK = 1000
"""Lines in a chunk of the pool where it may choose."""
QUICK_LINES = 1_000_000
ROUND_TRIPS = 330


class Target(NamedTuple):
    """Upper limit for the cost per task of a case: `factor` times the cost of another case, plus `slack`."""

    case: str
    text: str
    factor: float = 0
    other: str = ""
    slack: float = 0


class Case(NamedTuple):
    """One of the things that a workload compares, with the number of its tasks."""

    run: Callable[[], Sample]
    tasks: int = 1


@dataclass(frozen=True)
class Workload:
    """Cases that are run in alternation. `limit` is the case that shows the limit of the machine.

    `show` formats the cost per task; a cost is in seconds, or in bytes if `is_memory`.
    """

    title: str
    show: Callable[[float], str]
    cases: dict[str, Case]
    targets: tuple[Target, ...]
    limit: str
    is_memory: bool = False


def at_least(case: str, times: float, other: str) -> Target:
    """Return a target for a rate."""
    return Target(case, f"at least {times:g} x the rate of {other}", 1 / times, other)


def at_most(case: str, times: float, other: str) -> Target:
    """Return a target for a time."""
    return Target(case, f"at most {times:g} x the time of {other}", times, other)


def rate(unit: str, size: float = 1) -> Callable[[float], str]:
    """Format seconds per task as a rate."""
    return lambda cost: f"{size / cost:,.0f} {unit}/s"


def milliseconds(cost: float) -> str:
    """Format seconds as milliseconds."""
    return f"{1000 * cost:.0f} ms" if cost > 0.01 else f"{1000 * cost:.3f} ms"  # noqa: PLR2004 - 10 ms


def seconds(tasks: int = 1) -> Callable[[float], str]:
    """Format seconds per task as the seconds of all tasks."""
    return lambda cost: f"{tasks * cost:.2f} s"


def megabytes(cost: float) -> str:
    """Format bytes."""
    return f"{cost / 1e6:.0f} MB"


class Inputs:
    """Input files in a temporary folder. A quick run has fewer commands, calls and records."""

    def __init__(self, folder: Path, lines: int, *, is_quick: bool) -> None:
        self.folder, self.line_count = folder, lines
        scale = 10 if is_quick else 1
        self.command_count, self.call_count, self.record_count = 4000 // scale, 5000 // scale, 2000 // scale

    def file(self, name: str, lines: Iterable[str]) -> Path:
        """Return a file of these lines, written at the first call."""
        path = self.folder / name
        if not path.exists():
            with path.open("w", encoding="utf-8") as file:
                file.writelines(lines)
        return path

    def lines(self, count: int) -> Path:
        """Return lines of 61 bytes on average."""
        generator = random.Random(1)  # noqa: S311 - an input, no secret
        lines = [f"{number:07d} {'x' * generator.randrange(32, 72)}\n" for number in range(min(count, 100_000))]
        return self.file(f"lines-{count}", (lines[number % len(lines)] for number in range(count)))

    def records(self) -> Path:
        """Return records of 1 MiB."""
        return self.file("records", (("y" * (MIB - 1) + "\n") for _ in range(self.record_count)))

    def sleeps(self) -> tuple[Path, list[float]]:
        """Return 200 durations of 60 s in all, with a heavy tail, and their file."""
        generator = random.Random(5)  # noqa: S311 - an input, no secret
        durations = [min(generator.paretovariate(1.3) / 14, 2) for _ in range(195)] + [2.0] * 5
        generator.shuffle(durations)
        scale = 60 / sum(durations)
        durations = [round(scale * duration, 4) for duration in durations]
        return self.file("sleeps", (f"{duration}\n" for duration in durations)), durations


class Programs:
    """Run the commands of the cases, and check their results.

    `pipes` are the executables that are compared: the suffix of their cases, and the path.
    """

    def __init__(self, python: str, pipes: dict[str, str], inputs: Inputs) -> None:
        self.pipes, self.python, self.inputs = pipes, python, inputs
        self.folder = inputs.folder
        self.output = self.folder / "results"

    def pipe(self, name: str, make: Callable[[str], Case]) -> dict[str, Case]:
        """Return a case for each `pipe` that is compared."""
        return {name + suffix: make(path) for suffix, path in self.pipes.items()}

    def pipe_run(self, name: str, tasks: int, *words: object, stdin: Path | None = None) -> dict[str, Case]:
        """Return cases of `pipe run WORDS`."""
        return self.pipe(name, lambda pipe: self.timed(tasks, pipe, "run", "--quiet", *words, stdin=stdin))

    def pipe_call(self, name: str, tasks: int, source: Path, *words: object) -> dict[str, Case]:
        """Return cases of `pipe run` with the function `len`, from file to file."""
        return self.pipe_run(name, tasks, *words, "-a", source, "-o", self.output, "--call", "builtins:len")

    def alternative(self, program: str, function: str, *arguments: object) -> list[object]:
        """Return the command of an alternative."""
        return [self.python, ALTERNATIVES, program, function, *arguments]

    def timed(self, tasks: int, *words: object, stdin: Path | None = None) -> Case:
        """Return a case whose cost is the wall time of a command."""

        def case() -> Sample:
            self._remove_results()
            with (stdin or Path("/dev/null")).open("rb") as source, (self.folder / "stdout").open("wb") as out:
                code, sample = run([str(word) for word in words], source, out)
            self._check(words, code, tasks)
            return sample

        return Case(case, tasks)

    def peak_memory(self, tasks: int, *words: object) -> Case:
        """Return a case whose cost is the peak memory of a command."""

        def case() -> Sample:
            self._remove_results()
            code, sample = run_for_memory([str(word) for word in words])
            self._check(words, code, tasks)
            return sample

        return Case(case)

    def _remove_results(self) -> None:
        for path in (*self.folder.glob("results*"), *self.folder.glob("stdout")):
            path.unlink()

    def _check(self, words: Iterable[object], code: int, tasks: int) -> None:
        """Raise an error if the command failed, or did not write one line for each task."""
        count = 0
        for path in (*self.folder.glob("stdout"), *self.folder.glob("results"), *self.folder.glob("results.[0-9]")):
            with path.open("rb") as lines:
                count += sum(1 for _ in lines)
        if code or count != tasks:
            command = " ".join(map(str, words))
            raise RuntimeError(f"{command}: exit code {code}, {count} results of {tasks} tasks")


def start(programs: Programs) -> Workload:
    """One `echo`, from the command to its exit; each round is the median of five runs."""

    def median_of_five(case: Case) -> Case:
        def repeat() -> Sample:
            samples = [case.run() for _ in range(5)]
            return Sample(median(one.cost for one in samples), median(one.cpu_seconds for one in samples))

        return Case(repeat)

    importing = [programs.python, "-c", "import zmq; print()"]
    cases = {
        **programs.pipe_run("pipe", 1, "echo", ":::", "a"),
        "GNU parallel": programs.timed(1, "parallel", "echo", ":::", "a"),
        "import zmq": programs.timed(1, *importing),
    }
    cases = {name: median_of_five(case) for name, case in cases.items()}
    targets = (at_most("pipe", 1.0, "GNU parallel"),)
    return Workload("start: one echo, from the command to its exit", milliseconds, cases, targets, "import zmq")


def _commands(programs: Programs, title: str, pipe_words: list[str], xargs_words: list[str]) -> Workload:
    count = programs.inputs.command_count
    lines, half, quarter = (programs.inputs.lines(count // part) for part in (1, 2, 4))
    xargs = ["xargs", "-d", "\n", "-P2", "-n1", *xargs_words]
    side_by_side = ["sh", "-c", 'input=$0; "$@" <"$input" & "$@" <"$input"; wait', half, *xargs]
    cases = {
        **programs.pipe_run("pipe", count, *pipe_words, stdin=lines),
        "xargs -P2": programs.timed(count, *xargs, stdin=lines),
        "GNU parallel": programs.timed(count // 4, "parallel", "-j2", "echo {}", stdin=quarter),  # it is slow
        "two xargs -P2": programs.timed(count, *side_by_side),
    }
    targets = (at_least("pipe", 1.0, "xargs -P2"), at_least("pipe", 5, "GNU parallel"))
    return Workload(f"{count:,} x echo LINE, {title}", rate("commands"), cases, targets, "two xargs -P2")


def commands(programs: Programs) -> Workload:
    """Short commands without a shell."""
    return _commands(programs, "an argv", ["echo", "{}"], ["echo"])


def shell_lines(programs: Programs) -> Workload:
    """Short commands that need a shell."""
    return _commands(programs, "a shell line", ["echo {} $$"], ["sh", "-c", 'echo "$0" $$'])


def calls(programs: Programs) -> Workload:
    """Functions that use the CPU for 1 ms."""

    def one_spin() -> float:
        begin = time.perf_counter()
        alternatives.spin("10000")
        return time.perf_counter() - begin

    count = programs.inputs.call_count
    iterations = int(1e-3 / min(one_spin() for _ in range(20)) * 10_000)
    lines, output = programs.inputs.file("spins", [f"{iterations}\n"] * count), programs.output
    cases = {
        **programs.pipe_run("pipe", count, "-a", lines, "-o", output, "--call", f"{ALTERNATIVES}:spin"),
        "Pool(2)": programs.timed(count, *programs.alternative("pool", "spin", lines, output, 2, 10)),
        "two loops": programs.timed(count, *programs.alternative("loops", "spin", lines, output)),
    }
    targets = (at_least("pipe", 0.95, "two loops"),)
    return Workload(f"{count:,} calls of 1 ms of CPU", rate("tasks"), cases, targets, "two loops")


def lines(programs: Programs) -> Workload:
    """Very short calls."""
    count, output = programs.inputs.line_count, programs.output
    source = programs.inputs.lines(count)
    cases = {
        **programs.pipe_call("pipe", count, source),
        "Pool(2)": programs.timed(count, *programs.alternative("pool", "len", source, output, 2, POOL_CHUNK)),
        "one loop": programs.timed(count, *programs.alternative("loop", "len", source, output)),
        "two loops": programs.timed(count, *programs.alternative("loops", "len", source, output)),
    }
    targets = (at_most("pipe", 0.45, "Pool(2)"), at_most("pipe", 1.0, "one loop"))
    return Workload(f"{count:,} lines through len, file to file", rate("lines"), cases, targets, "two loops")


def one_by_one(programs: Programs) -> Workload:
    """One message for each task, and the same tasks in chunks that `pipe` chooses."""
    count, output = min(50_000, programs.inputs.line_count), programs.output
    source = programs.inputs.lines(count)
    cases = {
        **programs.pipe_call("pipe --chunk 1", count, source, "--chunk", 1),
        **programs.pipe_call("pipe", count, source),
        "Pool(2), chunk 1": programs.timed(count, *programs.alternative("pool", "len", source, output, 2, 1)),
        "messages over pipes": programs.timed(count, *programs.alternative("messages", "len", source, output)),
    }
    targets = (at_least("pipe --chunk 1", 1.0, "Pool(2), chunk 1"),)
    return Workload(f"{count:,} lines, one by one", rate("tasks"), cases, targets, "messages over pipes")


def records(programs: Programs) -> Workload:
    """Large records: 1 MiB each."""
    count, output = programs.inputs.record_count, programs.output
    source = programs.inputs.records()
    cases = {
        **programs.pipe_call("pipe", count, source),
        "Pool(2)": programs.timed(count, *programs.alternative("pool", "len", source, output, 2, 1)),
        "one copy": programs.timed(count, *programs.alternative("copy", "len", source, output, MIB)),
    }
    targets = (at_least("pipe", 3, "Pool(2)"), Target("pipe", "at least 1,000 MB/s", slack=MIB / 1e9))
    title = f"{count:,} records of 1 MiB through len"
    return Workload(title, rate("MB", MIB / 1e6), cases, targets, "one copy")


def latency(programs: Programs) -> Workload:
    """One task at a time into a running pipeline."""

    def pipe_round_trips(pipe: str) -> Case:
        def case() -> Sample:
            with measure_cpu() as cpu, _open_pipe(pipe) as process:
                durations = []
                for _ in range(ROUND_TRIPS):
                    begin = time.perf_counter()
                    _pass_one_task(process)
                    durations.append(time.perf_counter() - begin)
            return Sample(median(durations[alternatives.WARM_UP :]), cpu.seconds)

        return Case(case)

    def python_round_trips(program: str) -> Case:
        def case() -> Sample:
            argv = [str(word) for word in programs.alternative(program, "len", ROUND_TRIPS)]
            with measure_cpu() as cpu:
                printed = subprocess.run(argv, check=True, stdout=subprocess.PIPE).stdout
            return Sample(float(printed), cpu.seconds)

        return Case(case)

    cases = {
        **programs.pipe("pipe", pipe_round_trips),
        "Pool.apply": python_round_trips("pool_apply"),
        "one process": python_round_trips("round_trips"),
    }
    targets = (Target("pipe", "at most 0.35 ms", slack=0.35e-3),)
    return Workload("latency of one task in a running pipeline", milliseconds, cases, targets, "one process")


def _open_pipe(pipe: str) -> subprocess.Popen[bytes]:
    argv = [pipe, "run", "--quiet", "--call", "builtins:len"]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)


def _pass_one_task(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.write(alternatives.LINE.encode())
    if not process.stdout.readline():
        raise RuntimeError(f"{process.args!r} wrote no result")


def sleeps(programs: Programs) -> Workload:
    """Sleeps with a heavy tail on 8 slots. The three commands are measured from the first start to the last end."""
    source, durations = programs.inputs.sleeps()
    count, output, joblog = len(durations), programs.output, programs.folder / "results.joblog"
    function = f"{ALTERNATIVES}:sleep"
    script = """
        name=benchmark-$$
        "$0" sink --quiet --name "$name" --output "$1" --joblog "$2" &
        for _ in 1 2 3 4; do "$0" work --quiet --name "$name" --jobs 2 --call "$3" & done
        "$0" ventilate --quiet --name "$name" "$4"
        wait
    """

    def three_commands(pipe: str) -> Case:
        timed = programs.timed(count, "sh", "-c", script, pipe, output, joblog, function, source)

        def case() -> Sample:
            sample = timed.run()
            return Sample(makespan(joblog), sample.cpu_seconds)

        return Case(case, count)

    workers = ("--workers", 4, "--jobs", 2, "-a", source, "-o", output, "--call", function)
    cases = {
        **programs.pipe("three commands", three_commands),
        **programs.pipe_run("pipe", count, *workers),
        "Pool(8)": programs.timed(count, *programs.alternative("pool", "sleep", source, output, 8, 1)),
        "greedy schedule": Case(lambda: Sample(greedy_seconds(durations, 8), 0), count),
    }
    greedy = Target("three commands", "at most 0.1 s over the greedy schedule", 1, "greedy schedule", 0.1 / count)
    targets = (greedy, at_most("pipe", 1.03, "Pool(8)"))
    return Workload("200 sleeps, 60 s in all, on 8 slots", seconds(count), cases, targets, "greedy schedule")


def makespan(joblog: Path) -> float:
    """Return the seconds from the first start to the last end."""
    with joblog.open(encoding="utf-8", newline="") as file:
        rows = [(float(row["Starttime"]), float(row["JobRuntime"])) for row in csv.DictReader(file, delimiter="\t")]
    return max(begin + duration for begin, duration in rows) - min(begin for begin, _ in rows)


def greedy_seconds(durations: list[float], slots: int) -> float:
    """Return the length of the schedule that gives each task, in order, to the slot that is free first."""
    ends = [0.0] * slots
    for duration in durations:
        heapq.heapreplace(ends, ends[0] + duration)
    return max(ends)


def many_workers(programs: Programs) -> Workload:
    """Many workers for a short run."""
    count, output = 4000, programs.output
    source = programs.inputs.lines(count)
    cases = {
        **programs.pipe_call("pipe -w 100", count, source, "-w", 100, "-j", 2),
        "Pool(100)": programs.timed(count, *programs.alternative("pool", "len", source, output, 100, 1)),
        "one loop": programs.timed(count, *programs.alternative("loop", "len", source, output)),
    }
    targets = (Target("pipe -w 100", "at most 2 s", slack=2 / count),)
    return Workload("100 workers, 4,000 lines through len", seconds(count), cases, targets, "one loop")


def memory_at_rest(programs: Programs) -> Workload:
    """Memory of a pipeline that waits for its second task."""

    def at_rest(pipe: str) -> Case:
        def case() -> Sample:
            with measure_cpu() as cpu, _open_pipe(pipe) as process:
                _pass_one_task(process)
                time.sleep(1)  # a process that still starts would be measured too small
                memory = memory_of_tree(process.pid)
            return Sample(memory, cpu.seconds)

        return Case(case)

    one_second = programs.inputs.file("one-second", ["1\n"])
    loop = programs.alternative("loop", "sleep", one_second, programs.output)
    cases = {**programs.pipe("pipe", at_rest), "one loop": programs.peak_memory(1, *loop)}
    targets = (Target("pipe", "at most 45 MB", slack=45e6),)
    return Workload("memory of all processes at rest", megabytes, cases, targets, "one loop", is_memory=True)


def _peak_memory(programs: Programs, title: str, source: Path, count: int, most: float, *words: object) -> Workload:
    output = programs.output
    call = ("run", "--quiet", *words, "-a", source, "-o", output, "--call", "builtins:len")
    pool = programs.alternative("pool", "len", source, output, 2, POOL_CHUNK)
    cases = {
        **programs.pipe("pipe", lambda pipe: programs.peak_memory(count, pipe, *call)),
        "Pool(2)": programs.peak_memory(count, *pool),
        "one loop": programs.peak_memory(count, *programs.alternative("loop", "len", source, output)),
    }
    targets = (Target("pipe", f"at most {most / 1e6:.0f} MB", slack=most),)
    return Workload(f"peak memory of all processes, {title}", megabytes, cases, targets, "one loop", is_memory=True)


def memory_lines(programs: Programs) -> Workload:
    """Peak memory of the workload `lines`."""
    count = programs.inputs.line_count
    return _peak_memory(programs, f"{count:,} lines", programs.inputs.lines(count), count, 60e6)


def memory_records(programs: Programs) -> Workload:
    """Peak memory of the workload `records`."""
    count = programs.inputs.record_count
    return _peak_memory(programs, f"{count:,} records of 1 MiB", programs.inputs.records(), count, 150e6)


def memory_workers(programs: Programs) -> Workload:
    """Peak memory of the workload `many-workers`."""
    return _peak_memory(programs, "100 workers", programs.inputs.lines(4000), 4000, 300e6, "-w", 100, "-j", 2)


WORKLOADS: dict[str, Callable[[Programs], Workload]] = {
    make.__name__.replace("_", "-"): make
    for make in (
        start,
        commands,
        shell_lines,
        calls,
        lines,
        one_by_one,
        records,
        latency,
        sleeps,
        many_workers,
        memory_at_rest,
        memory_lines,
        memory_records,
        memory_workers,
    )
}
