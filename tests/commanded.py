"""An executor of commands, driven as the loop drives it, with real processes; and what their files say."""

from __future__ import annotations

import contextlib
import select
import struct
import time
from typing import TYPE_CHECKING

from pipeline.executor.commands import Commands
from pipeline.executor.limits import Limits
from pipeline.executor.template import Tag
from pipeline.words import accounts
from pipeline.words.errands import Done, Look
from pipeline.words.messages import Chunk, Glance, Part, Result
from pipeline.words.parts import Note, Recipe
from pipeline.words.station import Message, Port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0


class Line:
    """A Commands edge and the smallest loop around it."""

    def __init__(self, commands: Commands) -> None:
        self.commands = commands
        self.heard: list[Message] = []
        self.outputs: dict[int, bytes] = {}
        self.notes: dict[int, Note] = {}
        self.records: dict[int, bytes] = {}
        self.accounts: dict[int, accounts.Account] = {}
        self.lines: list[tuple[int, int, bytes]] = []
        self.errors = b""
        self.tries = 0

    def give(self, *records: bytes, first: int = 0, end: bytes = b"\n") -> None:
        body = b"".join(record + end for record in records)
        chunk = Chunk("run", 1, 1, first, len(records), body, self.tries)
        self.commands.send(Port.EXECUTOR, chunk)

    def look(self) -> Glance:
        """What it says of what it does now."""
        self.commands.send(Port.EXECUTOR, Look())
        self.until(lambda: any(isinstance(message, Glance) for message in self.heard))
        (seen,) = [message for message in self.heard if isinstance(message, Glance)]
        self.heard.remove(seen)
        return seen

    def until(self, condition: Callable[[], bool]) -> None:
        limit = time.monotonic() + PATIENCE
        poller = select.poll()
        for file in self.commands.files():
            assert isinstance(file, int)
            poller.register(file, select.POLLIN)
        while not condition():
            now = time.monotonic()
            assert now < limit, f"not in time; heard {self.heard}"
            poller.poll(1000 * max(0.0, min(self.commands.deadline, now + 0.02) - now))
            for message in self.commands.receive():
                self.hear(message)

    def hear(self, message: Message) -> None:
        self.heard.append(message)
        if isinstance(message, Done):
            self.hear_result(message.result)
        elif isinstance(message, Part):
            assert message.task not in self.outputs
            self.lines.append((message.task, message.start, message.body))

    def hear_result(self, message: Result) -> None:
        ends = (0, *struct.unpack(f"<{message.count}I", message.ends))
        for index in range(message.count):
            assert message.first + index not in self.outputs
            self.outputs[message.first + index] = message.output[ends[index] : ends[index + 1]]
        assert ends[-1] == len(message.output)
        self.notes |= {note.task: note for note in message.notes}
        at = 0
        for note in message.notes:
            self.records[note.task] = message.records[at : at + note.size]
            at += note.size
        assert at == len(message.records)
        self.errors += message.errors
        told = list(accounts.each(message.accounts))
        assert len(told) in (0, message.count)
        assert not told or sum(account.errors for account in told) == len(message.errors)
        self.accounts |= dict(enumerate(told, message.first))

    def all_of(self, *records: bytes, end: bytes = b"\n") -> list[bytes]:
        self.give(*records, end=end)
        self.until(lambda: len(self.outputs) == len(records))
        return [self.outputs[task] for task in range(len(records))]

    def dones(self) -> list[Result]:
        return [message.result for message in self.heard if isinstance(message, Done)]

    def seconds(self) -> list[float]:
        return [message.seconds for message in self.heard if isinstance(message, Done)]


@contextlib.contextmanager
def line(
    *command: str,
    slots: int = 2,
    stdin: bool = False,
    recipe: Recipe | None = None,
    limits: Limits | None = None,
    tag: str | None = None,
) -> Iterator[Line]:
    made = Line(Commands(command, slots, limits, None if tag is None else Tag(tag), stdin=stdin))
    made.commands.send(Port.EXECUTOR, recipe or Recipe())
    try:
        yield made
    finally:
        made.commands.close()


def alive(pid: int) -> bool:
    """Whether the process is there, and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pid_in(path: Path) -> int:
    return int(path.read_text()) if path.exists() and path.read_text().endswith("\n") else 0
