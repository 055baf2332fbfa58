"""Spill adapter: out-of-order results in memory, then on disk.

The hoard: results that wait for their turn, few in memory and the others on the shelf.

It needs memory for neither bytes nor single tasks: whenever memory is full, all of it goes to the shelf, neighbours
merged into one result. What a fault keeps from the shelf stays in memory; nothing is ever given back twice.

The spill: results that are ahead of their turn, kept until it has come.

It promises to say Committed when a result is kept, and to give each back once. A durable spill has it on disk by then
and leaves it there until it is told to forget it, for the process that comes after this one. It waits for room on the
disk.
"""

from __future__ import annotations

from collections import deque

from pipeline.model.errors import InternalError, UsageError
from pipeline.model.events import Committed, DiscardBelow, FetchedResult, FetchSpilled, SpillResult
from pipeline.model.messages import Ranges, Result
from pipeline.model.ranges import RangeSet
from pipeline.model.results import merge_results, slice_result
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, DiskSpaceWait, Syscalls
from pipeline.storage.spill_files import SpillFiles

MEMORY_LIMIT_BYTES = 4 << 20
"""Bytes kept in memory at most, what Python adds to them included."""
MERGE_LIMIT_BYTES = 1 << 20
"""Neighbours are merged up to about this many bytes."""
RESULT_OVERHEAD_BYTES = 600
"""Bytes that a small result costs in memory over its contents; about half of it for a note."""


def content_size(result: Result) -> int:
    """Bytes of content."""
    bodies = len(result.output) + len(result.output_ends) + len(result.stderr) + len(result.failed_records)
    return bodies + sum(len(note.text) + len(note.stderr_tail) for note in result.failures)


def memory_size(result: Result) -> int:
    """Bytes of memory."""
    return content_size(result) + RESULT_OVERHEAD_BYTES + RESULT_OVERHEAD_BYTES * len(result.failures) // 2


def can_merge(left: Result, right: Result) -> bool:
    """Whether nothing is lost when they are merged.

    Notes are about one worker's tries. Accounts are for all tasks of a result or for none: a worker may have none.
    """
    one_try = (left.worker, left.attempt) == (right.worker, right.attempt) or not (left.failures or right.failures)
    return one_try and bool(left.metrics) == bool(right.metrics)


class MemoryBuffer:
    """Results by their first task."""

    def __init__(self) -> None:
        self._results: dict[int, Result] = {}
        self.total_size = 0

    def add(self, result: Result) -> None:
        """One more."""
        self._results[result.first] = result
        self.total_size += memory_size(result)

    def remove(self, group: list[Result]) -> None:
        """These are not needed here any more."""
        for result in group:
            del self._results[result.first]
            self.total_size -= memory_size(result)

    def starts(self) -> list[int]:
        """Of all results, ascending."""
        return sorted(self._results)

    def contiguous(self, first: int) -> list[Result]:
        """The result at `first`, if any, and, up to two groups in all, those that follow it without a gap."""
        found: list[Result] = []
        size = 0
        while size < MERGE_LIMIT_BYTES and (result := self._results.get(first)):
            if found and (memory_size(result) > MERGE_LIMIT_BYTES or not can_merge(found[0], result)):
                break  # a large one, joined to others, might pass what `ends` can count
            found.append(result)
            first += result.count
            size += memory_size(result)
        return found


class ResultStore:
    """Memory and shelf as one."""

    def __init__(self, spill_files: SpillFiles) -> None:
        self.spill_files = spill_files
        self.size = 0
        """Bytes of content that are kept, in memory and on disk."""
        self._memory = MemoryBuffer()
        self._popped_below = 0
        """All that was given back out of memory is below this task."""

    def add(self, result: Result) -> None:
        """Take it into memory."""
        self._memory.add(result)
        self.size += content_size(result)

    def evict(self) -> None:
        """If memory is full, put all of it on the shelf. Raises OSError; then the rest is still in memory."""
        if self._evict_memory():
            self.spill_files.drop_logs(self._popped_below)

    def _evict_memory(self) -> bool:
        if self._memory.total_size <= MEMORY_LIMIT_BYTES:
            return False
        for first in self._memory.starts():
            if group := self._memory.contiguous(first):
                self.spill_files.store(merge_results(group))
                self._memory.remove(group)
        return True

    def pop(self, first: int) -> Result:
        """The result that begins with this task, perhaps with its neighbours; it is not kept any more. Raises OSError.

        Raises:
            StationError: none does.
        """
        group = self._memory.contiguous(first)
        result = merge_results(group) if group else self.spill_files.pop(first)
        if result is None:
            raise InternalError(f"no result that begins with task {first} is kept")
        if group:
            self._memory.remove(group)
            self._popped_below = max(self._popped_below, result.first + result.count)
        self.size -= content_size(result)
        return result

    def restore(self, ranges: Ranges) -> None:
        """Of what an earlier process left on the shelf keep these tasks, and drop the others. Raises OSError.

        Raises:
            UsageError: some of them are not there.
        """
        wanted = RangeSet(ranges)
        for extent, result in self.spill_files.recover():
            parts = wanted.intersection(result.first, result.first + result.count)
            wanted.difference_update(parts)
            if parts and self.spill_files.retain(extent, result, parts):
                self.size += content_size(result)
            elif parts:
                for part in slice_result(result, parts):
                    self.add(part)
                self._evict_memory()  # no log goes before all are read
        if wanted.task_count:
            raise UsageError(f"{self.spill_files.location} lacks the result of task {wanted.ranges()[0][0] + 1}")
        self.spill_files.discard_below(0)

    def clear(self) -> None:
        """Drop what is in memory, and let go of the shelf."""
        self._memory = MemoryBuffer()
        self.spill_files.close()


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
