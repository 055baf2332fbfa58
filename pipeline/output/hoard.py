"""The hoard: results that wait for their turn, few in memory and the others on the shelf.

It needs memory for neither bytes nor single tasks: whenever memory is full, all of it goes to the shelf, neighbours
merged into one result. What a fault keeps from the shelf stays in memory; nothing is ever given back twice.
"""

from __future__ import annotations

from pipeline.output.shelf import SpillFiles
from pipeline.words.errors import InternalError, UsageError
from pipeline.words.messages import Result
from pipeline.words.parts import Ranges
from pipeline.words.ranges import RangeSet
from pipeline.words.results import merge_results, slice_result

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
