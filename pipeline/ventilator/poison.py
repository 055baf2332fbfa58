"""Tasks that may crash workers, and final failures that the ventilator decides.

Theory of operation: a lost worker makes suspects of all tasks that it held and had not finished, since one of them may
have crashed it.
  - A task that was lost with one worker is sent as before, with two workers as a single task (SINGLE_TASK_LOSSES), with
    more alone on a worker (ISOLATION_LOSSES).
  - Only losses in isolation count against a task: `crash_limit` of them make it fail as a poison task.
  - A worker that returns withdraws the suspicion that its loss has caused.
  - Results of tasks that the ventilator fails itself are sent until the sink has settled them.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.model.messages import FailureKind, RecordFormat, Result, TaskFailure
from pipeline.model.ranges import RangeSet
from pipeline.model.records import list_records
from pipeline.model.state_machine import VENTILATOR, Port, Send
from pipeline.model.structs import replace
from pipeline.ventilator.task_store import RecordRange

SINGLE_TASK_LOSSES = 2
"""Lost workers from which on a task is sent singly."""
ISOLATION_LOSSES = 3
"""Lost workers from which on a task is sent alone to a worker."""


class CrashSuspects:
    """Unfinished tasks of each lost worker."""

    def __init__(self) -> None:
        self._tasks_by_lost_worker: dict[str, RangeSet] = {}
        self._workers_lost_alone: dict[int, set[str]] = {}

    def __len__(self) -> int:
        return len(self._tasks_by_lost_worker)

    def on_worker_lost(self, worker: str, unfinished: RangeSet, *, is_isolated: bool) -> None:
        """Suspect the unfinished tasks of a lost worker, which was given a single one if `is_isolated`."""
        if unfinished.task_count:
            self._tasks_by_lost_worker[worker] = unfinished
        for low, _ in unfinished if is_isolated and unfinished.task_count == 1 else ():
            self._workers_lost_alone.setdefault(low, set()).add(worker)

    def on_worker_returned(self, worker: str) -> None:
        """Withdraw the suspicion that was caused by the loss of this worker."""
        self._tasks_by_lost_worker.pop(worker, None)
        for workers in self._workers_lost_alone.values():
            workers.discard(worker)

    def forget(self, settled: Iterable[tuple[int, int]]) -> None:
        """Remove settled tasks."""
        if not self._tasks_by_lost_worker:
            return
        known = RangeSet(settled)
        for tasks in self._tasks_by_lost_worker.values():
            tasks.difference_update([part for low, high in tasks for part in known.intersection(low, high)])
        self._tasks_by_lost_worker = {
            worker: tasks for worker, tasks in self._tasks_by_lost_worker.items() if tasks.task_count
        }
        self._workers_lost_alone = {
            task: workers for task, workers in self._workers_lost_alone.items() if task not in known
        }

    def loss_count(self, task: int) -> int:
        """Return how many workers were lost with this task."""
        return sum(task in tasks for tasks in self._tasks_by_lost_worker.values())

    def same_loss_count_until(self, low: int, high: int) -> int:
        """Return the end of the tasks from `low` on, at most `high`, that have the same loss count."""
        for tasks in self._tasks_by_lost_worker.values():
            for start, end in tasks.intersection(low, high)[:1]:
                high = min(high, end if start == low else start)
        return high

    def poison_tasks(self, crash_limit: int) -> list[int]:
        """Return the tasks that have crashed `crash_limit` workers while running alone."""
        return sorted(task for task, workers in self._workers_lost_alone.items() if len(workers) >= crash_limit)


EMPTY_OUTPUT_ENDS = bytes(4)
"""Output ends of one task without output."""


class LocalFailures:
    """Results of tasks that the ventilator has failed itself."""

    def __init__(self) -> None:
        self._results: dict[int, Result] = {}
        self._unsent: list[int] = []

    def fail_too_large(self, span: RecordRange, size: int, record_format: RecordFormat) -> None:
        """Fail the one task of this range because of its size."""
        self._fail(span, "size", f"task size {size} bytes exceeds --max-task-bytes", record_format)

    def fail_poisoned(self, span: RecordRange, lost_workers: int, record_format: RecordFormat) -> None:
        """Fail the one task of this range because it has crashed workers."""
        workers = "1 worker" if lost_workers == 1 else f"{lost_workers} workers"
        self._fail(span, "poison", f"crashed {workers} while running alone (poison task)", record_format)

    def _fail(self, span: RecordRange, kind: FailureKind, text: str, record_format: RecordFormat) -> None:
        record = span.body if record_format.block else span.body[:-1]
        self._results[span.first] = Result(
            run="",
            worker=VENTILATOR,
            first=span.first,
            count=1,
            output=b"",
            output_ends=EMPTY_OUTPUT_ENDS,
            stderr=b"",
            failures=(TaskFailure(span.first, kind, 0, text, "", len(record)),),
            attempt=span.attempt,
            failed_records=record,
            shape=record_format.shape,
        )
        self._unsent.append(span.first)

    def settle(self, settled: RangeSet) -> None:
        """Remove settled tasks."""
        if self._results:
            self._results = {task: result for task, result in self._results.items() if task not in settled}

    def take_unsent(self, run: str) -> list[Send]:
        """Send the results that were not sent yet."""
        unsent, self._unsent = self._unsent, []
        return [self._send(task, run) for task in unsent if task in self._results]

    def resend(self, run: str) -> list[Send]:
        """Send all unsettled results again."""
        return [self._send(task, run) for task in self._results]

    def _send(self, task: int, run: str) -> Send:
        return Send(Port.RESULTS, replace(self._results[task], run=run))


def find_too_large(span: RecordRange, max_bytes: int, record_format: RecordFormat) -> list[tuple[int, int]]:
    """Return task and size of each record above `max_bytes`."""
    if len(span.body) <= max_bytes:
        return []
    sizes = enumerate(map(len, list_records(span.body, record_format)), start=span.first)
    return [(task, size) for task, size in sizes if size > max_bytes]
