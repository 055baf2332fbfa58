"""The oracle of the fault tests: what a run has left behind, held against what it promised.

It reads the tasks, the output, the dead letters, the tasks' own ledger of executions and all Acks that a listener has
heard, and believes nobody. Run as a program (CONTROL FILE) it is that listener.
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

from deeds import LEDGER

TASKS, OUTPUT, LETTERS, HEARD, GATE = "tasks", "out", "failed", "acks", "gate"
MEMORY, FILES = 100 << 10, 100
"""KiB and descriptors: several times what a process of a small line has at its height."""
OURS = {TASKS, OUTPUT, LETTERS, HEARD, GATE, LEDGER}
"""All that may be left in the folder of a run."""


@dataclass(frozen=True)
class Evidence:
    """What was found in a folder. Times are seconds of the monotonic clock."""

    tasks: dict[int, str]
    """What each task was to do."""
    output: Counter[str]
    letters: Counter[int]
    """How often each task was named as failed; empty where nobody asked for it."""
    begun: dict[int, list[float]]
    ends: Counter[int]
    settled: dict[int, float]
    """When an Ack first said so."""
    left: set[str]

    @property
    def starts(self) -> Counter[int]:
        """How often each task was begun."""
        return Counter({number: len(times) for number, times in self.begun.items()})


def judged(folder: Path, losses: Sequence[float]) -> list[str]:
    """The promises that were broken; `losses` are the times at which a worker was lost, with what it held."""
    found = evidence(folder)
    guilty = {number for number, how in found.tasks.items() if how == "fail"}
    expected = Counter(f"got {number}" for number in found.tasks.keys() - guilty)
    broken = [f"{line!r} is in the output {found.output[line]} times, not {expected[line]}"
              for line in sorted(expected | found.output) if expected[line] != found.output[line]]  # fmt: skip
    if found.letters:
        broken += [f"task {number}, {found.tasks.get(number)}: {found.letters[number]} dead letters"
                   for number in sorted(guilty | found.letters.keys())
                   if found.letters[number] != (number in guilty)]  # fmt: skip
    for number in sorted(found.tasks):
        touched = sum(lost < found.settled.get(number, float("inf")) for lost in losses)
        if not 1 <= found.starts[number] <= 1 + touched:
            acked = f", acked at {found.settled[number]:.3f}" if number in found.settled else ""
            when = ", ".join(f"{at:.3f}" for at in found.begun.get(number, []))
            broken.append(f"task {number} was begun {found.starts[number]} times; {touched} losses touched it"
                          f" (begun at {when}{acked})")  # fmt: skip
        if number not in guilty and not found.ends[number]:
            broken.append(f"task {number} never ended")
    broken += [f"an Ack spoke of task {number}" for number in sorted(found.settled.keys() - found.tasks.keys())]
    broken += [f"{name} was left behind" for name in sorted(found.left - OURS)]
    return broken


def greedy(pids: Sequence[int]) -> set[str]:
    """Which of these processes have taken more than the processes of a small line should ever need."""
    found = set()
    for pid in pids:
        with suppress(OSError, ValueError, KeyError):  # a zombie has no memory
            fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
            memory, files = int(fields["VmHWM"].split()[0]), len(os.listdir(f"/proc/{pid}/fd"))
            if memory > MEMORY or files > FILES:
                words = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:200]
                found.add(f"{memory} KiB and {files} descriptors: {words}")
    return found


def evidence(folder: Path) -> Evidence:
    """All there is in the folder."""
    executed = [line.split() for line in _lines(folder / LEDGER)]
    words = [line.split(maxsplit=1) for line in _lines(folder / TASKS)]
    return Evidence(
        {int(number): how for number, how in words},
        Counter(_lines(folder / OUTPUT)),
        Counter(int(json.loads(line)["task"].split()[0]) for line in _lines(folder / LETTERS)),
        _begun(executed),
        Counter(int(number) for number, what, _ in executed if what == "end"),
        _settled(folder / HEARD),
        {path.name for path in folder.iterdir()},
    )


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _begun(executed: list[list[str]]) -> dict[int, list[float]]:
    """When each task was begun."""
    begun: dict[int, list[float]] = {}
    for number, what, at in executed:
        if what == "start":
            begun.setdefault(int(number), []).append(int(at) / 1e9)
    return begun


def _settled(path: Path) -> dict[int, float]:
    """When each task was first acked."""
    settled: dict[int, float] = {}
    for line in _lines(path):
        at, ranges = json.loads(line)
        for low, high in ranges:
            for number in range(low, high):
                settled.setdefault(number, at)
    return settled


@contextmanager
def listening(control: str, folder: Path) -> Iterator[None]:
    """Somebody listens at `control` and writes down all Acks into the folder."""
    words = [sys.executable, __file__, control, str(folder / HEARD)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    with subprocess.Popen(words, env=environment) as process:
        try:
            yield
        finally:
            process.kill()


def _listen(control: str, path: str) -> None:
    """Until killed."""
    import zmq

    from pipeline.wire.codec import TOPIC, decode
    from pipeline.words.messages import Ack

    socket = zmq.Context().socket(zmq.SUB)
    socket.set(zmq.RECONNECT_IVL, 5)
    socket.set(zmq.SUBSCRIBE, TOPIC[Ack])
    socket.connect(control)
    with open(path, "a", buffering=1) as file:
        while True:
            word = decode(socket.recv_multipart())
            if isinstance(word, Ack):
                file.write(json.dumps([time.monotonic(), [[0, word.low], *word.ranges]]) + "\n")


if __name__ == "__main__":
    _listen(*sys.argv[1:])
