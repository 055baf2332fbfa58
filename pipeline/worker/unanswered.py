"""Results that a worker has sent and the sink has not answered for yet.

A result is kept until an Ack says of all its tasks that they are settled or to be tried again, and sent again only when
the sink asks: the asking names the pulse that spoke of it, and one older than the last sending is ignored. Knows no
time-outs.
"""

from __future__ import annotations

from msgspec import Struct

from pipeline.words.messages import Result
from pipeline.words.parts import ResendRequest, RetryRange
from pipeline.words.ranges import RangeSet
from pipeline.words.station import Port, Send

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
