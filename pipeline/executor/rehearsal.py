"""The executor of --dry-run: each task's output is the command that would run it, in the first slot.

It starts nothing, and is as quick as tasks come.
"""

from __future__ import annotations

import time

from pipeline.executor.assignment import tagged
from pipeline.executor.backlog import Backlog
from pipeline.executor.outcomes import Outcome, Outcomes
from pipeline.executor.template import Tag, Template
from pipeline.words.errands import Cancel, Look, Release, Returned
from pipeline.words.messages import Chunk, Glance
from pipeline.words.parts import Note, Recipe
from pipeline.words.station import NEVER, Address, Message


class Rehearsal:
    """Shows the commands of `command`, or the calls of `call`; `tag` begins each line, as it would begin the task's.

    Raises UsageError as the executors do.
    """

    def __init__(
        self, command: tuple[str, ...], call: str = "", tag: Tag | None = None, *, stdin: bool = False
    ) -> None:
        self.deadline = NEVER
        self._template = None if call else Template(command, appended=not stdin)
        self._call, self._tag = call, tag
        self._backlog, self._outcomes = Backlog(), Outcomes()
        self._said: list[Message] = []

    def send(self, to: Address, message: Message) -> None:  # noqa: ARG002 - an edge serves one port
        """Take a Recipe, Chunk, Look, Release or Cancel."""
        match message:
            case Recipe():
                self._backlog.recipe = message
            case Chunk():
                self._backlog.add(message.first, message.count, message.body)
            case Look():
                self._said.append(Glance("", 0.0, 0, ()))
            case Release():
                self._said.append(Returned(self._backlog.release()))
            case Cancel(ranges=ranges):
                self._backlog.drop(ranges)
        self.deadline = 0.0

    def files(self) -> list[object]:
        """None."""
        return []

    def receive(self) -> list[Message]:
        """The commands of all that has come."""
        now = time.monotonic()
        while bite := self._backlog.take(1, 1):
            record = bite.body if self._backlog.recipe.block else bite.body[:-1]
            self._outcomes.add(self._outcome(bite.first, record), now)
        said, self._said, self.deadline = [*self._said, *self._outcomes.take()], [], NEVER
        return said

    def close(self) -> None:
        """Nothing is open."""

    def _outcome(self, task: int, record: bytes) -> Outcome:
        at = record, self._backlog.recipe.shape, task, 1
        try:
            tag = self._tag.render(*at) + b"\t" if self._tag else b""
            shown = self._template.render(*at).command if self._template else self._called(record)
        except ValueError as wrong:
            note = Note(task, "exception", 1, str(wrong), "", len(record))
            return Outcome(task, b"", b"", note, 0.0, record)
        return Outcome(task, tagged(shown + b"\n", tag), b"", None, 0.0)

    def _called(self, record: bytes) -> bytes:
        return f"{self._call}({record.decode(errors='backslashreplace')!r})".encode()
