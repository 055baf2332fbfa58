"""Pool of pre-forked processes: one slot, start, replace, stop.

A slot for callables: the agent's side of one warm child, for one life of it.

The child has one batch to run and, while tasks are short, one behind it, so that it never waits for the agent. Each
has an arena of its own. This module starts and kills no process, and never waits for the child.

The crew: the warm children of one executor, one a slot, and another in the place of each that dies.

It hears what children and nursery say, and knows when it is hopeless: the function is none, preparing fails, or the
nursery is gone. It knows nothing of the tasks that are given to the slots, and never waits but to close.
"""

from __future__ import annotations

import select
import signal
import socket
from time import monotonic

from pipeline.executor import child_channel
from pipeline.executor.batch import Batch, InFlightBatches, failure_from_status
from pipeline.executor.child_channel import SharedBatch
from pipeline.executor.fork_server import EXITED, LOAD_FAILED, ForkServer
from pipeline.executor.limits import MAX_OUTPUT_BYTES, TimeoutWatch
from pipeline.executor.task_queue import TaskSlice
from pipeline.model.errors import INCOMPLETE, USAGE
from pipeline.model.events import CallableLoading, ExecutorFailed, TasksFinished
from pipeline.model.messages import FailureKind, RecordFormat, RunningTask
from pipeline.model.records import terminator
from pipeline.model.state_machine import NEVER, NOTIFY_AFTER_SECONDS

LONG_TASK_SECONDS = 0.1
"""Seconds after which a batch is looked at: what has finished is told, and what stands behind a long task leaves."""
FAILURE_KINDS: dict[int, FailureKind] = {child_channel.FAILED: "exception", child_channel.TOO_LARGE: "size"}
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
        mark = child_channel.NO_TERMINATOR if record_format.block else terminator(record_format)[0]
        lot, shape = records.chunk_info, child_channel.SHAPES.index(record_format.shape)
        sizes = which, records.count, len(records.body), mark
        word = child_channel.BATCH_HEADER.pack(
            *sizes, records.first, lot.attempt, self.number + 1, shape, record_format.collect_metrics
        )
        try:
            self.channel.send(word + lot.run.encode()[: child_channel.MAX_RUN_NAME_BYTES])
        except OSError:
            self.is_stopping = True
            return False
        self.batches.append(batch)
        self.batches[0].start(now, now + LONG_TASK_SECONDS)
        return True

    def read_messages(self) -> bool:
        """Take in all that the child has said; False when it will say no more."""
        words, alive = child_channel.receive_all(self.channel, child_channel.MAX_MESSAGE_BYTES)
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
        what, index, seconds = child_channel.CHILD_MESSAGE.unpack_from(message)
        batch = next((batch for batch in self.batches if batch.seconds is None), None)
        if what == child_channel.READY:
            self.is_ready = True
        elif what == child_channel.INIT_FAILED:
            self.init_error = "\n".join(child_channel.decode_texts(message)).rstrip()
        elif batch and what in FAILURE_KINDS:
            batch.failures[index] = FAILURE_KINDS[what], *child_channel.decode_texts(message)
        elif batch:
            batch.seconds = seconds
            if len(message) > child_channel.CHILD_MESSAGE.size:
                batch.resource_usage = child_channel.RESOURCE_USAGE.unpack_from(
                    message, child_channel.CHILD_MESSAGE.size
                )


MAX_START_FAILURES = 3
"""Children in a row that may die before they are ready."""


class WarmPool:
    """`slots` by their numbers; `broken` once no task can run here, and why."""

    def __init__(self, call: str, init: str, slots: int, max_result_bytes: int = MAX_OUTPUT_BYTES) -> None:
        """Fork the nursery; `most` bytes a result may have. The process must have no ZeroMQ context, nor threads."""
        self.failure: ExecutorFailed | None = None
        self._start_failures = 0
        self._call, self.deadline = call, monotonic() + NOTIFY_AFTER_SECONDS
        """When to say that nobody is ready yet; NEVER once somebody was, or it is said."""
        self._fork_server = ForkServer(call, init, max_result_bytes)
        self._poll = select.epoll()
        self._poll.register(self._fork_server, select.EPOLLIN)
        self.slots = [self._start_child(number) for number in range(slots)]

    @property
    def is_closed(self) -> bool:
        """Whether all are gone."""
        return self._poll.closed

    def fileno(self) -> int:
        """What becomes readable when anybody has said something."""
        return self._poll.fileno()

    def poll(self) -> list[tuple[WarmSlot, int]] | None:
        """Take in what has been said; the slots whose children have died, with the wait status. None: silence."""
        ready = {descriptor for descriptor, _ in self._poll.poll(0)}
        if not ready:
            return None
        for slot in self.slots:
            if slot.channel.fileno() in ready and not slot.read_messages():
                self._poll.unregister(slot.channel)
            if slot.init_error:
                self._fail(f"--init failed: {slot.init_error}", USAGE)
        return self._read_deaths() if self._fork_server.fileno() in ready else []

    def take_loading_notice(self, now: float) -> list[CallableLoading]:
        """A word for the person if all of them take long to get ready; once."""
        if any(slot.is_ready for slot in self.slots) or self.failure:
            self.deadline = NEVER
        if now < self.deadline:
            return []
        self.deadline = NEVER
        return [CallableLoading(self._call)]

    def replace_child(self, slot: WarmSlot, wait_status: int) -> None:
        """The slot's child has died of `status`, and its tasks are settled: put another in its place."""
        slot.read_messages()
        if slot.init_error:
            self._fail(f"--init failed: {slot.init_error}", USAGE)
        self._start_failures = 0 if slot.is_ready else self._start_failures + 1
        if self._start_failures >= MAX_START_FAILURES:
            how = failure_from_status(0, wait_status).text
            self._fail(f"warm children end before their first task ({how}, {MAX_START_FAILURES} in a row)", INCOMPLETE)
        slot.close()
        if not self.failure:
            self.slots[slot.number] = self._start_child(slot.number)

    def stop_child(self, slot: WarmSlot, signum: int = signal.SIGKILL) -> None:
        """Kill the slot's child, or ask it to end; its death will be heard of. It gets nothing more to do."""
        slot.is_stopping = True
        self._fork_server.send_signal(slot.number, signum)

    def close(self) -> None:
        """Kill all children and wait until they and the nursery are gone. May be called twice."""
        if not self.is_closed:
            self._poll.close()
            self._fork_server.close()
            for slot in self.slots:
                slot.close()

    def _read_deaths(self) -> list[tuple[WarmSlot, int]]:
        """The nursery has said something."""
        reports, alive = self._fork_server.read_events()
        for report in reports:
            if report.kind == LOAD_FAILED:
                self._fail(report.text, USAGE)
        if not alive:
            self._poll.unregister(self._fork_server)
            self._fail("the process that starts the warm children has died", INCOMPLETE)
        return [(self.slots[report.slot], report.value) for report in reports if report.kind == EXITED]

    def _start_child(self, number: int) -> WarmSlot:
        """A slot whose child is on its way."""
        slot = WarmSlot(number, self._call)
        self._poll.register(slot.channel, select.EPOLLIN)
        self._fork_server.spawn(number, slot.child_end, slot.shared_batches)
        slot.child_end.close()
        return slot

    def _fail(self, reason: str, exit_code: int) -> None:
        """No task can run here any more; the first reason counts."""
        self.failure = self.failure or ExecutorFailed(reason, exit_code)
