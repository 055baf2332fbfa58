"""Unfinished tasks and unacknowledged results of a worker.

Invariants:
  - A task that is held does not run again, unless a later attempt of it arrives.
  - A result is kept until an Ack settles or retries all of its tasks. It is sent again only when the sink requests it,
    and a request that is based on a heartbeat older than the last sending is ignored. There are no timeouts.
  - The content of a large result is sent as far as the sink accepts it; a request starts again after what is stored.
  - When more tasks are held than can run and none finishes for STALL_SECONDS, those that have not started are released.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.model.events import ReleaseQueued, SendContent, TasksFinished
from pipeline.model.messages import (
    AttemptRange,
    Chunk,
    Ranges,
    RecordFormat,
    ResendRequest,
    Result,
    RetryRange,
    Transfer,
)
from pipeline.model.option_values import HaltEvent, count_halt_events
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.records import split
from pipeline.model.results import LargeResult, content_bytes
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.model.structs import replace

STALL_SECONDS = 0.1
"""Seconds without a finished task after which queued tasks are released."""


class HeldTasks:
    """Tasks and results of one worker, which runs `slots` tasks at a time."""

    def __init__(self, slots: int, now: float) -> None:
        self.unfinished = RangeSet()
        self.unacked_results = UnackedResults()
        self.attempts = AttemptCounts()
        """Attempts of the held tasks that have failed before."""
        self.is_stalled = False
        """Whether queued tasks were released and none has finished since."""
        self._slots, self._last_progress_time, self._is_paused = slots, now, False

    @property
    def is_empty(self) -> bool:
        """Whether neither tasks nor results are held."""
        return not self.unfinished.task_count and not len(self.unacked_results)

    @property
    def idle_slots(self) -> int:
        """Number of slots without a task."""
        return max(0, self._slots - self.unfinished.task_count)

    @property
    def deadline(self) -> float:
        """Time at which queued tasks are released, unless a task finishes before."""
        can_stall = self.unfinished.task_count > self._slots and not self.is_stalled and not self._is_paused
        return self._last_progress_time + STALL_SECONDS if can_stall else NEVER

    def pause(self, now: float, *, is_paused: bool) -> None:
        """Keep queued tasks, which start in their order when the sink has said that the run goes on; or end that."""
        self._is_paused, self._last_progress_time = is_paused, now

    def tick(self, now: float) -> list[Send]:
        """Release queued tasks after a stall, so that other workers can run them."""
        if now < self.deadline:
            return []
        self.is_stalled = True
        return [Send(Port.EXECUTOR, ReleaseQueued())]

    def drop_outdated(self, chunk: Chunk) -> Ranges:
        """Remove and return unfinished tasks whose attempt is older than the chunk's."""
        end = chunk.first + chunk.count
        older = self.attempts.find_below(chunk.first, end, chunk.attempt) if chunk.attempt else ()
        outdated = tuple(part for low, high in RangeSet(older) for part in self.unfinished.intersection(low, high))
        self.unfinished.difference_update(outdated)
        return outdated

    def accept(self, chunk: Chunk, record_format: RecordFormat, now: float) -> list[Chunk]:
        """Hold the tasks of a chunk, and return the parts that were not held already. Call `drop_outdated` before."""
        if not self.unfinished.task_count:
            self._last_progress_time = now
        end = chunk.first + chunk.count
        known = RangeSet(
            (
                *self.unfinished.intersection(chunk.first, end),
                *self.unacked_results.tasks.intersection(chunk.first, end),
            )
        )
        if chunk.attempt:
            known.difference_update(self.attempts.find_below(chunk.first, end, chunk.attempt))
        new = known.gaps(chunk.first, end)
        self.unfinished.update(new)
        for low, high in new:
            self.attempts.set(low, high, chunk.attempt)
        if not known.task_count:
            return [chunk]
        parts = []
        for low, high in new:
            _, rest = split(chunk.body, low - chunk.first, record_format)
            body, _ = split(rest, high - low, record_format)
            parts.append(replace(chunk, first=low, count=high - low, body=body))
        return parts

    def finish(self, tasks_finished: TasksFinished, now: float) -> bool:
        """Remove finished tasks; return False if they are not held any more."""
        first, end = tasks_finished.result.first, tasks_finished.result.first + tasks_finished.result.count
        if not self.unfinished.covers(first, end):
            return False
        self.unfinished.remove(first, end)
        self._last_progress_time, self.is_stalled = now, False
        return True

    def release(self, ranges: Ranges) -> None:
        """Remove tasks that the executor has not started."""
        self.unfinished.difference_update(ranges)

    def settle(self, settled: RangeSet, retries: tuple[RetryRange, ...]) -> Ranges:
        """Remove acknowledged results; remove and return unfinished tasks that another worker has finished."""
        self.unacked_results.settle(settled, retries)
        elsewhere = self.settled_elsewhere(settled)
        self.unfinished.difference_update(elsewhere)
        self.attempts.forget(settled)
        return elsewhere

    def settled_elsewhere(self, settled: RangeSet) -> Ranges:
        """Return the unfinished tasks that are settled already."""
        return tuple(part for low, high in self.unfinished for part in settled.intersection(low, high))

    def attempt_ranges(self) -> tuple[AttemptRange, ...]:
        """Return all held tasks that have failed before, with their attempts."""
        if not len(self.attempts):
            return ()
        return self.attempts.select_failed(RangeSet((*self.unfinished, *self.unacked_results.tasks)))

    def clear(self) -> None:
        """Remove all tasks and results."""
        self.unfinished = RangeSet()
        self.unacked_results.clear()
        self.attempts.clear()
        self._is_paused = False


RESULT_OVERHEAD_BYTES = 2048
"""Added to the size of each result, since many small ones also cost memory and space in each heartbeat."""


class UnackedResults:
    """Unacknowledged results by their first task and its attempt."""

    def __init__(self) -> None:
        self._results: dict[tuple[int, int], _UnackedResult] = {}
        self.tasks = RangeSet()
        """All tasks of all results."""
        self.size = 0
        self._task_count = self._failed_count = 0

    def __len__(self) -> int:
        return len(self._results)

    def add(self, result: Result, heartbeat_number: int, now: float) -> None:
        """Keep a result that was just sent, after the heartbeat of this number."""
        kept = self._results[result.first, result.attempt] = _UnackedResult(result, heartbeat_number, now)
        self.tasks.add(result.first, kept.end)
        self.size += kept.size
        self._task_count += result.count
        self._failed_count += len(result.failures)

    def settle(self, settled: RangeSet, retries: tuple[RetryRange, ...] = ()) -> None:
        """Remove the results of which all tasks are settled, or retried with a later attempt."""
        answers: dict[int, RangeSet] = {}
        for attempt in {attempt for _, attempt in self._results} if retries else ():
            retried = ((retry.low, retry.high) for retry in retries if retry.attempt > attempt)
            answers[attempt] = RangeSet((*settled, *retried))
        answered = [
            key
            for key, kept in self._results.items()
            if answers.get(key[1], settled).covers(kept.result.first, kept.end)
        ]
        for key in answered:
            kept = self._results.pop(key)
            self.tasks.remove(kept.result.first, kept.end)
            self.size -= kept.size
            self._task_count -= kept.result.count
            self._failed_count -= len(kept.result.failures)
        # Results of two attempts may contain the same task, which must stay while one of them is kept.
        if answered and any(attempt for _, attempt in (*answered, *self._results)):
            self.tasks.update((kept.result.first, kept.end) for kept in self._results.values())

    def resend(self, request: ResendRequest, heartbeat_number: int, now: float) -> list[Send]:
        """Send the requested results again, unless they were sent after the heartbeat of the request."""
        missing = RangeSet(request.ranges)
        sends = []
        for kept in self._results.values():
            if kept.heartbeat_number < request.heartbeat_number and missing.intersection(kept.result.first, kept.end):
                kept.heartbeat_number, kept.sent_time, kept.content_end = heartbeat_number, now, 0
                sends.append(Send(Port.RESULTS, kept.result))
        return sends

    def send_content(self, transfer: Transfer, heartbeat_number: int, now: float) -> list[Send]:
        """Send what the sink accepts of a large result's content. Call `resend` of the same Ack before."""
        kept = self._results.get((transfer.task, transfer.attempt))
        if kept is None or not isinstance(kept.result, LargeResult):
            return []
        start = max(transfer.size, kept.content_end)
        if start >= transfer.limit:
            return []
        kept.heartbeat_number, kept.sent_time, kept.content_end = heartbeat_number, now, transfer.limit
        return [Send(Port.RESULTS, SendContent(kept.result, start, transfer.limit))]

    def oldest_sent_time(self) -> float | None:
        """Return when the result that has waited longest was sent."""
        return min((kept.sent_time for kept in self._results.values()), default=None)

    def count_events(self, halt_event: HaltEvent) -> int:
        """Return how many of the tasks ended with this event."""
        return count_halt_events(halt_event, self._task_count, self._failed_count)

    def clear(self) -> None:
        """Remove all results."""
        self._results.clear()
        self.tasks = RangeSet()
        self.size = self._task_count = self._failed_count = 0


class _UnackedResult(Struct, gc=False):
    result: Result
    heartbeat_number: int
    sent_time: float
    content_end: int = 0
    """The content of a large result was sent up to here, since it was last sent itself."""

    @property
    def end(self) -> int:
        return self.result.first + self.result.count

    @property
    def size(self) -> int:
        result = self.result
        return RESULT_OVERHEAD_BYTES + content_bytes(result) + len(result.failed_records)
