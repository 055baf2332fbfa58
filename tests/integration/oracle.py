"""Oracle of the fault tests: compares the evidence of a run with the guarantees of `pipe`.

It reads the tasks, the output, the dead letters, the tasks' own log of executions and all recorded Acks. It does not
rely on any report of `pipe`. As a program (arguments CONTROL FILE) it records the Acks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.integration.recorded_tasks import EXECUTION_LOG
from tests.integration.variants import VARIANTS, Variant, find_differences, read_output
from tests.support.processes import ROOT

TASKS_FILE, OUTPUT_FILE, DEAD_LETTERS_FILE, ACKS_FILE, GATE_FILE = "tasks", "out", "failed", "acks", "gate"
PLAIN = VARIANTS["plain"]
MAX_POISON_LOSSES = 8
"""Workers that a poison task may kill, and lose harmless tasks with."""
MAX_MEMORY_KIB, MAX_DESCRIPTORS = 100 << 10, 100
"""KiB and descriptors: several times the maximum of a process in a small pipeline."""
EXPECTED_FILES = {TASKS_FILE, OUTPUT_FILE, DEAD_LETTERS_FILE, ACKS_FILE, GATE_FILE, EXECUTION_LOG}
"""All files that may remain in the folder of a run."""


@dataclass(frozen=True)
class RunEvidence:
    """Evidence in the folder of a run. Times are seconds of the monotonic clock."""

    tasks: dict[int, str]
    """The action of each task."""
    output: Counter[str]
    dead_letters: Counter[int]
    """How often each task was reported as failed; empty without `--failed`."""
    start_times: dict[int, list[float]]
    end_counts: Counter[int]
    settled_at: dict[int, float]
    """Time of the first Ack of each task."""
    files: set[str]

    @property
    def start_counts(self) -> Counter[int]:
        """Return how often each task was started."""
        return Counter({number: len(times) for number, times in self.start_times.items()})


def find_violations(folder: Path, loss_times: Sequence[float], variant: Variant = PLAIN) -> list[str]:
    """Return the broken guarantees; each of `losses` is the time at which a worker was lost with its tasks."""
    found = collect_evidence(folder, variant)
    if variant.has_poison:  # its harmless neighbours are lost with the same workers
        loss_times = [float("-inf")] * MAX_POISON_LOSSES
    guilty = {number for number, how in found.tasks.items() if how in {"fail", "poison"}}
    expected = Counter(f"got {number}" for number in found.tasks.keys() - guilty)
    broken = [f"{line!r} is in the output {found.output[line]} times, not {expected[line]}"
              for line in sorted(expected | found.output)
              if found.output[line] > expected[line] or (found.output[line] < expected[line] and not variant.is_halted)
              ]  # fmt: skip
    broken += find_differences(folder, variant, read_output(folder, variant))
    if found.dead_letters:
        broken += [f"task {number}, {found.tasks.get(number)}: {found.dead_letters[number]} dead letters"
                   for number in sorted(guilty | found.dead_letters.keys())
                   if found.dead_letters[number] > (number in guilty)
                   or (found.dead_letters[number] < (number in guilty) and not variant.is_halted)]  # fmt: skip
    for number in sorted(found.tasks):
        touched = sum(lost < found.settled_at.get(number, float("inf")) for lost in loss_times)
        most = 1 + touched + variant.retries * (number in guilty)
        if not (0 if variant.is_halted else 1) <= found.start_counts[number] <= most:
            acked = f", acked at {found.settled_at[number]:.3f}" if number in found.settled_at else ""
            when = ", ".join(f"{at:.3f}" for at in found.start_times.get(number, []))
            broken.append(f"task {number} was begun {found.start_counts[number]} times; {touched} losses touched it"
                          f" (begun at {when}{acked})")  # fmt: skip
        if number not in guilty and not found.end_counts[number] and not variant.is_halted:
            broken.append(f"task {number} never ended")
    broken += [f"an Ack spoke of task {number}" for number in sorted(found.settled_at.keys() - found.tasks.keys())]
    expected_files = EXPECTED_FILES | {variant.output, "results"}
    broken += [
        f"{name} was left behind"
        for name in sorted(found.files - expected_files)
        if not (variant.is_halted and name.startswith(variant.output + "."))
    ]
    return broken


def find_excessive(pids: Sequence[int]) -> set[str]:
    """Return the processes that use more than a process of a small pipeline should ever need."""
    found = set()
    for pid in pids:
        with suppress(OSError, ValueError, KeyError):  # a zombie has no memory
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            memory, files = int(fields["VmHWM"].split()[0]), len(os.listdir(f"/proc/{pid}/fd"))
            if memory > MAX_MEMORY_KIB or files > MAX_DESCRIPTORS:
                words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
                found.add(f"{memory} KiB and {files} descriptors: {words}")
    return found


def collect_evidence(folder: Path, variant: Variant = PLAIN) -> RunEvidence:
    """Read all evidence in the folder."""
    executed = [line.split() for line in _read_lines(folder / EXECUTION_LOG)]
    words = [line.split(maxsplit=1) for line in _read_lines(folder / TASKS_FILE)]
    return RunEvidence(
        {int(number): how for number, how in words},
        Counter(read_output(folder, variant)),
        Counter(int(json.loads(line)["task"].split()[0]) for line in _read_lines(folder / DEAD_LETTERS_FILE)),
        _start_times(executed),
        Counter(int(number) for number, what, _ in executed if what == "end"),
        _first_ack_times(folder / ACKS_FILE),
        {path.name for path in folder.iterdir()},
    )


def _read_lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _start_times(executed: list[list[str]]) -> dict[int, list[float]]:
    """Return the start times of each task."""
    begun: dict[int, list[float]] = {}
    for number, what, at in executed:
        if what == "start":
            begun.setdefault(int(number), []).append(int(at) / 1e9)
    return begun


def _first_ack_times(path: Path) -> dict[int, float]:
    """Return the time of the first Ack of each task."""
    settled: dict[int, float] = {}
    for line in _read_lines(path):
        at, ranges = json.loads(line)
        for low, high in ranges:
            for number in range(low, high):
                settled.setdefault(number, at)
    return settled


@contextmanager
def record_acks(control: str, folder: Path) -> Iterator[None]:
    """Record all Acks of the endpoint `control` in a file of the folder."""
    words = [sys.executable, "-m", "tests.integration.oracle", control, str(folder / ACKS_FILE)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment) as process:
        try:
            yield
        finally:
            process.kill()


def _record_acks_until_killed(control: str, path: str) -> None:
    """Record Acks until killed."""
    import zmq

    from pipeline.model.messages import Ack
    from pipeline.transport.codec import TOPIC, decode

    socket = zmq.Context().socket(zmq.SUB)
    socket.set(zmq.RECONNECT_IVL, 5)
    socket.set(zmq.SUBSCRIBE, TOPIC[Ack])
    socket.connect(control)
    with open(path, "a", buffering=1) as file:
        while True:
            word = decode(socket.recv_multipart())
            if isinstance(word, Ack):
                file.write(json.dumps([time.monotonic(), [[0, word.low_watermark], *word.ranges]]) + "\n")


if __name__ == "__main__":
    _record_acks_until_killed(*sys.argv[1:])
