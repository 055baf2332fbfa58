"""The spill: results that are ahead of their turn, kept until it has come.

It promises to say Committed when a result is kept, and to give each back once. A durable spill has it on disk by then
and leaves it there until it is told to forget it, for the process that comes after this one. It waits for room on the
disk.
"""

from __future__ import annotations

from collections import deque

from pipeline.output.hoard import ResultStore
from pipeline.output.kernel import DEFAULT_SYSCALLS, DiskSpaceWait, Syscalls
from pipeline.output.shelf import SpillFiles
from pipeline.words.errands import Committed, DiscardBelow, FetchedResult, FetchSpilled, SpillResult
from pipeline.words.errors import UsageError
from pipeline.words.parts import Ranges
from pipeline.words.station import NEVER, Address, Message


class SpillBuffer:
    """The edge of the sink's SPILL port: takes Keep, Fetch and Forget, answers Committed and Kept."""

    def __init__(
        self, folder: str | None = None, *, durable_folder: str = "", syscalls: Syscalls = DEFAULT_SYSCALLS
    ) -> None:
        """Temporary files go to `folder`, else to TMPDIR; with `durable`, a folder of its own, they stay there."""
        self.deadline = NEVER
        self._spill_files, self._space_wait = SpillFiles(folder, durable_folder, syscalls), DiskSpaceWait()
        self._store = ResultStore(self._spill_files)
        self._pending: deque[SpillResult] = deque()
        self._answers: list[Message] = []
        self._reported_number, self._logged_number, self._has_failed = -1, -1, False  # nothing yet

    @property
    def size(self) -> int:
        """Bytes of content that are kept, in memory and on disk."""
        return self._store.size

    def restore(self, ranges: Ranges) -> None:
        """Before all else: of what was left in the durable folder keep these tasks, and drop the others.

        Raises:
            UsageError: some of them are not there, or it is damaged.
        """
        try:
            self._store.restore(ranges)
        except OSError as error:
            raise UsageError(f"cannot read {self._spill_files.location}: {error.strerror}") from None

    def send(self, _to: Address, message: Message) -> None:
        """Take a Keep, or a Fetch of a task that a kept result begins with, or a Forget. Nothing after a failure."""
        if self._has_failed:
            return
        try:
            if isinstance(message, SpillResult):
                self._store.add(message.result)
                self._pending.append(message)
            elif isinstance(message, FetchSpilled):
                self._answers.append(FetchedResult(self._store.pop(message.first)))
            elif isinstance(message, DiscardBelow):
                self._spill_files.discard_below(message.low_watermark)
        except OSError as error:
            self._answers += self._on_write_error(error)
        self.deadline = 0.0

    def pollables(self) -> list[object]:
        """Nothing to wait for."""
        return []

    def receive(self) -> list[Message]:
        """The answers since the last time."""
        answers = [*self._log_pending(), *self._answers]  # Committed, then Kept
        self._answers.clear()
        self.deadline = self._space_wait.retry_at
        return answers

    def sync(self) -> None:
        """What Committed spoke of is on the disk, and will be from now on. Raises OSError, naming the file."""
        self._spill_files.sync()

    def close(self) -> None:
        """Let go of all; what is durable stays on disk."""
        self._store.clear()
        self._pending.clear()
        self.deadline = NEVER

    def remove(self) -> None:
        """The run is over: nothing is left in the durable folder, nor the folder. Raises OSError."""
        self.close()
        self._spill_files.remove()

    def _log_pending(self) -> list[Message]:
        """Log what has come, and make room in memory: what is kept now, and what the person is to be told."""
        if self._space_wait.is_waiting or not (self._pending or self._space_wait.retry_at != NEVER):
            return []
        try:
            while self._pending:
                self._spill_files.log(self._pending[0].result)
                self._logged_number = self._pending.popleft().number
            self._store.evict()
        except OSError as error:
            return self._on_write_error(error)
        told = self._space_wait.on_success()
        if self._logged_number > self._reported_number:
            self._reported_number = self._logged_number
            told.append(Committed("spill", self._reported_number))
        return told

    def _on_write_error(self, error: OSError) -> list[Message]:
        """For a while, if there is no room; else for good."""
        try:
            return self._space_wait.on_enospc(error, f"{self._spill_files.location}: {error.strerror}")
        except OSError:
            self._has_failed = True
            self._pending.clear()
            return [Committed("spill", self._reported_number, f"results ahead of their turn: {error.strerror}")]
