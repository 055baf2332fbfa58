"""An executor of callables, driven as the loop drives it, with real children; fixtures for its tests."""

from __future__ import annotations

import select
import struct
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline.executor.calls import Calls
from pipeline.executor.limits import Limits
from pipeline.words.errands import Broken, Done
from pipeline.words.messages import Chunk, Result
from pipeline.words.parts import Note, Recipe
from pipeline.words.station import Message, Port

PATIENCE = 20.0


class Driver:
    """An edge in a loop, and all that it has said."""

    def __init__(self, call: str, init: str = "", slots: int = 2, limits: Limits | None = None) -> None:
        self.edge = Calls(call, init, slots, limits)
        self.said: list[Message] = []
        self.edge.send(Port.EXECUTOR, Recipe())

    def give(self, *records: str | bytes, first: int = 0, mark: bytes = b"\n") -> None:
        """Send these records as one chunk."""
        body = b"".join((record.encode() if isinstance(record, str) else record) + mark for record in records)
        self.edge.send(Port.EXECUTOR, Chunk("r", 0, 0, first, len(records), body))

    def until(self, condition: Callable[[], bool]) -> None:
        """Drive the edge until the condition holds."""
        poll = select.poll()
        poll.register(self.edge.files()[0], select.POLLIN)  # type: ignore[arg-type]
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, self.said
            poll.poll(max(0.0, min(0.05, self.edge.deadline - time.monotonic())) * 1000)
            self.said += self.edge.receive()

    def run(self, count: int) -> dict[int, bytes]:
        """Drive until `count` tasks are done; their outputs."""
        self.until(lambda: sum(done.count for done in self.dones()) >= count)
        return self.outputs()

    def dones(self) -> list[Result]:
        return [message.result for message in self.said if isinstance(message, Done)]

    def seconds(self) -> list[float]:
        return [message.seconds for message in self.said if isinstance(message, Done)]

    def outputs(self) -> dict[int, bytes]:
        """Each task's output; every task at most once."""
        found: dict[int, bytes] = {}
        for done in self.dones():
            ends = struct.unpack(f"<{done.count}I", done.ends)
            assert ends[-1] == len(done.output)
            for index, (start, stop) in enumerate(zip((0, *ends), ends, strict=False)):
                assert done.first + index not in found
                found[done.first + index] = done.output[start:stop]
        return found

    def notes(self) -> list[Note]:
        return sorted((note for done in self.dones() for note in done.notes), key=lambda note: note.task)

    def records(self) -> dict[int, bytes]:
        """The records of the failed, by their numbers."""
        found: dict[int, bytes] = {}
        for done in self.dones():
            at = 0
            for note in done.notes:
                found[note.task] = done.records[at : at + note.size]
                at += note.size
            assert at == len(done.records)
        return found

    def errors(self) -> str:
        return b"".join(done.errors for done in self.dones()).decode()

    def broken(self) -> Broken:
        """Drive until it breaks."""
        self.until(lambda: any(isinstance(message, Broken) for message in self.said))
        (broken,) = (message for message in self.said if isinstance(message, Broken))
        return broken


Start = Callable[..., Driver]


@pytest.fixture
def start() -> Iterator[Start]:
    """Drivers, closed at the end."""
    drivers: list[Driver] = []

    def make(call: str, init: str = "", slots: int = 2, limits: Limits | None = None) -> Driver:
        drivers.append(Driver(call, init, slots, limits))
        return drivers[-1]

    yield make
    for driver in drivers:
        driver.edge.close()


@pytest.fixture
def module(tmp_path: Path) -> Callable[[str], str]:
    """Writes a module, answers its file's name."""

    def write(text: str) -> str:
        path = tmp_path / "theirs.py"
        path.write_text("import os, sys, time, signal, pathlib\n" + textwrap.dedent(text))
        return str(path)

    return write


def gone(pid: int) -> bool:
    """Whether no such process runs any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
