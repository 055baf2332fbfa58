"""The executor of --dry-run: each task's output is the command that would run it. Nothing is started."""

from __future__ import annotations

import time

from pipeline.executor.backlog import Backlog, Lot
from pipeline.executor.outcomes import Outcome, Outcomes
from pipeline.executor.template import Template
from pipeline.words.errands import Cancel, Release, Returned
from pipeline.words.messages import Chunk
from pipeline.words.parts import Note, Recipe, Terms
from pipeline.words.station import NEVER, Address, Message


class Rehearsal:
    """Prints the commands of `command`, or the calls of `call`. Raises UsageError as the executors do."""

    def __init__(self, command: tuple[str, ...], call: str) -> None:
        self.deadline = NEVER
        self._template = None if call else Template(command, appended=True)
        self._call = call
        self._backlog = Backlog()
        self._said: list[Message] = []

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge serves one port
        """Take a Recipe, Chunk, Release or Cancel."""
        match message:
            case Recipe():
                self._backlog.recipe = message
            case Chunk():
                lot = Lot(Terms(message.tries), message.run)
                self._backlog.add(message.first, message.count, message.body, lot)
            case Release():
                self._said.append(Returned(self._backlog.release()))
            case Cancel(ranges):
                self._backlog.drop(ranges)
        self.deadline = 0.0

    def files(self) -> list[object]:
        """None."""
        return []

    def receive(self) -> list[Message]:
        """The commands of all that has come."""
        outcomes = Outcomes()
        while bite := self._backlog.take(1, 1):
            record = bite.body if self._backlog.recipe.block else bite.body[:-1]
            outcomes.add(self._outcome(bite.first, record), time.monotonic())
        said, self._said, self.deadline = [*self._said, *outcomes.take()], [], NEVER
        return said

    def close(self) -> None:
        """Nothing is open."""

    def _outcome(self, task: int, record: bytes) -> Outcome:
        try:
            shown = self._shown(task, record)
        except ValueError as wrong:
            note = Note(task, "exception", 0, str(wrong), "", len(record))
            return Outcome(task, b"", b"", note, 0.0, record)
        return Outcome(task, shown + b"\n", b"", None, 0.0)

    def _shown(self, task: int, record: bytes) -> bytes:
        if self._template:
            return self._template.render(record, self._backlog.recipe.shape, task, 1).command
        return f"{self._call}({record.decode(errors='backslashreplace')!r})".encode()
