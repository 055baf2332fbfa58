"""Adapter of the spill: results ahead of their turn, in memory and then on disk.

- Committed is sent when a result is stored, and each result is given back once.
- When memory is full, all of it goes to the files, neighbours merged into one result. So memory use depends neither
  on the bytes nor on the number of tasks.
- A durable spill has a result on disk before Committed, and keeps it until DiscardBelow, for the next sink.
- The content of a large result, which arrives in parts, is collected in a file and never in memory.
- On a full disk the spill waits for space. After any other error the results in memory stay there.
"""

from __future__ import annotations

from collections import deque

from pipeline.model.errors import InternalError, UsageError
from pipeline.model.events import (
    Committed,
    ContentStored,
    DiscardBelow,
    DropContent,
    FetchedResult,
    FetchSpilled,
    SpillResult,
    StoreContent,
)
from pipeline.model.messages import Ranges, Result
from pipeline.model.ranges import RangeSet
from pipeline.model.results import content_bytes, merge_results, slice_result
from pipeline.model.state_machine import NEVER, Address, Message
from pipeline.storage.content_file import ContentFile
from pipeline.storage.disk_io import DEFAULT_SYSCALLS, DiskSpaceWait, Syscalls
from pipeline.storage.spill_files import SpillFiles

MEMORY_LIMIT_BYTES = 4 << 20
"""Bytes in memory at most, Python's overhead included."""
MERGE_LIMIT_BYTES = 1 << 20
"""Neighbours are merged up to about this many bytes."""
RESULT_OVERHEAD_BYTES = 600
"""Bytes of memory that a small result takes besides its content; a failure takes about half of it."""


def content_size(result: Result) -> int:
    """Return the bytes of content, also of what a large result has in a file."""
    content = content_bytes(result) + len(result.output_ends) + len(result.failed_records)
    return content + sum(len(failure.text) + len(failure.stderr_tail) for failure in result.failures)


def memory_size(result: Result) -> int:
    """Return the bytes of memory."""
    content = content_size(result) - sum(result.large_sizes)
    return content + RESULT_OVERHEAD_BYTES + RESULT_OVERHEAD_BYTES * len(result.failures) // 2


def can_merge(left: Result, right: Result) -> bool:
    """Return whether merging loses nothing.

    Failures belong to the attempt of one worker. A result has metrics for all its tasks or, from some workers, none.
    """
    same_attempt = (left.worker, left.attempt) == (right.worker, right.attempt) or not (left.failures or right.failures)
    is_large = left.large_sizes or right.large_sizes
    return same_attempt and bool(left.metrics) == bool(right.metrics) and not is_large


class SpillBuffer:
    """Adapter of the sink's SPILL port: takes SpillResult, FetchSpilled and DiscardBelow; answers with results."""

    def __init__(
        self, folder: str | None = None, *, durable_folder: str = "", syscalls: Syscalls = DEFAULT_SYSCALLS
    ) -> None:
        """Use temporary files in `folder`, else in TMPDIR; or files in `durable_folder`, which survive the process."""
        self.deadline = NEVER
        self.size = 0
        """Bytes of content in memory and on disk."""
        self._files, self._space_wait = SpillFiles(folder, durable_folder, syscalls), DiskSpaceWait()
        self._memory = MemoryBuffer()
        self._popped_below = 0
        """All results that were given back from memory are below this task."""
        self._pending: deque[SpillResult] = deque()
        self._contents: dict[int, ContentFile] = {}
        """Incomplete contents of large results, by their number."""
        self._unstored: deque[StoreContent] = deque()
        self._answers: list[Message] = []
        self._reported_number, self._logged_number, self._has_failed = -1, -1, False

    def restore(self, ranges: Ranges) -> None:
        """Keep these tasks of what an earlier sink left in the durable folder, and drop the others.

        Raises:
            UsageError: some of them are missing, or a file is damaged.
        """
        try:
            self._restore(RangeSet(ranges))
        except OSError as error:
            raise UsageError(f"cannot read {self._files.location}: {error.strerror}") from None

    def send(self, _to: Address, message: Message) -> None:
        """Take a message. FetchSpilled must name the first task of a stored result. After a failure all are dropped."""
        if self._has_failed:
            return
        try:
            if isinstance(message, SpillResult):
                self._add(message.result)
                self._pending.append(message)
            elif isinstance(message, StoreContent):
                self._unstored.append(message)
            elif isinstance(message, DropContent):
                self._drop_content(message.number)
            elif isinstance(message, FetchSpilled):
                self._answers.append(FetchedResult(self._pop(message.first)))
            elif isinstance(message, DiscardBelow):
                self._files.discard_below(message.low_watermark)
        except OSError as error:
            self._answers += self._on_write_error(error)
        self.deadline = 0.0

    def pollables(self) -> list[object]:
        """Return nothing to poll: only the deadline counts."""
        return []

    def receive(self) -> list[Message]:
        """Return Committed, the fetched results, and notices for the user."""
        answers = [*self._store_pending(), *self._answers]  # Committed before the results
        self._answers.clear()
        self.deadline = self._space_wait.retry_at
        return answers

    def sync(self) -> None:
        """Flush what is committed to the disk, now and from now on. Raises OSError with the path."""
        self._files.sync()

    def close(self) -> None:
        """Release everything; durable files stay on disk."""
        self._memory = MemoryBuffer()
        self._files.close()
        self._contents.clear()
        self._unstored.clear()
        self._pending.clear()
        self.deadline = NEVER

    def remove(self) -> None:
        """Remove the durable folder with its files: the run is complete. Raises OSError."""
        self.close()
        self._files.remove()

    def _add(self, result: Result) -> None:
        self._memory.add(result)
        self.size += content_size(result)

    def _pop(self, first: int) -> Result:
        """Remove and return the result that begins with this task, perhaps merged with its neighbours."""
        group = self._memory.contiguous(first)
        result = merge_results(group) if group else self._files.pop(first)
        if result is None:
            raise InternalError(f"no result in the spill begins with task {first}")
        if group:
            self._memory.remove(group)
            self._popped_below = max(self._popped_below, result.first + result.count)
        self.size -= content_size(result)
        return result

    def _store_pending(self) -> list[Message]:
        has_pending = self._pending or self._unstored or self._space_wait.retry_at != NEVER
        if self._space_wait.is_waiting or not has_pending:
            return []
        stored: list[Message] = []
        try:
            while self._unstored:
                stored.append(self._store_content(self._unstored[0]))
                self._unstored.popleft()
            while self._pending:
                self._files.log(self._pending[0].result)
                self._logged_number = self._pending.popleft().number
            if self._evict():
                self._files.drop_logs(self._popped_below)
        except OSError as error:
            return [*stored, *self._on_write_error(error)]
        answers = [*stored, *self._space_wait.on_success()]
        if self._logged_number > self._reported_number:
            self._reported_number = self._logged_number
            answers.append(Committed("spill", self._reported_number))
        return answers

    def _store_content(self, part: StoreContent) -> ContentStored:
        if part.number not in self._contents:
            self._contents[part.number] = self._files.create_content(part.task)
        content = self._contents[part.number]
        content.append(part.body)
        if part.is_last:
            del self._contents[part.number]
        return ContentStored(part.number, content.size, content)

    def _drop_content(self, number: int) -> None:
        self._unstored = deque(part for part in self._unstored if part.number != number)
        if content := self._contents.pop(number, None):
            content.remove()

    def _evict(self) -> bool:
        """Write memory to the files if it is full. After an OSError the rest is still in memory."""
        if self._memory.total_size <= MEMORY_LIMIT_BYTES:
            return False
        for first in self._memory.starts():
            if group := self._memory.contiguous(first):
                self._files.store(merge_results(group))
                self._memory.remove(group)
        return True

    def _restore(self, missing: RangeSet) -> None:
        for location, result in self._files.recover():
            parts = missing.intersection(result.first, result.first + result.count)
            missing.difference_update(parts)
            if parts and self._files.retain(location, result, parts):
                self.size += content_size(result)
            elif parts:
                for part in slice_result(result, parts):
                    self._add(part)
                self._evict()  # without drop_logs: a log may go only when all are read
        if missing.task_count:
            task = missing.ranges()[0][0] + 1
            hint = "restore it from a copy, or use --restart to discard the run"
            raise UsageError(f"spill directory {self._files.location} is missing the result of task {task}", hint)
        self._files.remove_unused_contents()
        self._files.discard_below(0)

    def _on_write_error(self, error: OSError) -> list[Message]:
        reason = f"{self._files.location}: {error.strerror}"
        try:
            return self._space_wait.on_enospc(error, reason)
        except OSError:
            self._has_failed = True
            self._pending.clear()
            self._unstored.clear()
            return [Committed("spill", self._reported_number, reason)]


class MemoryBuffer:
    """Results in memory, by their first task."""

    def __init__(self) -> None:
        self._results: dict[int, Result] = {}
        self.total_size = 0

    def add(self, result: Result) -> None:
        """Add a result."""
        self._results[result.first] = result
        self.total_size += memory_size(result)

    def remove(self, group: list[Result]) -> None:
        """Remove these results."""
        for result in group:
            del self._results[result.first]
            self.total_size -= memory_size(result)

    def starts(self) -> list[int]:
        """Return the first tasks of all results, ascending."""
        return sorted(self._results)

    def contiguous(self, first: int) -> list[Result]:
        """Return the result at `first`, if any, and those after it without a gap, up to the size of two groups."""
        group: list[Result] = []
        size = 0
        while size < MERGE_LIMIT_BYTES and (result := self._results.get(first)):
            if group and (memory_size(result) > MERGE_LIMIT_BYTES or not can_merge(group[0], result)):
                break  # a large result, merged with others, might exceed what the 32 bits of `output_ends` count
            group.append(result)
            first += result.count
            size += memory_size(result)
        return group
