"""How much a worker asks for: enough that no slot waits, no more than would hold back others.

Credit is said as the highest lane sequence that may be sent, so a lost or doubled pulse changes nothing. Tasks longer
than LONG are bound late, one to an idle slot; shorter ones are asked ahead, by what covers one way to the desk and
back.
"""

from __future__ import annotations

from math import ceil

LONG_TASK_SECONDS = 0.020
"""Seconds a task; longer ones are never asked ahead."""

MAX_PREFETCH_CHUNKS = 256
"""Chunks asked ahead at most, however short."""

MAX_ROUND_TRIP_SECONDS = 0.020
"""Seconds. A slow input looks like a slow lane, and must not make a worker hoard."""


class CreditEstimator:
    """What one worker may be sent, from what it has measured."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.seconds_per_task = 0.0
        """Seconds a task, a moving mean; 0 until one has finished."""
        self._tasks_per_chunk = 1.0
        self._round_trip_seconds = 0.002
        self._pending_request: tuple[int, float] | None = None

    def on_tasks_finished(self, tasks: int, seconds: float) -> None:
        """`tasks` ended after `seconds` of run time in all."""
        latest = max(seconds, 1e-7) / tasks
        self.seconds_per_task = (
            latest
            if not self.seconds_per_task
            else self.seconds_per_task + (latest - self.seconds_per_task) * min(0.5, tasks * 0.1)
        )

    def on_chunk(self, sequence: int, tasks: int, now: float) -> None:
        """A chunk arrived."""
        self._tasks_per_chunk += (tasks - self._tasks_per_chunk) / 4
        if self._pending_request and sequence >= self._pending_request[0]:
            measured = min(now - self._pending_request[1], MAX_ROUND_TRIP_SECONDS)
            self._round_trip_seconds += (measured - self._round_trip_seconds) / 4
            self._pending_request = None

    def on_heartbeat_sent(self, credit_limit: int, now: float) -> None:
        """A pulse left that allows sequences up to `allowed`."""
        if self._pending_request is None:
            self._pending_request = (credit_limit, now)

    def chunks_to_request(self, unfinished: int) -> int:
        """How many more chunks to ask for, with so many tasks unfinished."""
        idle = max(0, self.slots - unfinished)
        if not self.seconds_per_task or self.seconds_per_task > LONG_TASK_SECONDS:
            return idle
        chunks = ceil(unfinished / max(1.0, self._tasks_per_chunk))
        return max(idle, self.slots + self.prefetch_chunks() - chunks)

    def prefetch_chunks(self) -> int:
        """Chunks that cover one round trip."""
        one = max(self.seconds_per_task * self._tasks_per_chunk / self.slots, 20e-6)
        return min(MAX_PREFETCH_CHUNKS, 1 + ceil(self._round_trip_seconds / one))
