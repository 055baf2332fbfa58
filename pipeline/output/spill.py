"""The spill: results that are ahead of their turn, kept until it has come.

It promises to say Committed when a result is kept, and to give each back once. A durable spill has it on disk by then
and leaves it there until it is told to forget it, for the process that comes after this one. It waits for room on the
disk.
"""

from __future__ import annotations

from collections import deque

from pipeline.output.hoard import Hoard
from pipeline.output.kernel import KERNEL, Kernel, Room
from pipeline.output.shelf import Shelf
from pipeline.words.errands import Committed, Fetch, Forget, Keep, Kept
from pipeline.words.errors import UsageError
from pipeline.words.parts import Ranges
from pipeline.words.station import NEVER, Address, Message


class Spill:
    """The edge of the sink's SPILL port: takes Keep, Fetch and Forget, answers Committed and Kept."""

    def __init__(self, folder: str | None = None, *, durable: str = "", kernel: Kernel = KERNEL) -> None:
        """Temporary files go to `folder`, else to TMPDIR; with `durable`, a folder of its own, they stay there."""
        self.deadline = NEVER
        self._shelf, self._room = Shelf(folder, durable, kernel), Room()
        self._hoard = Hoard(self._shelf)
        self._given: deque[Keep] = deque()
        self._answers: list[Message] = []
        self._number, self._newest, self._failed = -1, -1, False  # nothing yet

    @property
    def size(self) -> int:
        """Bytes of content that are kept, in memory and on disk."""
        return self._hoard.size

    def restore(self, ranges: Ranges) -> None:
        """Before all else: of what was left in the durable folder keep these tasks, and drop the others.

        Raises:
            UsageError: some of them are not there, or it is damaged.
        """
        try:
            self._hoard.restore(ranges)
        except OSError as error:
            raise UsageError(f"cannot read {self._shelf.where}: {error.strerror}") from None

    def send(self, _to: Address, message: Message) -> None:
        """Take a Keep, or a Fetch of a task that a kept result begins with, or a Forget. Nothing after a failure."""
        if self._failed:
            return
        try:
            if isinstance(message, Keep):
                self._hoard.hold(message.result)
                self._given.append(message)
            elif isinstance(message, Fetch):
                self._answers.append(Kept(self._hoard.fetch(message.first)))
            elif isinstance(message, Forget):
                self._shelf.forget(message.below)
        except OSError as error:
            self._answers += self._stop(error)
        self.deadline = 0.0

    def files(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """The answers since the last time."""
        answers = [*self._advance(), *self._answers]  # Committed, then Kept
        self._answers.clear()
        self.deadline = self._room.again
        return answers

    def sync(self) -> None:
        """What Committed spoke of is on the disk, and will be from now on. Raises OSError, naming the file."""
        self._shelf.sync()

    def close(self) -> None:
        """Let go of all; what is durable stays on disk."""
        self._hoard.clear()
        self._given.clear()
        self.deadline = NEVER

    def remove(self) -> None:
        """The run is over: nothing is left in the durable folder, nor the folder. Raises OSError."""
        self.close()
        self._shelf.remove()

    def _advance(self) -> list[Message]:
        """Log what has come, and make room in memory: what is kept now, and what the person is to be told."""
        if self._room.waits or not (self._given or self._room.again != NEVER):
            return []
        try:
            while self._given:
                self._shelf.log(self._given[0].result)
                self._newest = self._given.popleft().number
            self._hoard.settle()
        except OSError as error:
            return self._stop(error)
        told = self._room.found()
        if self._newest > self._number:
            self._number = self._newest
            told.append(Committed("spill", self._number))
        return told

    def _stop(self, error: OSError) -> list[Message]:
        """For a while, if there is no room; else for good."""
        try:
            return self._room.lacking(error, f"{self._shelf.where}: {error.strerror}")
        except OSError:
            self._failed = True
            self._given.clear()
            return [Committed("spill", self._number, f"results ahead of their turn: {error.strerror}")]
