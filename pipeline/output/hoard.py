"""The hoard: results that wait for their turn, few in memory and the others on the shelf.

It needs memory for neither bytes nor single tasks: whenever memory is full, all of it goes to the shelf, neighbours
merged into one result. What a fault keeps from the shelf stays in memory; nothing is ever given back twice.
"""

from __future__ import annotations

from pipeline.output.shelf import Shelf
from pipeline.words.errors import StationError, UsageError
from pipeline.words.messages import Result
from pipeline.words.parts import Ranges
from pipeline.words.ranges import RangeSet
from pipeline.words.results import cut_result, merged

MEMORY = 4 << 20
"""Bytes kept in memory at most, what Python adds to them included."""
GROUP = 1 << 20
"""Neighbours are merged up to about this many bytes."""
OVERHEAD = 600
"""Bytes that a small result costs in memory over its contents; about half of it for a note."""


def weight(result: Result) -> int:
    """Bytes of content."""
    bodies = len(result.output) + len(result.ends) + len(result.errors) + len(result.records)
    return bodies + sum(len(note.text) + len(note.tail) for note in result.notes)


def cost(result: Result) -> int:
    """Bytes of memory."""
    return weight(result) + OVERHEAD + OVERHEAD * len(result.notes) // 2


def alike(left: Result, right: Result) -> bool:
    """Whether nothing is lost when they are merged.

    Notes are about one worker's tries. Accounts are for all tasks of a result or for none: a worker may have none.
    """
    one_try = (left.worker, left.tries) == (right.worker, right.tries) or not (left.notes or right.notes)
    return one_try and bool(left.accounts) == bool(right.accounts)


class Memory:
    """Results by their first task."""

    def __init__(self) -> None:
        self._results: dict[int, Result] = {}
        self.cost = 0

    def hold(self, result: Result) -> None:
        """One more."""
        self._results[result.first] = result
        self.cost += cost(result)

    def drop(self, group: list[Result]) -> None:
        """These are not needed here any more."""
        for result in group:
            del self._results[result.first]
            self.cost -= cost(result)

    def firsts(self) -> list[int]:
        """Of all results, ascending."""
        return sorted(self._results)

    def neighbours(self, first: int) -> list[Result]:
        """The result at `first`, if any, and, up to two groups in all, those that follow it without a gap."""
        found: list[Result] = []
        size = 0
        while size < GROUP and (result := self._results.get(first)):
            if found and (cost(result) > GROUP or not alike(found[0], result)):
                break  # a large one, joined to others, might pass what `ends` can count
            found.append(result)
            first += result.count
            size += cost(result)
        return found


class Hoard:
    """Memory and shelf as one."""

    def __init__(self, shelf: Shelf) -> None:
        self.shelf = shelf
        self.size = 0
        """Bytes of content that are kept, in memory and on disk."""
        self._memory = Memory()
        self._handed = 0
        """All that was given back out of memory is below this task."""

    def hold(self, result: Result) -> None:
        """Take it into memory."""
        self._memory.hold(result)
        self.size += weight(result)

    def settle(self) -> None:
        """If memory is full, put all of it on the shelf. Raises OSError; then the rest is still in memory."""
        if self._store():
            self.shelf.retire(self._handed)

    def _store(self) -> bool:
        if self._memory.cost <= MEMORY:
            return False
        for first in self._memory.firsts():
            if group := self._memory.neighbours(first):
                self.shelf.store(merged(group))
                self._memory.drop(group)
        return True

    def fetch(self, first: int) -> Result:
        """The result that begins with this task, perhaps with its neighbours; it is not kept any more. Raises OSError.

        Raises:
            StationError: none does.
        """
        group = self._memory.neighbours(first)
        result = merged(group) if group else self.shelf.take(first)
        if result is None:
            raise StationError(f"no result that begins with task {first} is kept")
        if group:
            self._memory.drop(group)
            self._handed = max(self._handed, result.first + result.count)
        self.size -= weight(result)
        return result

    def restore(self, ranges: Ranges) -> None:
        """Of what an earlier process left on the shelf keep these tasks, and drop the others. Raises OSError.

        Raises:
            UsageError: some of them are not there.
        """
        wanted = RangeSet(ranges)
        for extent, result in self.shelf.left():
            parts = wanted.inside(result.first, result.first + result.count)
            wanted.difference_update(parts)
            if parts and self.shelf.keep(extent, result, parts):
                self.size += weight(result)
            elif parts:
                for part in cut_result(result, parts):
                    self.hold(part)
                self._store()  # no log goes before all are read
        if wanted.tasks:
            raise UsageError(f"{self.shelf.where} lacks the result of task {wanted.ranges()[0][0] + 1}")
        self.shelf.forget(0)

    def clear(self) -> None:
        """Drop what is in memory, and let go of the shelf."""
        self._memory = Memory()
        self.shelf.close()
