"""Which tasks may have taken their worker along, and how sure that is.

A lost worker makes suspects of all that it held and had not finished; what took it along is among them. Who was lost
with one worker goes out again as before, with two as a single task, with more alone on a worker. Only losses while
alone convict. A worker that comes back takes its suspicion back. Nothing here sends or judges.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.words.ranges import RangeSet

SINGLE, ALONE = 2, 3
"""Losses from which on a task is sent singly; and alone on a worker."""


class Suspects:
    """Tasks by the workers that were lost with them."""

    def __init__(self) -> None:
        self._lost: dict[str, RangeSet] = {}
        self._alone: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._lost)

    def lost(self, worker: str, held: RangeSet, *, alone: bool) -> None:
        """This worker is gone, with these unfinished; `alone`: with the only one that it was given."""
        if held.tasks:
            self._lost[worker] = held
        for low, _ in held if alone and held.tasks == 1 else ():
            self._alone.setdefault(low, set()).add(worker)

    def returned(self, worker: str) -> None:
        """It was not gone after all."""
        self._lost.pop(worker, None)
        for workers in self._alone.values():
            workers.discard(worker)

    def forget(self, settled: Iterable[tuple[int, int]]) -> None:
        """These are settled."""
        if not self._lost:
            return
        known = RangeSet(settled)
        for held in self._lost.values():
            held.difference_update([part for low, high in held for part in known.inside(low, high)])
        self._lost = {worker: held for worker, held in self._lost.items() if held.tasks}
        self._alone = {task: workers for task, workers in self._alone.items() if task not in known}

    def level(self, task: int) -> int:
        """How many workers were lost with it."""
        return sum(task in held for held in self._lost.values())

    def stretch(self, low: int, high: int) -> int:
        """Up to where all from `low` on have the level of the first, at most to `high`."""
        for held in self._lost.values():
            for start, end in held.inside(low, high)[:1]:
                high = min(high, end if start == low else start)
        return high

    def convicted(self, limit: int) -> list[int]:
        """Those that took `limit` workers along while they ran alone."""
        return sorted(task for task, workers in self._alone.items() if len(workers) >= limit)
