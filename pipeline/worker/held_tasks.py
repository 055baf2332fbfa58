"""Unfinished tasks and unacknowledged results.

Results that a worker has sent and the sink has not answered for yet.

A result is kept until an Ack says of all its tasks that they are settled or to be tried again, and sent again only when
the sink asks: the asking names the pulse that spoke of it, and one older than the last sending is ignored. Knows no
time-outs.

What a worker holds: tasks that are not finished, and results that are not answered.

The same task again runs nothing while it is held. When more is held than can run and nothing ends for a while, the
unstarted must not wait here.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.model.events import ReleaseQueued, TasksFinished
from pipeline.model.messages import AttemptRange, Chunk, Ranges, RecordFormat, ResendRequest, Result, RetryRange
from pipeline.model.ranges import AttemptCounts, RangeSet
from pipeline.model.records import split
from pipeline.model.state_machine import NEVER, Port, Send
from pipeline.model.structs import replace

RESULT_OVERHEAD_BYTES = 2048
"""Bytes that a result counts beside its contents: so many small ones cost memory, too, and room in every pulse."""


class _UnackedResult(Struct, gc=False):
    result: Result
    heartbeat_number: int
    sent_time: float

    @property
    def end(self) -> int:
        return self.result.first + self.result.count

    @property
    def size(self) -> int:
        return (
            RESULT_OVERHEAD_BYTES + len(self.result.output) + len(self.result.stderr) + len(self.result.failed_records)
        )


class UnackedResults:
    """Results by their first task and its tries."""

    def __init__(self) -> None:
        self._results: dict[tuple[int, int], _UnackedResult] = {}
        self.tasks = RangeSet()
        """All tasks of all results kept."""
        self.size = 0

    def add(self, result: Result, heartbeat_number: int, now: float) -> None:
        """It has just been sent, after pulse number `pulse`."""
        kept = self._results[result.first, result.attempt] = _UnackedResult(result, heartbeat_number, now)
        self.tasks.add(result.first, kept.end)
        self.size += kept.size

    def settle(self, settled: RangeSet, retries: tuple[RetryRange, ...] = ()) -> None:
        """Forget what is answered in whole."""
        answers: dict[int, RangeSet] = {}
        for tries in {tries for _, tries in self._results} if retries else ():
            again = ((retry.low, retry.high) for retry in retries if retry.attempt > tries)
            answers[tries] = RangeSet((*settled, *again))
        answered = [
            key
            for key, kept in self._results.items()
            if answers.get(key[1], settled).covers(kept.result.first, kept.end)
        ]
        for key in answered:
            kept = self._results.pop(key)
            self.tasks.remove(kept.result.first, kept.end)
            self.size -= kept.size
        if answered and any(tries for _, tries in (*answered, *self._results)):  # a task may be in two tries at once
            self.tasks.update((kept.result.first, kept.end) for kept in self._results.values())

    def resend(self, request: ResendRequest, heartbeat_number: int, now: float) -> list[Send]:
        """What to send again, for an asking that is newer than the last sending."""
        lost = RangeSet(request.ranges)
        sends = []
        for kept in self._results.values():
            if kept.heartbeat_number < request.heartbeat_number and lost.intersection(kept.result.first, kept.end):
                kept.heartbeat_number, kept.sent_time = heartbeat_number, now
                sends.append(Send(Port.RESULTS, kept.result))
        return sends

    def oldest_sent_time(self) -> float | None:
        """When the longest unanswered one was sent."""
        return min((kept.sent_time for kept in self._results.values()), default=None)

    def clear(self) -> None:
        """Forget all."""
        self._results.clear()
        self.tasks = RangeSet()
        self.size = 0

    def __len__(self) -> int:
        return len(self._results)


STALL_SECONDS = 0.1
"""Seconds without a finished task after which the unstarted are given back."""


class HeldTasks:
    """A worker's hands, with `slots` tasks at a time in them."""

    def __init__(self, slots: int, now: float) -> None:
        self.unfinished = RangeSet()
        self.unacked_results = UnackedResults()
        self.attempts = AttemptCounts()
        """Of those that it holds for another try."""
        self.is_stalled = False
        """Nothing has ended since the unstarted were given back."""
        self._slots, self._last_progress_time = slots, now

    @property
    def is_empty(self) -> bool:
        """Neither tasks nor results."""
        return not self.unfinished.task_count and not len(self.unacked_results)

    @property
    def idle_slots(self) -> int:
        """Slots with nothing to do."""
        return max(0, self._slots - self.unfinished.task_count)

    @property
    def deadline(self) -> float:
        """When it will have been stuck for long enough, if nothing ends until then."""
        return (
            self._last_progress_time + STALL_SECONDS
            if self.unfinished.task_count > self._slots and not self.is_stalled
            else NEVER
        )

    def tick(self, now: float) -> list[Send]:
        """When stuck, ask for the unstarted back."""
        if now < self.deadline:
            return []
        self.is_stalled = True
        return [Send(Port.EXECUTOR, ReleaseQueued())]

    def drop_outdated(self, chunk: Chunk) -> Ranges:
        """What is unfinished of an earlier try than this chunk's: nobody wants it any more."""
        end = chunk.first + chunk.count
        older = RangeSet(self.attempts.find_below(chunk.first, end, chunk.attempt)) if chunk.attempt else RangeSet()
        stale = tuple(part for low, high in older for part in self.unfinished.intersection(low, high))
        self.unfinished.difference_update(stale)
        return stale

    def accept(self, chunk: Chunk, record_format: RecordFormat, now: float) -> list[Chunk]:
        """The parts of a chunk that are not held already in this try; they are from now on. Ask for `stale` before."""
        if not self.unfinished.task_count:
            self._last_progress_time = now
        end = chunk.first + chunk.count
        have = RangeSet(
            (
                *self.unfinished.intersection(chunk.first, end),
                *self.unacked_results.tasks.intersection(chunk.first, end),
            )
        )
        if chunk.attempt:
            have.difference_update(self.attempts.find_below(chunk.first, end, chunk.attempt))
        new = have.gaps(chunk.first, end)
        self.unfinished.update(new)
        for low, high in new:
            self.attempts.set(low, high, chunk.attempt)
        if not have.task_count:
            return [chunk]
        parts = []
        for low, high in new:
            _, rest = split(chunk.body, low - chunk.first, record_format)
            body, _ = split(rest, high - low, record_format)
            parts.append(replace(chunk, first=low, count=high - low, body=body))
        return parts

    def finish(self, tasks_finished: TasksFinished, now: float) -> bool:
        """These tasks have ended; False if they were not wanted any more."""
        end = tasks_finished.result.first + tasks_finished.result.count
        if not self.unfinished.covers(tasks_finished.result.first, end):
            return False
        self.unfinished.remove(tasks_finished.result.first, end)
        self._last_progress_time, self.is_stalled = now, False
        return True

    def release(self, ranges: Ranges) -> None:
        """These are not held any more."""
        self.unfinished.difference_update(ranges)

    def settle(self, settled: RangeSet, retries: tuple[RetryRange, ...]) -> Ranges:
        """Forget what is answered, and what others have settled: that need not run on. The latter is returned."""
        self.unacked_results.settle(settled, retries)
        elsewhere = self.settled_elsewhere(settled)
        self.unfinished.difference_update(elsewhere)
        self.attempts.forget(settled)
        return elsewhere

    def settled_elsewhere(self, settled: RangeSet) -> Ranges:
        """What is still to be run here and settled already."""
        return tuple(part for low, high in self.unfinished for part in settled.intersection(low, high))

    def attempt_ranges(self) -> tuple[AttemptRange, ...]:
        """All that it holds for another try."""
        if not len(self.attempts):
            return ()
        return self.attempts.select_failed(RangeSet((*self.unfinished, *self.unacked_results.tasks)))

    def clear(self) -> None:
        """Hold nothing."""
        self.unfinished = RangeSet()
        self.unacked_results.clear()
        self.attempts.clear()
