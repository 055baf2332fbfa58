"""A slot for callables: the agent's side of one warm child, for one life of it.

The child has one batch to run and, while tasks are short, one behind it, so that it never waits for the agent. Each
has an arena of its own. This module starts and kills no process, and never waits for the child.
"""

from __future__ import annotations

import socket

from pipeline.executor import hearing
from pipeline.executor.arena import SharedBatch
from pipeline.executor.backlog import TaskSlice
from pipeline.executor.batch import Batch
from pipeline.executor.limits import TimeoutWatch
from pipeline.executor.plate import InFlightBatches
from pipeline.words.errands import TasksFinished
from pipeline.words.parts import FailureKind, RecordFormat, RunningTask
from pipeline.words.records import terminator
from pipeline.words.station import NEVER

LONG_TASK_SECONDS = 0.1
"""Seconds after which a batch is looked at: what has finished is told, and what stands behind a long task leaves."""
FAILURE_KINDS: dict[int, FailureKind] = {hearing.FAILED: "exception", hearing.TOO_LARGE: "size"}
"""What a child can say of a task."""
MAX_CALL_CHARS = 120
"""Characters of a call that are shown to who looks on."""
MAX_BATCHES = 2
"""Batches that a child may have at a time."""


class WarmSlot:
    """One slot. `ready` once its child has prepared; `doomed` when its death is ordered, or was noticed."""

    def __init__(self, number: int, call: str = "") -> None:
        self.number, self._call = number, call
        self.is_ready = False
        self.is_stopping = False
        self._observed_task = -1, 0.0
        self.init_error = ""
        """Why the child could not prepare."""
        self.in_flight = InFlightBatches()
        self.batches = self.in_flight.batches
        """The running one first."""
        self.timeout_watch = TimeoutWatch()
        self.shared_batches = [SharedBatch() for _ in range(MAX_BATCHES)]
        self.channel, self.child_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.channel.setblocking(False)

    def can_accept(self, max_batches: int) -> bool:
        """Whether it can take a batch, has fewer than `depth`, and none of them is known to take long."""
        fast = all(batch.last_running is None for batch in self.batches)
        return self.is_ready and not self.is_stopping and fast and len(self.batches) < max_batches

    def send_batch(self, records: TaskSlice, record_format: RecordFormat, now: float) -> bool:
        """Give the child a batch; False when it is dead already, and has not got it."""
        busy = [batch.shared_batch for batch in self.batches]
        which = next(which for which, arena in enumerate(self.shared_batches) if arena not in busy)
        batch = Batch(self.shared_batches[which], records, record_format, self._call, self.number + 1)
        mark = hearing.NO_TERMINATOR if record_format.block else terminator(record_format)[0]
        lot, shape = records.chunk_info, hearing.SHAPES.index(record_format.shape)
        sizes = which, records.count, len(records.body), mark
        word = hearing.BATCH_HEADER.pack(
            *sizes, records.first, lot.tries, self.number + 1, shape, record_format.collect_metrics
        )
        try:
            self.channel.send(word + lot.run.encode()[: hearing.MAX_RUN_NAME_BYTES])
        except OSError:
            self.is_stopping = True
            return False
        self.batches.append(batch)
        self.batches[0].start(now, now + LONG_TASK_SECONDS)
        return True

    def read_messages(self) -> bool:
        """Take in all that the child has said; False when it will say no more."""
        words, alive = hearing.receive_all(self.channel, hearing.MAX_MESSAGE_BYTES)
        for word in words:
            self._on_message(word)
        return alive

    def take_finished(self, now: float) -> list[TasksFinished]:
        """What has finished and is wanted, each run of neighbours once."""
        reached = [batch.finished_count() for batch in self.batches]
        self.read_messages()  # a failure is said before its task is published, so by now all of them are here
        return [
            done for batch, high in zip(self.batches, reached, strict=True) for done in batch.take_finished(high, now)
        ]

    def check_progress(self, now: float) -> tuple[list[TasksFinished], list[TaskSlice]]:
        """The first batch takes long: what has finished; and what stands behind a task that ran at the last look."""
        batch, running = self.batches[0], self.in_flight.running_task()
        dones = self.take_finished(now)
        rest = self.in_flight.reclaim_unstarted() if running == batch.last_running else []
        batch.last_running = running
        lonely = sum(batch.count - batch.reported_count for batch in self.batches) <= 1
        batch.check_at = NEVER if lonely else now + LONG_TASK_SECONDS / 2
        return dones, rest

    def on_death(self, wait_status: int) -> tuple[list[TasksFinished], list[TaskSlice]]:
        """The child died of `status`: the verdict on its task, and the records of those behind. Tell before."""
        verdicts = self.in_flight.fail_running(wait_status)
        if self.timeout_watch.stopped_at:
            verdicts += self.in_flight.timeout_result(
                self.timeout_watch.timeout_failure(wait_status), self.timeout_watch.timeout_seconds
            )
        return verdicts, self.in_flight.clear()

    def finish_batch(self, now: float) -> list[TaskSlice]:
        """The first batch is over; the records of what was not run of it after all. Tell before."""
        batch = self.batches.pop(0)
        batch.shared_batch.shrink()
        if self.batches:
            self.batches[0].start(now, now + LONG_TASK_SECONDS)
        return batch.split_off(batch.reported_count)

    def list_running(self, now: float) -> list[RunningTask]:
        """What its child does, if it does anything, since it was first seen so."""
        running = self.in_flight.running_task() if self.is_ready else -1
        if running < 0:
            return []
        if running != self._observed_task[0]:
            self._observed_task = running, now
        batch = next(batch for batch in self.batches if batch.first <= running < batch.first + batch.count)
        command = batch.describe_call(running - batch.first)[: 2 * MAX_CALL_CHARS].decode(errors="backslashreplace")[
            :MAX_CALL_CHARS
        ]
        return [RunningTask(running, self.number + 1, round(now - self._observed_task[1], 3), command)]

    def close(self) -> None:
        """Let go of the child."""
        self.channel.close()
        for arena in self.shared_batches:
            arena.close()

    def _on_message(self, message: bytes) -> None:
        """One saying of the child. It speaks of the first batch that it has not finished."""
        what, index, seconds = hearing.CHILD_MESSAGE.unpack_from(message)
        batch = next((batch for batch in self.batches if batch.seconds is None), None)
        if what == hearing.READY:
            self.is_ready = True
        elif what == hearing.INIT_FAILED:
            self.init_error = "\n".join(hearing.decode_texts(message)).rstrip()
        elif batch and what in FAILURE_KINDS:
            batch.failures[index] = FAILURE_KINDS[what], *hearing.decode_texts(message)
        elif batch:
            batch.seconds = seconds
            if len(message) > hearing.CHILD_MESSAGE.size:
                batch.resource_usage = hearing.RESOURCE_USAGE.unpack_from(message, hearing.CHILD_MESSAGE.size)
