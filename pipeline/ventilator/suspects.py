"""Which tasks may have taken their worker along, and how sure that is.

A lost worker makes suspects of all that it held and had not finished; what took it along is among them. Who was lost
with one worker goes out again as before, with two as a single task, with more alone on a worker. Only losses while
alone convict. A worker that comes back takes its suspicion back. Nothing here sends or judges.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.words.ranges import RangeSet

SINGLE_TASK_LOSSES, ISOLATION_LOSSES = 2, 3
"""Losses from which on a task is sent singly; and alone on a worker."""


class CrashSuspects:
    """Tasks by the workers that were lost with them."""

    def __init__(self) -> None:
        self._tasks_by_lost_worker: dict[str, RangeSet] = {}
        self._workers_lost_alone: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._tasks_by_lost_worker)

    def on_worker_lost(self, worker: str, unfinished: RangeSet, *, is_isolated: bool) -> None:
        """This worker is gone, with these unfinished; `alone`: with the only one that it was given."""
        if unfinished.task_count:
            self._tasks_by_lost_worker[worker] = unfinished
        for low, _ in unfinished if is_isolated and unfinished.task_count == 1 else ():
            self._workers_lost_alone.setdefault(low, set()).add(worker)

    def on_worker_returned(self, worker: str) -> None:
        """It was not gone after all."""
        self._tasks_by_lost_worker.pop(worker, None)
        for workers in self._workers_lost_alone.values():
            workers.discard(worker)

    def forget(self, settled: Iterable[tuple[int, int]]) -> None:
        """These are settled."""
        if not self._tasks_by_lost_worker:
            return
        known = RangeSet(settled)
        for held in self._tasks_by_lost_worker.values():
            held.difference_update([part for low, high in held for part in known.intersection(low, high)])
        self._tasks_by_lost_worker = {
            worker: held for worker, held in self._tasks_by_lost_worker.items() if held.task_count
        }
        self._workers_lost_alone = {
            task: workers for task, workers in self._workers_lost_alone.items() if task not in known
        }

    def loss_count(self, task: int) -> int:
        """How many workers were lost with it."""
        return sum(task in held for held in self._tasks_by_lost_worker.values())

    def same_loss_count_until(self, low: int, high: int) -> int:
        """Up to where all from `low` on have the level of the first, at most to `high`."""
        for held in self._tasks_by_lost_worker.values():
            for start, end in held.intersection(low, high)[:1]:
                high = min(high, end if start == low else start)
        return high

    def poison_tasks(self, crash_limit: int) -> list[int]:
        """Those that took `limit` workers along while they ran alone."""
        return sorted(task for task, workers in self._workers_lost_alone.items() if len(workers) >= crash_limit)
