"""Tracks tasks that may crash workers; final failures decided by the ventilator.

Which tasks may have taken their worker along, and how sure that is.

A lost worker makes suspects of all that it held and had not finished; what took it along is among them. Who was lost
with one worker goes out again as before, with two as a single task, with more alone on a worker. Only losses while
alone convict. A worker that comes back takes its suspicion back. Nothing here sends or judges.

Tasks on which the ventilator itself has the last word: too large to be sent, or poison for workers.

Their final records are results like all others, said until the sink has settled them. They are never sent to a worker.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.model.messages import RecordFormat, Result, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.records import list_records
from pipeline.model.state_machine import VENTILATOR, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.task_store import RecordRange

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


EMPTY_OUTPUT_ENDS = bytes(4)
"""The ends of a task that wrote nothing."""


class LocalFailures:
    """The records of the judged tasks, by number."""

    def __init__(self) -> None:
        self._results: dict[int, Result] = {}
        self._unsent: list[int] = []

    def __contains__(self, task: int) -> bool:
        return task in self._results

    def fail_too_large(self, span: RecordRange, size: int, record_format: RecordFormat) -> None:
        """The one task of this span is too large to be sent."""
        text = f"a task of {size} bytes is more than --max-task-bytes"
        self._add(span, TaskFailure(span.first, "size", 0, text, "", 0), record_format)

    def fail_poisoned(self, span: RecordRange, lost_workers: int, record_format: RecordFormat) -> None:
        """The one task of this span has taken so many workers along."""
        text = f"{lost_workers} worker{'s were' if lost_workers != 1 else ' was'} lost while it ran there alone"
        self._add(span, TaskFailure(span.first, "poison", 0, text, "", 0), record_format)

    def _add(self, span: RecordRange, failure: TaskFailure, record_format: RecordFormat) -> None:
        record = span.body if record_format.block else span.body[:-1]
        failure = replace(failure, record_size=len(record))
        self._results[span.first] = Result(
            "",
            VENTILATOR,
            span.first,
            1,
            b"",
            EMPTY_OUTPUT_ENDS,
            b"",
            (failure,),
            span.attempt,
            record,
            b"",
            record_format.shape,
        )
        self._unsent.append(span.first)

    def settle(self, settled: RangeSet) -> None:
        """Forget those that the sink has settled."""
        if self._results:
            self._results = {task: result for task, result in self._results.items() if task not in settled}

    def take_unsent(self, run: str) -> list[Send]:
        """What has not been said yet."""
        unsaid, self._unsent = self._unsent, []
        return [self._send(task, run) for task in unsaid if task in self._results]

    def resend(self, run: str) -> list[Send]:
        """All of it, again."""
        return [self._send(task, run) for task in self._results]

    def _send(self, task: int, run: str) -> Send:
        return Send(Port.RESULTS, replace(self._results[task], run=run))


def find_too_large(span: RecordRange, max_bytes: int, record_format: RecordFormat) -> list[tuple[int, int]]:
    """Which of these tasks have more than `most` bytes, as (task, size)."""
    if len(span.body) <= max_bytes:
        return []
    sizes = enumerate(map(len, list_records(span.body, record_format)), start=span.first)
    return [(task, size) for task, size in sizes if size > max_bytes]
