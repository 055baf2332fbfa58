"""Tasks on which the ventilator itself has the last word: too large to be sent, or poison for workers.

Their final records are results like all others, said until the sink has settled them. They are never sent to a worker.
"""

from __future__ import annotations

from pipeline.ventilator.stock import RecordRange
from pipeline.words.messages import Result
from pipeline.words.parts import RecordFormat, TaskFailure
from pipeline.words.ranges import RangeSet
from pipeline.words.records import list_records
from pipeline.words.station import VENTILATOR, Port, Send
from pipeline.words.structs import replace

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
